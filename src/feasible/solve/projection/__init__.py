"""The least move of a model's parameters that satisfies constraints."""

from feasible.solve.projection.entry import project_parameters, projected_parameters
from feasible.solve.projection.result import ProjectionResult

__all__ = ["ProjectionResult", "project_parameters", "projected_parameters"]
