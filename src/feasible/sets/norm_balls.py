"""Balls of the norms with corners: the sum and the maximum of the absolute values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from feasible.sets.bounds import clamp
from feasible.sets.charts import Chart
from feasible.sets.elementwise import Box, log_barrier
from feasible.sets.precision import roundoff, uniform, wide
from feasible.sets.simplex import _above_threshold, _tangent_rows, finite_number
from feasible.sets.units import Vectors, along, is_differentiated

__all__ = ["L1Ball", "LInfBall"]


class _NormBall(Vectors):
    """What both balls share: a radius, and nothing inside a ball of radius 0."""

    radius: float

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        radius = finite_number(name, "radius", self.radius)
        if radius < 0:
            raise ValueError(f"{name} is empty: radius must be ≥ 0, got {radius:g}.")
        object.__setattr__(self, "radius", radius)

    @property
    def size(self) -> float:
        """The radius."""
        return self.radius

    def offers(self, capability: str) -> bool:
        """A ball of radius 0 is a point: no interior, no chart."""
        if capability in ("slack", "barrier", "interior", "chart"):
            return self.radius > 0 and super().offers(capability)
        return super().offers(capability)

    def _centre(self, x: Tensor) -> Tensor:
        """The only point of a ball of radius 0."""
        return torch.where(x.isnan(), x, torch.zeros_like(x))

    def _needs_room(self, what: str, capability: str) -> None:
        if not self.offers(capability):
            raise self._lacks(what, "it is a single point")


@final
@dataclass(frozen=True, eq=False, repr=False)
class L1Ball(_NormBall):
    """Vectors whose absolute values sum to at most a given radius.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``Σ|p| ≤ radius`` along ``dim``:
    ``sign(x) · max(|x| − τ, 0)`` with the threshold τ ≥ 0 that makes the sum right.

    Args:
        radius: the largest sum of absolute values, ≥ 0.
        dim: the dimension that holds one vector; all others are batches. ``None``: the whole tensor.

    Raises:
        ValueError: ``radius`` is negative or not finite.

    >>> L1Ball(1.0).project(torch.tensor([[2.0, -1.5], [0.25, -0.5]]))
    tensor([[ 0.7500, -0.2500],
            [ 0.2500, -0.5000]])

    Source: Condat, *Fast projection onto the simplex and the l1 ball*, Math. Program. 158 (2016).
    """

    radius: float
    dim: int | None = -1

    def project(self, x: Tensor) -> Tensor:
        """``sign(x) · max(|x| − τ, 0)``; vectors inside keep their bits."""
        return along(self.dim, x, self._project_rows)

    def _project_rows(self, x: Tensor) -> Tensor:
        if x.numel() == 0:
            return x.clone()
        if self.radius == 0:
            return self._centre(x)
        work = wide(x)
        magnitude = work.detach().abs()
        norm = magnitude.sum(-1, keepdim=True)
        shortened = torch.copysign(_above_threshold(magnitude, self.radius), work.detach())
        if is_differentiated(x):
            movement = _without_common_part(work, shortened.sign())
            shortened = shortened + (movement - movement.detach())
        return torch.where(norm <= self._limit(x.dtype), x, shortened.to(x.dtype))

    def _limit(self, dtype: torch.dtype) -> float:
        return self.radius + self.tolerance(dtype)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether the absolute values of each vector sum to at most the radius, up to rounding."""
        return wide(self.rows(x)).abs().sum(-1) <= self._limit(x.dtype)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Uniform in the ball: signed exponential variables over their sum and one more."""
        self.check_shape(torch.Size(shape))
        away = -torch.log1p(-uniform(shape, generator))
        rows = self.rows(away)
        rest = -torch.log1p(-uniform(rows.shape[:-1], generator))
        points = self.radius * rows / (rows.sum(-1) + rest).unsqueeze(-1)
        sign = 2 * (uniform(shape, generator) < 0.5).to(points.dtype) - 1
        return self.project(self.from_rows(points, away) * sign)

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """``radius − Σ|x|``."""
        self._needs_room("slack functions", "slack")
        return ((self.radius - wide(self.rows(x)).abs().sum(-1)).to(x.dtype),)

    def barrier(self, x: Tensor) -> Tensor:
        """``−log(radius − Σ|x|)``, per vector."""
        return log_barrier(self.slack(x)[0])

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """Nearest vectors whose slack is ``margin``; the centre where no slack is that large."""
        self._needs_room("interior", "interior")
        most = self.radius * (1 - 2 * roundoff(x.dtype))  # some slack survives rounding
        return L1Ball(min(max(self.radius - margin, 0.0), most), self.dim).project(x)

    def support(self, y: Tensor) -> Tensor:
        """``radius · max|y|``."""
        rows = self.rows(y)
        return self.radius * (rows.abs().amax(-1) if rows.shape[-1] else rows.sum(-1))

    def lmo(self, gradient: Tensor) -> Tensor:
        """The whole radius against the entry with the largest gradient (the first of several)."""
        return along(self.dim, gradient, self._vertex)

    def _vertex(self, gradient: Tensor) -> Tensor:
        if gradient.numel() == 0:
            return gradient.clone()
        steepest = gradient.abs().argmax(-1, keepdim=True)
        vertex = torch.zeros_like(gradient).scatter(
            -1, steepest, -self.radius * gradient.sign().gather(-1, steepest)
        )
        return torch.where(
            gradient.isnan().any(-1, keepdim=True), torch.full_like(gradient, torch.nan), vertex
        )

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction, without what would lengthen the vector at the boundary."""
        if self.radius == 0:
            return torch.zeros_like(direction)
        rows, moves = wide(self.rows(x)), wide(self.rows(direction))
        sign = torch.where(rows == 0, moves, rows).sign()
        outward = sign * moves
        is_outward = outward.sum(-1, keepdim=True) > 0
        norm = rows.abs().sum(-1, keepdim=True)
        at_boundary = norm >= self.radius - self.tolerance(x.dtype)
        along_face = sign * _tangent_rows(rows.abs(), outward)
        return self.from_rows(torch.where(at_boundary & is_outward, along_face, moves), x).to(direction.dtype)


