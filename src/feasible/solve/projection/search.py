"""The parameters on their way to the constraints: evaluated, linearised, and kept where they are best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from feasible.optim.least_squares import Products
from feasible.optim.parts import ProductsOfParts
from feasible.optim.randomness import Replay
from feasible.solve.projection.conditions import Conditions, Requirement, Values, joined
from feasible.solve.projection.linearised import Differentiation
from feasible.solve.projection.nearest import TIGHT, Linearised, Metric
from feasible.solve.projection.outputs import overheard
from feasible.solve.projection.weights import Weights

COARSE = 1e-2
"""Where outputs bend, directions that they see less than this share of the largest are left alone at first."""
AFFINE = 1e-10
"""The same for any dtype."""


@dataclass(frozen=True)
class Point:
    """Parameters, as they are after rounding, and how they fare."""

    x: Tensor
    values: Values
    move: float
    """Half the squared move in the metric."""
    outputs: Tensor | None
    """What the model put out while the constraints looked at it."""


class Search:
    """What all ways to the constraints share.

    Args:
        weights: the parameters.
        conditions: the constraints.
        outputs: what the metric measures, flat; ``None``: the parameters themselves.
        targets: what the outputs are drawn to; ``None``: what they are now.
        replay: makes every evaluation draw the same random numbers.
        tol: the largest distance that counts as none.
        rcond: share of the largest singular value below which directions are not solved for; ``None``: by the case.
    """

    def __init__(
        self,
        weights: Weights,
        conditions: Conditions,
        outputs: Callable[[], Tensor] | None,
        targets: Tensor | None,
        replay: Replay,
        tol: float,
        rcond: float | None,
    ) -> None:
        self.weights, self.conditions, self.replay = weights, conditions, replay
        self.tol, self.rcond = tol, rcond
        self.slack = max(AFFINE, 1e3 * torch.finfo(weights.dtype).eps)
        """Relative bend of a value below which it counts as affine."""
        self._outputs = outputs
        self.coarseness = COARSE
        """Share of the largest singular value below which bent outputs are not asked."""
        self.is_affine_everywhere = False
        """Whether values and outputs have been seen to be affine in the parameters."""
        self.is_constant = False
        """Whether slopes are known to be the same everywhere: the rows are affine in the parameters."""
        self._constant: Linearised | None = None
        self.evaluations = self.differentiations = 0
        self._rows = Differentiation(self._row_values, weights)
        self._seen = Differentiation(self._output_values, weights)
        self.reference: Tensor | None = None
        if outputs is not None:
            self.reference = self._output_values().detach().double() if targets is None else targets
        self.start = self.evaluate(weights.start)

    # -- evaluation --------------------------------------------------------------------------------

    def _row_values(self) -> Tensor:
        with self.replay:
            return self.conditions.rows(self.conditions.values())

    def rows_of(self, requirement: Requirement) -> Callable[[], Tensor]:
        """The rows of one constraint alone, as a function of the present parameters."""

        def rows() -> Tensor:
            with self.replay:
                return joined(requirement.seen(requirement.value()), self.weights.device)

        return rows

    def _output_values(self) -> Tensor:
        assert self._outputs is not None
        with self.replay:
            return self._outputs()

    def values(self) -> list[Tensor]:
        """The constraints' values at the present parameters."""
        self.evaluations += 1
        with self.replay:
            return self.conditions.seen()

    def evaluate(self, x: Tensor) -> Point:
        """Write parameters and look."""
        self.weights.write(x)
        x = self.weights.read()
        with overheard(self.weights.model) as heard:
            values = self.conditions.distances(self.values())
        return Point(x, values, self._move(x), torch.cat(heard) if heard else None)

    def _move(self, x: Tensor) -> float:
        if self.reference is None:
            return float((x - self.weights.start).square().sum()) / 2
        return float((self._output_values().detach().double() - self.reference).square().sum()) / 2

    def is_feasible(self, point: Point) -> bool:
        """Whether all constraints hold within the tolerance."""
        return point.values.largest <= self.tol

    # -- linearisation -----------------------------------------------------------------------------

    def rows_at(self, point: Point) -> Linearised:
        """The rows, linearised around a point."""
        self.weights.write(point.x)
        if self._constant is not None:
            return self._constant.at(self._row_values().detach())
        self.differentiations += 1
        self.conditions.cut(self.values())
        rows, jacobian = self._rows.matrix()
        check_finite(jacobian)
        linear = Linearised(rows, jacobian, *self.conditions.bounds())
        if self.is_constant:
            self._constant = linear
        return linear

    def linearise(self, point: Point) -> tuple[Linearised, Metric | None]:
        """The same, and what a move from there costs where outputs are the metric."""
        linear = self.rows_at(point)
        if self.reference is None:
            return linear, None
        outputs, jacobian = self._seen.matrix()
        own = 8 * torch.finfo(self.weights.dtype).eps
        rcond = max(TIGHT, own) if self.is_affine_everywhere else self.coarseness
        return linear, Metric(jacobian, outputs - self.reference, rcond)

    def products(self, tolerance: float, rounds: int) -> Products:
        """The rows' Jacobian at the present parameters, by its products; of several constraints one at a time."""
        requirements = self.conditions.requirements
        if len(requirements) == 1:
            return self._rows.products(tolerance, rounds)
        parts = [self.rows_of(requirement) for requirement in requirements]
        rows = torch.cat([part().detach() for part in parts])
        return ProductsOfParts(parts, rows, None, self.weights.leaves, tolerance, rounds)

    def mean_square(self) -> Tensor:
        """The mean of the squared residuals, with its graph."""
        with self.replay:
            values = self.conditions.values()
        residuals = [
            (value - requirement.set.project(value.detach())).reshape(-1)
            for requirement, value in zip(self.conditions.requirements, values, strict=True)
        ]
        return torch.cat(residuals).square().mean()

    def is_affine(self) -> bool:
        """Whether values, and the outputs of the metric, are affine in the parameters: two steps there and back."""
        start = self.weights.start
        first, second = self.probes(2)
        for steps in ((-first, 0 * first, first), (0 * second, second, 2 * second)):
            before, here, after = (self._everything(start + step) for step in steps)
            size_of_values = torch.stack([before, here, after]).abs().amax()
            bend = (before + after - 2 * here).abs().amax()
            if not bool(bend <= self.slack * size_of_values):
                return False
        return True

    def probes(self, count: int) -> list[Tensor]:
        """Random moves about as long as the parameters; the same ones in every call."""
        start = self.weights.start
        generator = torch.Generator().manual_seed(0)
        size = float(torch.linalg.vector_norm(start)) / math.sqrt(max(len(start), 1)) or 1.0
        return [
            size * torch.randn(len(start), generator=generator, dtype=torch.float64).to(start)
            for _ in range(count)
        ]

    def _everything(self, x: Tensor) -> Tensor:
        self.weights.write(x)
        x = self.weights.read()
        parts = [value.reshape(-1) for value in self.values()]
        if self.reference is not None:
            parts.append(self._output_values().detach().double())
        return torch.cat(parts)


def check_finite(jacobian: Tensor) -> None:
    """Raise ``ValueError`` where slopes are not finite."""
    if not bool(jacobian.isfinite().all()):
        raise ValueError(
            "project_parameters: a constraint's gradient is not finite at the present parameters.\n"
            "  Look for sqrt, norm or division at 0 in the constraints."
        )
