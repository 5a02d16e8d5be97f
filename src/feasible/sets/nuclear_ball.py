"""Matrices with a bounded sum of singular values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.sets.charts import Chart
from feasible.sets.elementwise import log_barrier
from feasible.sets.matrices import on_finite
from feasible.sets.precision import roundoff, uniform
from feasible.sets.simplex import Simplex, check_kind
from feasible.sets.singular import NormBall, checked_radius, split_by_span
from feasible.sets.spectra import allowed_error, from_singular, singular_curvature, singular_derivative, svd
from feasible.sets.spectral_charts import NuclearChart
from feasible.sets.spectral_values import singular_values

__all__ = ["NuclearBall"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class NuclearBall(NormBall):
    """Matrices with a bounded sum of singular values: the convex stand-in for a low rank.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``Σ σ(p) ≤ radius``: ``max(σ − τ, 0)`` with the
    threshold τ that makes the sum right.

    Args:
        radius: the largest sum of singular values allowed, ≥ 0.

    Raises:
        ValueError: ``radius`` is negative or not finite.

    >>> NuclearBall(2.0).project(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    tensor([[2., 0.],
            [0., 0.]])

    Source: Cai, Candès & Shen, *A singular value thresholding algorithm for matrix completion* (2010).
    """

    radius: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", checked_radius("NuclearBall", self.radius))

    def _allows(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        return values.sum(-1) - self.radius <= self._rounding(values, dtype)

    def _rounding(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """What rounding does to the sum of the singular values."""
        return math.sqrt(max(values.shape[-1], 1)) * allowed_error(values, dtype)

    def _nearest(self, values: Tensor) -> tuple[Tensor, Tensor]:
        if self.radius == 0 or values.numel() == 0:
            return torch.zeros_like(values), torch.zeros_like(values)
        images = Simplex(self.radius).project(values)
        return images, (images > 0).to(values)

    def derivative(self, displacement: Tensor, *factors: Tensor) -> Tensor:
        """As for a fixed threshold, less its own movement: the sum of the active singular values stays."""
        active, growth = self._threshold_movement(displacement, factors)
        moved = singular_derivative(displacement, *factors)
        return moved - (growth * active).to(moved.dtype)

    def _threshold_movement(self, displacement: Tensor, factors: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """``A = U Vᵀ`` of the active singular values, and the mean of ``⟨A, D⟩``: how fast the threshold moves."""
        left, right, _, _, _ = factors
        counted = self._active(factors)
        active = from_singular(left, counted, right)
        product = (active * displacement.to(active)).sum((-2, -1), keepdim=True)
        return active, product / counted.sum(-1, keepdim=True).unsqueeze(-1).clamp_min(1)

    def _active(self, factors: tuple[Tensor, ...]) -> Tensor:
        _, _, values, images, slopes = factors
        return torch.where((images != values).any(-1, keepdim=True), slopes, 0.0)

    def curvature(self, first: Tensor, second: Tensor, *factors: Tensor) -> Tensor:
        """As for a fixed threshold, less what its movement changes: A turns, and the threshold curves."""
        left, right, values, _, _ = factors
        counted = self._active(factors)
        active, one = self._threshold_movement(first, factors)
        _, two = self._threshold_movement(second, factors)
        turn = (left, right, values, counted, torch.zeros_like(counted))
        turned_one, turned_two = (singular_derivative(moved.to(active), *turn) for moved in (first, second))
        curve = (turned_two * first.to(active)).sum((-2, -1), keepdim=True)
        curve = curve / counted.sum(-1, keepdim=True).unsqueeze(-1).clamp_min(1)
        bent = singular_curvature(first.to(active), second.to(active), *factors)
        return (bent - two * turned_one - one * turned_two - curve * active).to(first.dtype)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Random singular vectors; singular values uniform on a simplex of random size."""
        left, right = self._directions(shape, generator)
        spectrum = (*left.shape[:-2], left.shape[-1])
        if self.radius == 0 or math.prod(spectrum) == 0:
            return torch.zeros(tuple(shape), device=left.device)
        values = Simplex(self.radius).sample(spectrum, generator) * uniform((*spectrum[:-1], 1), generator)
        return self.project(from_singular(left, values, right))

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """``radius − Σ σ``."""
        if not self.offers("slack"):
            raise self._lacks("slack functions", "it is a single point")
        return ((self.radius - singular_values(x).sum(-1)).to(x.dtype),)

    def barrier(self, x: Tensor) -> Tensor:
        """``−log(radius − Σ σ)``, per matrix."""
        return log_barrier(self.slack(x)[0])

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """The nearest matrix whose singular values sum to ``radius − margin`` at most; 0 where none does."""
        if not self.offers("interior"):
            raise self._lacks("interior", "it is a single point")
        room = 4 * roundoff(x.dtype) * math.sqrt(max(min(x.shape[-2:]), 1))  # survives rounding
        return NuclearBall(max(min(self.radius - margin, self.radius * (1 - room)), 0.0)).project(x)

    def chart(self, kind: str | None = None) -> Chart:
        """``"radial"``: ``radius · Z / √(radius² + (Σ σ(Z))²)``, the open ball."""
        if not self.offers("chart"):
            raise self._lacks("chart", "it is a single point")
        check_kind(self, kind, ("radial",))
        return NuclearChart(self.radius)

    def support(self, y: Tensor) -> Tensor:
        """``radius ·`` the largest singular value of y."""
        values = singular_values(y)
        return (self.radius * (values.amax(-1) if values.shape[-1] else values.sum(-1))).to(y.dtype)

    def lmo(self, gradient: Tensor) -> Tensor:
        """``−radius · u vᵀ`` of the largest singular value; 0 where the gradient is 0."""
        return on_finite(gradient, lambda safe: (self._corner(safe).to(gradient.dtype),))[0]

    def _corner(self, gradient: Tensor) -> Tensor:
        left, values, right = svd(gradient)
        first = torch.arange(values.shape[-1], device=values.device) == 0
        return from_singular(left, (first & (values > 0)) * -values.new_tensor(self.radius), right)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction, less its nearest point of the normal cone ``{t (U Vᵀ + W) : t ≥ 0, ‖W‖₂ ≤ 1}``."""
        if self.radius == 0:
            return torch.zeros_like(direction)
        return on_finite(x, lambda safe: (self._turn(safe, direction, x.dtype),))[0]

    def _turn(self, x: Tensor, direction: Tensor, dtype: torch.dtype) -> Tensor:
        moved = direction.to(x)
        parts = split_by_span(x, moved, dtype)
        beyond_left, free, beyond_right = parts.beyond
        along = (parts.left * (moved @ parts.right)).sum((-2, -1)).unsqueeze(-1)
        share = _cone_share(along, free, parts.rank)
        capped = from_singular(beyond_left, torch.minimum(free, share), beyond_right)
        normal_part = share.unsqueeze(-1) * (parts.left @ parts.right.mT) + capped
        slack = self.radius - parts.values.sum(-1, keepdim=True)
        at_boundary = slack <= self._rounding(parts.values, dtype).unsqueeze(-1)
        return torch.where(at_boundary.unsqueeze(-1), moved - normal_part, moved).to(direction.dtype)


def _cone_share(along: Tensor, free: Tensor, rank: Tensor) -> Tensor:
    """The t ≥ 0 of the nearest ``t (U Vᵀ + W)``: ``rank · t − Σ max(free − t, 0) = along``, for descending ``free``."""
    ranks = torch.arange(1, free.shape[-1] + 1, device=free.device)
    candidates = (along + free.cumsum(-1)) / (rank + ranks)
    count = (free > candidates).sum(-1, keepdim=True)
    above = torch.where(ranks <= count, free, 0.0).sum(-1, keepdim=True)
    return ((along + above) / (rank + count).clamp_min(1)).clamp_min(0)