def _without_common_part(x: Tensor, sign: Tensor) -> Tensor:
    """The derivative of the projection, applied to x: the entries off 0 lose the mean of their outward parts."""
    outward = (sign * x).sum(-1, keepdim=True) / sign.abs().sum(-1, keepdim=True).clamp_min(1)
    return sign * (sign * x - outward)


@final
@dataclass(frozen=True, eq=False, repr=False)
class LInfBall(_NormBall):
    """Vectors none of whose entries exceeds a given magnitude.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``max|p| ≤ radius`` along ``dim``:
    ``min(max(x, −radius), radius)``. It differs from ``Box(-radius, radius)`` in what it counts: vectors.

    Args:
        radius: the largest magnitude, ≥ 0.
        dim: the dimension that holds one vector; all others are batches. ``None``: the whole tensor.

    Raises:
        ValueError: ``radius`` is negative or not finite.

    >>> LInfBall(1.0).project(torch.tensor([3.0, -0.5]))
    tensor([ 1.0000, -0.5000])
    """

    radius: float
    dim: int | None = -1
    exact = True

    @cached_property
    def _box(self) -> Box:
        return Box(-self.radius, self.radius)

    def project(self, x: Tensor) -> Tensor:
        """``min(max(x, −radius), radius)``, entry by entry."""
        return clamp(x, -self.radius, self.radius) if self.radius > 0 else self._centre(x)

    def project_all_(self, tensors: Sequence[Tensor]) -> None:
        """As the box of this width."""
        self._box.project_all_(tensors)

    def reduce_gradients_(self, points: Sequence[Tensor], gradients: Sequence[Tensor], t: float) -> None:
        """As the box of this width."""
        self._box.reduce_gradients_(points, gradients, t)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether no entry of the vector exceeds the radius."""
        rows = self.rows(x)
        return (rows == clamp(rows, -self.radius, self.radius)).all(-1)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Uniform in the ball."""
        self.check_shape(torch.Size(shape))
        return self._box.sample(shape, generator)

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """``x + radius`` and ``radius − x``, for each entry."""
        self._needs_room("slack functions", "slack")
        return self._box.slack(x)

    def barrier(self, x: Tensor) -> Tensor:
        """``−Σ log(radius − x) − Σ log(radius + x)``, per vector."""
        self._needs_room("barrier", "barrier")
        return self.sum_units(self._box.barrier(x))

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """Entries moved to at least ``margin`` from ±radius, or to 0 where none is that far."""
        self._needs_room("interior", "interior")
        return self._box.interior(x, margin)

    def chart(self, kind: str | None = None) -> Chart:
        """``"sigmoid"`` (default), ``"tanh"`` or ``"sine"``, entry by entry."""
        self._needs_room("chart", "chart")
        return self._box.chart(kind)

    def support(self, y: Tensor) -> Tensor:
        """``radius · Σ|y|``."""
        return (self.radius * wide(self.rows(y)).abs().sum(-1)).to(y.dtype)

    def lmo(self, gradient: Tensor) -> Tensor:
        """``−radius`` where the gradient is positive, else ``radius``."""
        return self._box.lmo(gradient)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction, without what would lead out of the ball."""
        return torch.zeros_like(direction) if self.radius == 0 else self._box.tangent(x, direction)
