"""Derivatives of models by their inputs: many of them in one forward pass."""

from feasible.pde.differentiation.entry import Derivatives, derivatives
from feasible.pde.differentiation.entry import Wanted as Wanted
from feasible.pde.differentiation.entry import check_points as check_points

__all__ = ["Derivatives", "derivatives"]
