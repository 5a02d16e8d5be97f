"""Sets that speak of singular values: what they share, and the ball of the largest one."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from feasible.sets.charts import Chart
from feasible.sets.matrices import Matrices, mirror, on_finite
from feasible.sets.nearest import NearestPoint, nearest_point
from feasible.sets.precision import normal, roundoff, uniform, wide
from feasible.sets.simplex import check_kind, finite_number
from feasible.sets.spectra import (
    allowed_error,
    eigen,
    from_singular,
    singular_curvature,
    singular_derivative,
    svd,
)
from feasible.sets.spectral_charts import ContractionChart
from feasible.sets.spectral_values import minus_log_det, singular_values

__all__ = ["SpectralBall"]


class SingularValues(Matrices, NearestPoint):
    """A set that speaks of singular values only: the projection changes them and keeps the directions."""

    @abstractmethod
    def _allows(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """Whether a matrix with these singular values is in the set, up to rounding."""

    @abstractmethod
    def _nearest(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest singular values, and which of them follow when the given ones move (0 or 1)."""

    def project(self, x: Tensor) -> Tensor:
        """``U f(σ) Vᵀ``; differentiable wherever f is, also where singular values repeat."""
        return nearest_point(x, self)

    def solve(self, x: Tensor) -> tuple[Tensor, ...]:
        """The projection, singular vectors and the changed spectrum."""
        return on_finite(x, lambda safe: self._change(safe, x))

    def _change(self, safe: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        left, values, right = svd(safe)
        member = self._allows(values, x.dtype)
        images, slopes = self._nearest(values)
        images = torch.where(member.unsqueeze(-1), values, images)
        slopes = torch.where(member.unsqueeze(-1), torch.ones_like(values), slopes)
        point = from_singular(left, images, right).to(x.dtype)
        return torch.where(member[..., None, None], x, point), left, right, values, images, slopes

    def derivative(self, displacement: Tensor, *factors: Tensor) -> Tensor:
        """Divided differences and sums of f between the singular vectors."""
        return singular_derivative(displacement, *factors)

    def curvature(self, first: Tensor, second: Tensor, *factors: Tensor) -> Tensor:
        """The same to second order."""
        return singular_curvature(first, second, *factors)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether the singular values are in the set, up to rounding."""
        return self._allows(singular_values(x), x.dtype)

    def _directions(self, shape: Sequence[int], generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Random singular vectors for a tensor of this shape."""
        self.check_shape(torch.Size(shape))
        left, _, right = svd(normal(shape, generator))
        return left, right


class NormBall(SingularValues):
    """A ball around 0 in a norm of the singular values."""

    radius: float

    @property
    def size(self) -> float:
        """The radius."""
        return self.radius

    def offers(self, capability: str) -> bool:
        """A ball of radius 0 is a point: no interior, no chart."""
        if capability in ("slack", "barrier", "interior", "chart"):
            return self.radius > 0
        return super().offers(capability)


@final
@dataclass(frozen=True, eq=False, repr=False)
class SpectralBall(NormBall):
    """Matrices whose largest singular value is bounded: linear maps of a given Lipschitz constant.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``‖p‖₂ ≤ radius``: singular values clipped.

    Args:
        radius: the largest singular value allowed, ≥ 0.

    Raises:
        ValueError: ``radius`` is negative or not finite.

    >>> SpectralBall(1.0).project(torch.tensor([[3.0, 0.0], [0.0, 0.5]]))
    tensor([[1.0000, 0.0000],
            [0.0000, 0.5000]])

    Source: Lewis & Malick, *Alternating projections on manifolds* (2008), section 3, for spectral sets.
    """

    radius: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", checked_radius("SpectralBall", self.radius))

    def _allows(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        return (values <= self.radius + allowed_error(values, dtype).unsqueeze(-1)).all(-1)

    def _nearest(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return values.clamp_max(self.radius), (values <= self.radius).to(values)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Random singular vectors, uniform singular values."""
        left, right = self._directions(shape, generator)
        values = self.radius * uniform((*left.shape[:-2], left.shape[-1]), generator)
        return self.project(from_singular(left, values, right))

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """``(radius² − σ²) / (2 radius)`` for each singular value: Σ log of them all is concave."""
        if not self.offers("slack"):
            raise self._lacks("slack functions", "it is a single point")
        values = singular_values(x)
        return ((self.radius - values * (values / self.radius)) / 2).to(x.dtype).unbind(-1)

    def barrier(self, x: Tensor) -> Tensor:
        """``−log det((radius² − xᵀx) / (2 radius))``, per matrix."""
        if not self.offers("barrier"):
            raise self._lacks("barrier", "it is a single point")
        narrow = wide(x if x.shape[-2] >= x.shape[-1] else x.mT)
        eye = torch.eye(narrow.shape[-1], dtype=narrow.dtype, device=x.device)
        gram = narrow.mT @ (narrow / self.radius)
        return minus_log_det((self.radius * eye - mirror(gram)) / 2).to(x.dtype)

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """Singular values clipped to where the slack is ``margin``; 0 where no slack is that large."""
        if not self.offers("interior"):
            raise self._lacks("interior", "it is a single point")
        room = 4 * roundoff(x.dtype) * math.sqrt(max(min(x.shape[-2:]), 1))  # survives rounding
        inner = math.sqrt(max(self.radius * (self.radius - 2 * margin), 0.0))
        return SpectralBall(min(inner, self.radius * max(1 - room, 0.0))).project(x)

    def chart(self, kind: str | None = None) -> Chart:
        """``"contraction"``: ``radius · Z R⁻¹`` with ``RᵀR = 1 + ZᵀZ``, the open ball."""
        if not self.offers("chart"):
            raise self._lacks("chart", "it is a single point")
        check_kind(self, kind, ("contraction",))
        return ContractionChart(self.radius)

    def support(self, y: Tensor) -> Tensor:
        """``radius · Σ σ(y)``."""
        return (self.radius * singular_values(y).sum(-1)).to(y.dtype)

    def lmo(self, gradient: Tensor) -> Tensor:
        """``−radius · U Vᵀ``, without directions in which the gradient is 0."""
        return on_finite(gradient, lambda safe: (self._corner(safe).to(gradient.dtype),))[0]

    def _corner(self, gradient: Tensor) -> Tensor:
        left, values, right = svd(gradient)
        return from_singular(left, (values > 0) * -values.new_tensor(self.radius), right)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction, without what makes singular values grow that are at the bound."""
        if self.radius == 0:
            return torch.zeros_like(direction)
        return on_finite(x, lambda safe: (self._turn(safe, direction, x.dtype),))[0]

    def _turn(self, x: Tensor, direction: Tensor, dtype: torch.dtype) -> Tensor:
        left, values, right = svd(x)
        at_bound = values >= self.radius - allowed_error(values, dtype).unsqueeze(-1)
        seen = mirror(left.mT @ direction.to(x) @ right)
        seen = torch.where(at_bound.unsqueeze(-1) & at_bound.unsqueeze(-2), seen, torch.zeros_like(seen))
        growth, turn = eigen(seen)
        outward = from_singular(left @ turn, growth.clamp_min(0), right @ turn)
        return (direction.to(x) - outward).to(direction.dtype)


class Split(NamedTuple):
    """A matrix's span, and what of a direction lies beyond it."""

    values: Tensor
    left: Tensor
    """The left singular vectors that count; 0 in the place of the others."""
    right: Tensor
    rank: Tensor
    beyond: tuple[Tensor, Tensor, Tensor]
    """U, σ, V of what neither meets the row nor the column space."""


def split_by_span(x: Tensor, direction: Tensor, dtype: torch.dtype) -> Split:
    """``direction`` seen from ``x``: singular values that rounding explains count as 0."""
    left, values, right = svd(x)
    spanned = (values > allowed_error(values, dtype).unsqueeze(-1)).to(values)
    left, right = left * spanned.unsqueeze(-2), right * spanned.unsqueeze(-2)
    beyond = direction - left @ (left.mT @ direction)
    beyond = beyond - (beyond @ right) @ right.mT
    return Split(values, left, right, spanned.sum(-1, keepdim=True), svd(beyond))


def checked_radius(owner: str, radius: object) -> float:
    """A finite number ≥ 0, or a ``ValueError`` that says what came."""
    number = finite_number(owner, "radius", radius)
    if number < 0:
        raise ValueError(f"{owner} is empty: radius must be ≥ 0, got {number:g}.")
    return number
