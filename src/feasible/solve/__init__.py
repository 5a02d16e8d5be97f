"""Solvers: deterministic, high accuracy, with a certificate of what they found."""

from typing import TYPE_CHECKING

from feasible.solve import exact, minimization, projection, search, suggestion
from feasible.solve.exact import *
from feasible.solve.minimization import *
from feasible.solve.projection import *
from feasible.solve.search import *
from feasible.solve.suggestion import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        *exact.__all__,
        *minimization.__all__,
        *projection.__all__,
        *search.__all__,
        *suggestion.__all__,
    ]
