"""Matrices with bounded singular values, a bounded sum of them, or few that are not zero."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.sets.charts import Chart
from feasible.sets.elementwise import log_barrier
from feasible.sets.matrices import Matrices, mirror, on_finite
from feasible.sets.nearest import NearestPoint, nearest_point
from feasible.sets.precision import normal, roundoff, uniform
from feasible.sets.simplex import Simplex, check_kind, finite_number
from feasible.sets.spectra import (
    allowed_error,
    eigen,
    from_singular,
    singular_curvature,
    singular_derivative,
    svd,
)
from feasible.sets.spectral_charts import FoldChart, NuclearChart, ProjectionChart
from feasible.sets.spectral_values import singular_values

__all__ = ["LowRank", "NuclearBall", "SpectralBall"]


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

    def barrier(self, x: Tensor) -> Tensor:
        """``−Σ log slack``, per matrix."""
        slacks = self.slack(x)
        return log_barrier(torch.stack(slacks, -1)).sum(-1) if slacks else x.new_zeros(x.shape[:-2])


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
        object.__setattr__(self, "radius", _checked_radius("SpectralBall", self.radius))

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

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """Singular values clipped to where the slack is ``margin``; 0 where no slack is that large."""
        if not self.offers("interior"):
            raise self._lacks("interior", "it is a single point")
        room = 4 * roundoff(x.dtype) * math.sqrt(max(min(x.shape[-2:]), 1))  # survives rounding
        inner = math.sqrt(max(self.radius * (self.radius - 2 * margin), 0.0))
        return SpectralBall(min(inner, self.radius * max(1 - room, 0.0))).project(x)

    def chart(self, kind: str | None = None) -> Chart:
        """``"fold"``: ``2 radius · Z (1 + ZᵀZ)⁻¹``, which reaches the boundary and folds there."""
        if not self.offers("chart"):
            raise self._lacks("chart", "it is a single point")
        check_kind(self, kind, ("fold",))
        return FoldChart(self.radius)

    def support(self, y: Tensor) -> Tensor:
        """``radius · Σ σ(y)``."""
        return (self.radius * singular_values(y).sum(-1)).to(y.dtype)

    def lmo(self, gradient: Tensor) -> Tensor:
        """``−radius · U Vᵀ``, without directions in which the gradient is 0."""
        return on_finite(gradient, lambda safe: (self._corner(safe).to(gradient.dtype),))[0]

    def _corner(self, gradient: Tensor) -> Tensor:
        left, values, right = svd(gradient)
        return from_singular(left, torch.where(values > 0, -self.radius, 0.0).to(values), right)

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
        object.__setattr__(self, "radius", _checked_radius("NuclearBall", self.radius))

    def _allows(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        total = values.sum(-1)
        return total <= self.radius + roundoff(dtype) * math.sqrt(max(values.shape[-1], 1)) * total

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
        return from_singular(left, torch.where(first & (values > 0), -self.radius, 0.0).to(values), right)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction, less its nearest point of the normal cone ``{t (U Vᵀ + W) : t ≥ 0, ‖W‖₂ ≤ 1}``."""
        if self.radius == 0:
            return torch.zeros_like(direction)
        return on_finite(x, lambda safe: (self._turn(safe, direction, x.dtype),))[0]

    def _turn(self, x: Tensor, direction: Tensor, dtype: torch.dtype) -> Tensor:
        left, values, right = svd(x)
        allowed = allowed_error(values, dtype).unsqueeze(-1)
        spanned = (values > allowed).to(values)
        rank = spanned.sum(-1, keepdim=True)
        basis, cobasis = left * spanned.unsqueeze(-2), right * spanned.unsqueeze(-2)
        moved = direction.to(x)
        along = (basis * (moved @ cobasis)).sum((-2, -1)).unsqueeze(-1)
        beyond = moved - basis @ (basis.mT @ moved)
        beyond = beyond - (beyond @ cobasis) @ cobasis.mT
        beyond_left, free, beyond_right = svd(beyond)
        # The share t of the normal cone: rank · t − Σ (free − t)₊ = along.
        ranks = torch.arange(1, free.shape[-1] + 1, device=free.device)
        candidates = (along + free.cumsum(-1)) / (rank + ranks)
        count = (free > candidates).sum(-1, keepdim=True)
        share = (along + torch.where(ranks <= count, free, 0.0).sum(-1, keepdim=True)) / (
            rank + count
        ).clamp_min(1)
        share = share.clamp_min(0)
        capped = from_singular(beyond_left, torch.minimum(free, share), beyond_right)
        normal_part = share.unsqueeze(-1) * (basis @ cobasis.mT) + capped
        at_boundary = values.sum(-1, keepdim=True) >= self.radius - values.shape[-1] * allowed
        return torch.where(at_boundary.unsqueeze(-1), moved - normal_part, moved).to(direction.dtype)


