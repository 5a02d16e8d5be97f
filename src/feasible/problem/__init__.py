"""Problem: binds a model, sets and methods, and rides along in the user's training loop."""

from feasible.problem.constraint import Handle
from feasible.problem.problem import Problem

__all__ = ["Handle", "Problem"]
