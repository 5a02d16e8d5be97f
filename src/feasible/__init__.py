"""Train neural networks under constraints: which set, on what, by which method, and the proof."""

from typing import TYPE_CHECKING

from feasible import export as export
from feasible import methods as methods
from feasible import optim as optim
from feasible import pde as pde
from feasible import rates as rates
from feasible import schedules as schedules
from feasible import sets as sets
from feasible import solve as solve
from feasible.errors import UnsupportedError as UnsupportedError
from feasible.export import *
from feasible.methods import *
from feasible.methods.lookup import closest as _closest
from feasible.methods.matrix import matrix as matrix
from feasible.problem import Problem as Problem
from feasible.report import Report as Report
from feasible.sets import *
from feasible.solve import *
from feasible.surrogate import Surrogate as Surrogate

__version__ = "0.1.0"

# Each file names what it offers. Type checkers follow star imports and `x as x`, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        "Problem",
        "Report",
        "Surrogate",
        "UnsupportedError",
        "matrix",
        "methods",
        "optim",
        "pde",
        "rates",
        "schedules",
        "sets",
        *export.__all__,
        *methods.__all__,
        *sets.__all__,
        *solve.__all__,
    ]

    def __getattr__(name: str) -> object:
        raise AttributeError(f"feasible has no attribute {name!r}.{_closest(name, __all__)}")