@final
@dataclass(frozen=True, eq=False, repr=False)
class LowRank(SingularValues):
    """Matrices of at most a given rank; not convex.

    ``project(x)`` is a nearest such matrix: x with all but its ``rank`` largest singular values set to 0. Of
    several nearest ones (the singular values tie) it takes the one whose directions the SVD lists first.

    Args:
        rank: the largest rank allowed, ≥ 0.

    Raises:
        ValueError: ``rank`` is not a non-negative integer.

    >>> LowRank(1).project(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    tensor([[3., 0.],
            [0., 0.]])

    Source: Eckart & Young, *The approximation of one matrix by another of lower rank* (1936).
    """

    rank: int
    convex = False

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 0:
            raise ValueError(f"LowRank: rank must be a non-negative integer, got {self.rank!r}.")

    def _allows(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        return (values[..., self.rank :] <= allowed_error(values, dtype).unsqueeze(-1)).all(-1)

    def _nearest(self, values: Tensor) -> tuple[Tensor, Tensor]:
        kept = torch.arange(values.shape[-1], device=values.device) < self.rank
        return torch.where(kept, values, 0.0), kept.to(values).expand_as(values)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Products of normal factors."""
        self.check_shape(torch.Size(shape))
        left = normal((*shape[:-1], self.rank), generator)
        right = normal((*shape[:-2], self.rank, shape[-1]), generator)
        return self.project(left @ right / math.sqrt(max(self.rank, 1)))

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """Onto the tangent cone: what meets the row or column space of x, and the best of the rest up to the rank."""
        return on_finite(x, lambda safe: (self._turn(safe, direction, x.dtype),))[0]

    def _turn(self, x: Tensor, direction: Tensor, dtype: torch.dtype) -> Tensor:
        left, values, right = svd(x)
        spanned = (values > allowed_error(values, dtype).unsqueeze(-1)).to(values)
        basis, cobasis = left * spanned.unsqueeze(-2), right * spanned.unsqueeze(-2)
        moved = direction.to(x)
        beyond = moved - basis @ (basis.mT @ moved)
        beyond = beyond - (beyond @ cobasis) @ cobasis.mT
        beyond_left, free, beyond_right = svd(beyond)
        room = self.rank - spanned.sum(-1, keepdim=True)
        lost = torch.where(torch.arange(free.shape[-1], device=free.device) < room, 0.0, free)
        return (moved - from_singular(beyond_left, lost, beyond_right)).to(direction.dtype)

    def chart(self, kind: str | None = None) -> ProjectionChart:
        """``"nearest"``: the projection of free coordinates; members are their own."""
        check_kind(self, kind, ("nearest",))
        return ProjectionChart(self)


def _checked_radius(owner: str, radius: object) -> float:
    number = finite_number(owner, "radius", radius)
    if number < 0:
        raise ValueError(f"{owner} is empty: radius must be ≥ 0, got {number:g}.")
    return number
