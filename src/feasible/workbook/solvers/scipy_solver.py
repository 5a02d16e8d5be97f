"""The solvers of scipy, for comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.sets import Box, NonNegative, Set, Sphere
from feasible.workbook.solvers.solver import Solution, Solver
from feasible.workbook.tasks.task import Record, Requirement

__all__ = ["Scipy"]


@final
@dataclass(frozen=True)
class Scipy(Solver):
    """``scipy.optimize.minimize`` with the gradients of torch.

    Args:
        method: ``"SLSQP"``, ``"L-BFGS-B"``, ``"trust-constr"``, …
        tol: of its own stopping rule.

    Raises:
        UnsupportedError: a requirement is neither bounds nor a sphere.
    """

    method: str = "SLSQP"
    tol: float = 1e-10

    def solve(self, record: Record, evaluations: int) -> Solution:
        """Its status is scipy's message."""
        import scipy.optimize

        task = record.task

        def value_and_gradient(x: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
            point = torch.tensor(x, dtype=torch.float64, requires_grad=True)
            value = record.objective(point)
            (gradient,) = torch.autograd.grad(value, point)
            return float(value.detach()), gradient.numpy()

        found = scipy.optimize.minimize(
            value_and_gradient,
            task.start.numpy(),
            jac=True,
            method=self.method,
            tol=self.tol,
            options={"maxiter": evaluations},
            **_described(task.requirements),
        )
        return Solution(torch.from_numpy(found.x), " ".join(str(found.message).lower().split()))


def _described(requirements: Any) -> dict[str, Any]:
    """Bounds and equations as scipy's arguments."""
    arguments: dict[str, Any] = {}
    for requirement in requirements:
        bounds = _bounds(requirement)
        if bounds is not None:
            arguments["bounds"] = bounds
        else:
            arguments.setdefault("constraints", []).append(_sphere(requirement))
    return arguments


def _bounds(requirement: Requirement) -> Any:
    from scipy.optimize import Bounds

    set: Set = requirement.set
    if requirement.function is None and isinstance(set, NonNegative):
        return Bounds(0.0, np.inf)
    if requirement.function is None and isinstance(set, Box):
        lower, upper = set.bounds
        return Bounds(-np.inf if lower is None else lower, np.inf if upper is None else upper)
    return None


def _sphere(requirement: Requirement) -> dict[str, Any]:
    set = requirement.set
    if requirement.function is not None or not isinstance(set, Sphere):
        raise UnsupportedError(f"scipy is given bounds and spheres only, not {requirement.name}: {set!r}.")
    radius: Tensor | float = set.radius
    constraint: Callable[[np.ndarray[Any, Any]], float] = lambda x: float(x @ x) - float(radius) ** 2  # noqa: E731
    return {"type": "eq", "fun": constraint, "jac": lambda x: 2 * x}
