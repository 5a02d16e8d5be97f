"""An equation on a domain with its conditions: all rows in units of one, and a diagnosis before any training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from feasible.pde.conditions import Condition, OnPart
from feasible.pde.diagnosis import Diagnosis, diagnosis
from feasible.pde.domains import Domain
from feasible.pde.equations import Equation
from feasible.pde.samplers import sobol

__all__ = ["System"]

Model = Callable[..., Tensor]


@final
class System:
    """Rows of an equation and its conditions, each block divided by the root of its length.

    ``system(model)`` is one vector r whose ``‖r‖²`` is the sum of the blocks' mean squares: hand it to
    ``optim.LevenbergMarquardt`` as a residual, to ``minimize`` or ``problem.require`` as an equality constraint.

    Args:
        equation: what holds inside.
        domain: where.
        conditions: what is known beside it.
        points: collocation points, (n, dim), or their number (Sobol).
        inputs: further inputs at the collocation points, one row for each; conditions then must say their own.
        weights: of the mean squares, one for the equation and one for each condition; ``None``: 1.
        dtype: of points that are made here.

    Raises:
        ValueError: points lie outside, or weights do not fit.

    >>> from feasible import pde
    >>> line = pde.Interval(0, 1)
    >>> ends = [pde.Dirichlet(line, "left", 0.0), pde.Dirichlet(line, "right", 1.0)]
    >>> system = System(pde.Poisson(), line, ends, points=50)
    >>> float(system(lambda x: x).abs().max()) < 1e-6, system.diagnose(warn=False).findings
    (True, ())
    """

    def __init__(
        self,
        equation: Equation,
        domain: Domain,
        conditions: Sequence[Condition] = (),
        points: Tensor | int = 256,
        inputs: Sequence[Any] = (),
        weights: Sequence[float] | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.equation, self.domain, self.conditions = equation, domain, tuple(conditions)
        self.points = (
            sobol(domain, points, dtype=dtype) if isinstance(points, int) else domain.require(points)
        )
        """The collocation points; assign others to resample."""
        self.inputs = tuple(inputs)
        equation.wanted(domain.dim)
        for condition in self.conditions:
            if isinstance(condition, OnPart) and condition.domain != domain:
                raise ValueError(f"System: {condition.name} belongs to {condition.domain}, not to {domain}.")
        blocks = 1 + len(self.conditions)
        self.weights = [1.0] * blocks if weights is None else list(weights)
        if len(self.weights) != blocks or not all(0 <= w < math.inf for w in self.weights):
            raise ValueError(f"System: expected {blocks} weights ≥ 0, got {self.weights}.")

    def __repr__(self) -> str:
        known = ", ".join(condition.name for condition in self.conditions) or "no conditions"
        return f"System({self.equation.name} on {self.domain}; {known}; {len(self.points)} points)"

    def __call__(self, model: Model) -> Tensor:
        """All rows as one vector."""
        return torch.cat(
            [
                math.sqrt(weight / max(rows.numel(), 1)) * rows.reshape(-1)
                for weight, rows in zip(self.weights, self.blocks(model), strict=True)
            ]
        )

    def blocks(self, model: Model) -> list[Tensor]:
        """The rows of the equation and of each condition, nondimensional, (n, equations) each."""
        inside = self.equation(model, self.points, *self.inputs)
        like = self.points
        return [inside, *(each.residual(model, each.points(like)) for each in self.conditions)]

    def diagnose(self, tol: float = 1e-3, seed: int = 0, warn: bool = True) -> Diagnosis:
        """What is wrong with the problem itself, whatever the network.

        Constants are put in: a system that one of them solves is solved by it long before a network has learned
        anything. For linear equations the rows are applied to a basis of smooth functions (random features,
        orthonormal on the domain): their singular values tell functions that no row sees (missing conditions, or
        resonance), conditions that the others imply, and conditions that contradict each other.

        Args:
            tol: a function of size 1 whose rows are smaller than this, all together, counts as not seen.
            seed: of the features.
            warn: whether findings are warnings, too.

        Returns:
            Findings in sentences, with the numbers behind them.
        """
        found = diagnosis(self.equation, self.domain, self.conditions, self.inputs, tol, seed)
        if warn:
            for sentence in found.findings:
                warnings.warn(f"{self}: {sentence}", stacklevel=2)
        return found
