"""Train neural networks under constraints: which set, on what, by which method, and the proof."""

from feasible import schedules
from feasible.errors import UnsupportedError
from feasible.methods import (
    AugmentedLagrangian,
    Barrier,
    Lagrangian,
    Method,
    Penalty,
    Project,
    Reparametrize,
    SquaredSlack,
)
from feasible.problem import Problem
from feasible.report import Report
from feasible.sets import Box, Equal, Frozen, L2Ball, NonNegative, Set, Simplex, SumTo

__version__ = "0.1.0"

__all__ = [
    "AugmentedLagrangian",
    "Barrier",
    "Box",
    "Equal",
    "Frozen",
    "L2Ball",
    "Lagrangian",
    "Method",
    "NonNegative",
    "Penalty",
    "Problem",
    "Project",
    "Reparametrize",
    "Report",
    "Set",
    "Simplex",
    "SquaredSlack",
    "SumTo",
    "UnsupportedError",
    "schedules",
]
