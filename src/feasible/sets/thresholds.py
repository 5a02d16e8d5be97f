"""Rows with a given sum and a given norm: one threshold per row, the root of a monotone function."""

from __future__ import annotations

import torch
from torch import Tensor

from feasible.sets.knapsack import piece


def with_sum_and_norm(y: Tensor, total: float, radius: float) -> Tensor:
    """``s · max(y − τ, 0)`` with the sum ``total`` and the norm ``radius``, for each row; differentiable.

    That is the nearest point where both conditions hold at once. Its sum over its norm falls as τ grows; with the
    k entries above τ, of mean m and sum of squared deviations V, the right ratio ρ is at
    ``τ = m − ρ √(V / (k (k − ρ²)))``.

    Args:
        y: rows (…, n) in float64.
        total: the sum.
        radius: the norm, at most the sum and at least the sum over √n.
    """
    ratio, values = total / radius, y.detach()

    def is_wide(tau: Tensor) -> Tensor:
        above = (values - tau).clamp_min(0.0)
        length: Tensor = torch.linalg.vector_norm(above, dim=-1, keepdim=True)
        # Above the largest entry nothing is left.
        return (above.sum(-1, keepdim=True) >= ratio * length) & (length > 0)

    _, largest_below = piece(values, is_wide)
    is_free = values >= largest_below
    count = is_free.to(y).sum(-1, keepdim=True)
    mean = torch.where(is_free, y, 0.0).sum(-1, keepdim=True) / count.clamp_min(1.0)
    deviation = torch.where(is_free, y - mean, 0.0)
    square = deviation.square().sum(-1, keepdim=True)
    room = (count * (count - ratio**2)).clamp_min(torch.finfo(y.dtype).eps)
    height = ratio * torch.where(square > 0, square / room, 1.0).sqrt()
    above = torch.where(is_free, deviation + height, 0.0).clamp_min(0.0)
    shortened: Tensor = above * (radius / torch.linalg.vector_norm(above, dim=-1, keepdim=True))
    return shortened
