"""Symmetric matrices with eigenvalues in a range and a condition on their sum, the trace."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from feasible.sets.bounds import exactly
from feasible.sets.knapsack import cut_range
from feasible.sets.matrices import mirror, on_finite
from feasible.sets.nearest import NearestPoint, nearest_point
from feasible.sets.ranges import LinearCondition
from feasible.sets.spectra import eigen, eigen_curvature, eigen_derivative, from_eigen


def nearest_with_trace(x: Tensor, low: float, high: float, condition: LinearCondition) -> Tensor:
    """``argmin_p ½‖p − x‖²`` over symmetric p with ``low ≤ λ(p) ≤ high`` and the condition on the eigenvalues."""
    return nearest_point(x, _BoundedTrace(low, high, condition))


@dataclass(frozen=True)
class _BoundedTrace(NearestPoint):
    """``U clip(λ − τ) Uᵀ`` with the τ that makes the trace right."""

    low: float
    high: float
    condition: LinearCondition

    def solve(self, x: Tensor) -> tuple[Tensor, ...]:
        """The nearest matrices, eigenvectors and the changed spectrum, 1 where the condition is active."""
        return on_finite(x, self._change)

    def _change(self, x: Tensor) -> tuple[Tensor, ...]:
        values, vectors = eigen(mirror(x))
        low, high = (torch.full_like(values, bound) for bound in (self.low, self.high))
        normal = self.condition.normal
        normal = values.new_ones(values.shape[-1]) if normal is None else normal.to(values)
        total = exactly(self.condition.total).to(values).expand(*values.shape[:-1], 1)
        images = cut_range(values, low, high, normal, total, self.condition.is_equation)
        free = ((images > low) & (images < high)).to(values)
        is_active = (images != values.clamp(low, high)).any(-1, keepdim=True) | self.condition.is_equation
        return from_eigen(vectors, images), vectors, values, images, free, is_active.to(values)

    def derivative(self, displacement: Tensor, *factors: Tensor) -> Tensor:
        """As for a fixed τ, less its own movement: the trace of the free part stays."""
        spectrum, is_active = factors[:-1], factors[-1]
        moved = eigen_derivative(displacement.to(is_active), *spectrum)
        part, growth = _movement(displacement.to(is_active), *factors)
        return (moved - growth * part).to(displacement.dtype)

    def curvature(self, first: Tensor, second: Tensor, *factors: Tensor) -> Tensor:
        """As for a fixed τ, less what its movement changes: the free part turns, and τ curves."""
        vectors, values, _, free, is_active = factors
        one, two = first.to(values), second.to(values)
        turn = (vectors, values, free, torch.zeros_like(free))
        turned_one, turned_two = eigen_derivative(one, *turn), eigen_derivative(two, *turn)
        part, growth_one = _movement(one, *factors)
        _, growth_two = _movement(two, *factors)
        count = free.sum(-1, keepdim=True).clamp_min(1).unsqueeze(-1)
        curve = is_active.unsqueeze(-1) * (turned_two * one).sum((-2, -1), keepdim=True) / count
        bent = eigen_curvature(one, two, *factors[:-1])
        return (bent - growth_two * turned_one - growth_one * turned_two - curve * part).to(first.dtype)


def _movement(displacement: Tensor, *factors: Tensor) -> tuple[Tensor, Tensor]:
    """The projector A onto the free eigenvectors, and the mean of ``⟨A, D⟩``: how fast τ moves."""
    vectors, _, _, free, is_active = factors
    part = from_eigen(vectors, free)
    product = (part * mirror(displacement)).sum((-2, -1), keepdim=True)
    count = free.sum(-1, keepdim=True).clamp_min(1).unsqueeze(-1)
    return part, is_active.unsqueeze(-1) * product / count
