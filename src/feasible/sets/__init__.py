"""What is allowed: small immutable sets, each a handful of pure functions on tensors."""

from feasible.sets.algebra import Flatten, Intersection, Where
from feasible.sets.balls import L2Ball
from feasible.sets.elementwise import Box, Equal, Frozen, NonNegative
from feasible.sets.set import Set
from feasible.sets.simplex import Simplex, SumTo

__all__ = [
    "Box",
    "Equal",
    "Flatten",
    "Frozen",
    "Intersection",
    "L2Ball",
    "NonNegative",
    "Set",
    "Simplex",
    "SumTo",
    "Where",
]
