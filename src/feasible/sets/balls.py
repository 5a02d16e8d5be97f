"""Norm balls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.sets.charts import BallChart, Chart
from feasible.sets.elementwise import log_barrier
from feasible.sets.precision import roundoff, wide, widest
from feasible.sets.simplex import check_kind, finite_number
from feasible.sets.units import Vectors, precise_norm, vector_norm, vector_sum

__all__ = ["L2Ball"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class L2Ball(Vectors):
    """Vectors of at most a given Euclidean norm.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``‖p‖ ≤ radius`` along ``dim``: x, shortened if it is longer.

    Args:
        radius: the largest norm, ≥ 0.
        dim: the dimension that holds one vector; all others are batches. ``None``: the whole tensor.

    Raises:
        ValueError: ``radius`` is negative or not finite.

    >>> L2Ball(1.0).project(torch.tensor([[3.0, 4.0], [0.3, 0.4]]))
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """

    radius: float
    dim: int | None = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        radius = finite_number("L2Ball", "radius", self.radius)
        if radius < 0:
            raise ValueError(f"L2Ball is empty: radius must be ≥ 0, got {radius:g}.")
        object.__setattr__(self, "radius", radius)

    @property
    def size(self) -> float:
        """The radius."""
        return self.radius

    def project(self, x: Tensor) -> Tensor:
        """``x · min(1, radius/‖x‖)``; vectors inside keep their bits."""
        if self.radius == 0:
            return x * 0
        norm = precise_norm(x, self.dim, keepdim=True)
        outside = norm > self._limit(x.dtype)
        # A vector at 0 has no direction, but it is inside: give the unused branch a finite derivative.
        shortened = _scaled(x, self.radius / torch.where(outside, norm, torch.ones_like(norm)))
        return torch.where(norm.isnan(), norm.to(x.dtype), torch.where(outside, shortened, x))

    def _limit(self, dtype: torch.dtype) -> float:
        return self.radius + self.tolerance(dtype)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each norm is at most the radius, up to rounding."""
        return precise_norm(x, self.dim) <= self._limit(x.dtype)

    def offers(self, capability: str) -> bool:
        """A ball of radius 0 is a point: no interior, no chart."""
        if capability in ("slack", "barrier", "interior", "chart"):
            return self.radius > 0
        return super().offers(capability)

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """``(radius² − ‖x‖²) / (2 radius)``: concave, and the distance to the boundary close to it."""
        if not self.offers("slack"):
            raise self._lacks("slack functions", "it is a single point")
        square = vector_sum(wide(x) * (wide(x) / self.radius), self.dim)
        return (((self.radius - square) / 2).to(x.dtype),)

    def barrier(self, x: Tensor) -> Tensor:
        """``−log((radius² − ‖x‖²) / (2 radius))``, per vector."""
        return log_barrier(self.slack(x)[0])

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """Vectors shortened until the slack is ``margin``; the centre where no slack is that large."""
        if not self.offers("interior"):
            raise self._lacks("interior", "it is a single point")
        most = self.radius * (1 - roundoff(x.dtype))  # some slack survives rounding, however small the margin
        inner = min(math.sqrt(max(self.radius * (self.radius - 2 * margin), 0.0)), most)
        norm = precise_norm(x, self.dim, keepdim=True)
        outside = norm > inner
        return torch.where(outside, _scaled(x, inner / torch.where(outside, norm, torch.ones_like(norm))), x)

    def chart(self, kind: str | None = None) -> Chart:
        """``"radial"``: ``radius · z / √(radius² + ‖z‖²)``."""
        if not self.offers("chart"):
            raise self._lacks("chart", "it is a single point")
        check_kind(self, kind, ("radial",))
        return BallChart(self.radius, self.dim)

    def support(self, y: Tensor) -> Tensor:
        """``radius · ‖y‖``."""
        return self.radius * vector_norm(y, self.dim)

    def lmo(self, gradient: Tensor) -> Tensor:
        """``−radius · gradient/‖gradient‖``; 0 where the gradient is 0."""
        return (_unit(gradient, self.dim) * -self.radius).to(gradient.dtype)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction, without what leads outwards at the boundary."""
        if self.radius == 0:
            return torch.zeros_like(direction)
        normal = _unit(x, self.dim)
        outward = (normal * direction).sum(self.dim, keepdim=True)
        at_boundary = precise_norm(x, self.dim, keepdim=True) >= self.radius - self.tolerance(x.dtype)
        inward = (direction - outward.clamp_min(0) * normal).to(direction.dtype)
        return torch.where(at_boundary, inward, direction)


def _unit(x: Tensor, dim: int | None) -> Tensor:
    """``x/‖x‖``, or 0, in float64 where the device has it."""
    norm = precise_norm(x, dim, keepdim=True)
    return widest(x) / torch.where(norm == 0, torch.ones_like(norm), norm)


def _scaled(x: Tensor, factor: Tensor) -> Tensor:
    """``x · factor`` in the dtype of x, rounded once."""
    work = wide(x)
    return (work * factor.to(work.dtype)).to(x.dtype)
