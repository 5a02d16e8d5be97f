"""Solvers: deterministic, high accuracy, with a certificate of what they found."""

from feasible.solve import exact, minimization, search, suggestion
from feasible.solve.exact import *
from feasible.solve.minimization import *
from feasible.solve.search import *
from feasible.solve.suggestion import *

# Each package names what it offers; nothing has to be repeated here.
__all__ = [
    *exact.__all__,
    *minimization.__all__,
    *search.__all__,
    *suggestion.__all__,
]
