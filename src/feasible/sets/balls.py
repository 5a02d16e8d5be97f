"""Norm balls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.sets.charts import BallChart, Chart
from feasible.sets.elementwise import log_barrier
from feasible.sets.simplex import check_kind, finite_number
from feasible.sets.units import Vectors, vector_norm

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
        norm = vector_norm(x, self.dim, keepdim=True)
        outside = norm > self._limit(x.dtype)
        # A vector at 0 has no direction, but it is inside: give the unused branch a finite derivative.
        length = torch.where(outside, norm, torch.ones_like(norm))
        shortened = x * (self.radius / length)
        return torch.where(norm.isnan(), norm, torch.where(outside, shortened, x))

    def _limit(self, dtype: torch.dtype) -> float:
        return self.radius + self.tolerance(dtype)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each norm is at most the radius, up to rounding."""
        return vector_norm(x, self.dim) <= self._limit(x.dtype)

    def offers(self, capability: str) -> bool:
        """A ball of radius 0 is a point: no interior, no chart."""
        if capability in ("slack", "barrier", "interior", "chart"):
            return self.radius > 0
        return super().offers(capability)

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """``(radius² − ‖x‖²) / (2 radius)``: concave, and the distance to the boundary close to it."""
        if not self.offers("slack"):
            raise self._lacks("slack functions", "it is a single point")
        norm = vector_norm(x, self.dim)
        return ((self.radius - norm) * (self.radius + norm) / (2 * self.radius),)

    def barrier(self, x: Tensor) -> Tensor:
        """``−log((radius² − ‖x‖²) / (2 radius))``, per vector."""
        return log_barrier(self.slack(x)[0])

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """Vectors shortened to ``radius − margin`` (at least to half the radius)."""
        if not self.offers("interior"):
            raise self._lacks("interior", "it is a single point")
        inner = self.radius - min(margin, self.radius / 2)
        norm = vector_norm(x, self.dim, keepdim=True)
        length = torch.where(norm > inner, norm, torch.ones_like(norm))
        return torch.where(norm > inner, x * (inner / length), x)

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
        norm = vector_norm(gradient, self.dim, keepdim=True)
        length = torch.where(norm == 0, torch.ones_like(norm), norm)
        return gradient * (-self.radius / length)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction, without what leads outwards at the boundary."""
        norm = vector_norm(x, self.dim, keepdim=True)
        normal = x / torch.where(norm == 0, torch.ones_like(norm), norm)
        outward = (
            (normal * direction).sum()
            if self.dim is None
            else (normal * direction).sum(self.dim, keepdim=True)
        )
        at_boundary = norm >= self.radius - self.tolerance(x.dtype)
        if self.radius == 0:
            return torch.zeros_like(direction)
        return torch.where(at_boundary, direction - outward.clamp_min(0) * normal, direction)
