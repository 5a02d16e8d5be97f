"""Train neural networks under constraints: which set, on what, by which method, and the proof."""

from feasible.errors import UnsupportedError
from feasible.sets import Box, Equal, Frozen, L2Ball, NonNegative, Set, Simplex, SumTo

__all__ = ["Box", "Equal", "Frozen", "L2Ball", "NonNegative", "Set", "Simplex", "SumTo", "UnsupportedError"]
