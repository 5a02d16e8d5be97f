"""Solvers: deterministic, high accuracy, with a certificate of what they found."""

from feasible.solve import search
from feasible.solve.search import *

# Each package names what it offers; nothing has to be repeated here.
__all__ = [
    *search.__all__,
]
