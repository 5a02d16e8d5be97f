"""Deterministic constrained minimisation to high accuracy, with a certificate."""

from feasible.solve.minimization.entry import minimize
from feasible.solve.minimization.result import KKT, Intermediate, Result, Status

__all__ = ["KKT", "Intermediate", "Result", "Status", "minimize"]
