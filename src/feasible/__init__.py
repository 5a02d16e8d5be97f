"""Train neural networks under constraints: which set, on what, by which method, and the proof."""

from feasible import methods, rates, schedules, sets
from feasible.errors import UnsupportedError
from feasible.methods import *
from feasible.methods.matrix import matrix
from feasible.problem import Problem
from feasible.report import Report
from feasible.sets import *
from feasible.surrogate import Surrogate

__version__ = "0.1.0"

__all__ = [
    "Problem",
    "Report",
    "Surrogate",
    "UnsupportedError",
    "matrix",
    "methods",
    "rates",
    "schedules",
    "sets",
    *methods.__all__,
    *sets.__all__,
]
