"""Train neural networks under constraints: which set, on what, by which method, and the proof."""

from feasible import export, methods, optim, rates, schedules, sets, solve
from feasible.errors import UnsupportedError
from feasible.export import *
from feasible.methods import *
from feasible.methods.matrix import matrix
from feasible.problem import Problem
from feasible.report import Report
from feasible.sets import *
from feasible.solve import *
from feasible.surrogate import Surrogate

__version__ = "0.1.0"

__all__ = [
    "Problem",
    "Report",
    "Surrogate",
    "UnsupportedError",
    "matrix",
    "methods",
    "optim",
    "rates",
    "schedules",
    "sets",
    *export.__all__,
    *methods.__all__,
    *sets.__all__,
    *solve.__all__,
]
