"""Ranges cut by one linear condition or by a ball: one multiplier per row, the root of a monotone function.

The function is piecewise linear (or quadratic). Its breakpoints are sorted, the piece with the root is found
by bisection over them, and the root within the piece is exact.

Source: Helgason, Kennington & Lall, *A polynomially bounded algorithm for a singly constrained quadratic
program*, Math. Program. 18 (1980).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def cut_range(
    x: Tensor, lower: Tensor, upper: Tensor, normal: Tensor, total: Tensor, is_equation: bool
) -> Tensor:
    """``argmin_p ½‖p − x‖²`` subject to ``lower ≤ p ≤ upper`` and ``⟨normal, p⟩ = total`` (or ``≤``).

    That is ``p = clip(x − τ · normal)`` for one τ per row; entries strictly between their bounds move on the
    plane when x moves, the others do not.

    Args:
        x: rows (…, n) in float64.
        lower: (…, n), possibly −inf.
        upper: (…, n), possibly +inf.
        normal: (n,).
        total: (…, 1).
        is_equation: ``=`` or ``≤``.
    """
    y = x.detach()
    is_active = (normal * y.clamp(lower, upper)).sum(-1, keepdim=True) > total
    if is_equation:
        is_active = torch.ones_like(is_active)
    for _ in range(2):  # between large numbers the first τ loses digits; the second brings them back
        tau = _plane_multiplier(y, lower, upper, normal, total)
        y = torch.where(is_active, y - tau * normal, y)
    nearest = y.clamp(lower, upper)
    free = (nearest > lower) & (nearest < upper)
    along = torch.where(free & is_active, normal, 0.0)
    square = along.square().sum(-1, keepdim=True)
    share = (along * x).sum(-1, keepdim=True) / torch.where(square > 0, square, 1.0)
    movement = torch.where(free, x - share * along, 0.0)
    return nearest + (movement - movement.detach())


def _plane_multiplier(y: Tensor, lower: Tensor, upper: Tensor, normal: Tensor, total: Tensor) -> Tensor:
    """τ with ``⟨normal, clip(y − τ · normal)⟩ = total``; the nearest end where no τ leads there."""
    moves = normal != 0
    slope = torch.where(moves, normal, 1.0)
    at_bounds = torch.stack(((y - lower) / slope, (y - upper) / slope))
    first, last = torch.where(moves, at_bounds, torch.inf).aminmax(dim=0)
    falls = slope > 0
    early, late = torch.where(falls, upper, lower), torch.where(falls, lower, upper)

    def is_high(tau: Tensor) -> Tensor:
        moved = torch.where(moves, y - tau * slope, 0.0).clamp(lower, upper)
        return (normal * moved).sum(-1, keepdim=True) >= total

    below, above = piece(torch.cat((first, last), -1), is_high)
    free = moves & (first <= below) & (last >= above) & (first < last)
    resting = torch.where(last <= below, late, early)
    fixed = torch.where(moves & ~free, normal * resting, 0.0).sum(-1, keepdim=True)
    along = torch.where(free, normal, 0.0)
    square = along.square().sum(-1, keepdim=True)
    excess = (along * y).sum(-1, keepdim=True) + fixed - total
    # A piece without free entries is flat: the jump is at one of its ends, where breakpoints fall together.
    likely, other = torch.where(fixed >= total, above, below), torch.where(fixed >= total, below, above)
    at_end = torch.where(likely.isfinite(), likely, torch.where(other.isfinite(), other, 0.0))
    inside = torch.minimum(torch.maximum(excess / torch.where(square > 0, square, 1.0), below), above)
    return torch.where(square > 0, inside, at_end)


def shorten_range(x: Tensor, lower: Tensor, upper: Tensor, radius: float) -> Tensor:
    """``argmin_p ½‖p − x‖²`` subject to ``lower ≤ p ≤ upper`` and ``‖p‖ ≤ radius``.

    That is ``p = clip(s · x)`` for one ``0 < s ≤ 1`` per row; the free entries share what length the others leave.

    Args:
        x: rows (…, n) in float64.
        lower: (…, n), possibly −inf.
        upper: (…, n), possibly +inf.
        radius: the largest norm.
    """
    y = x.detach()
    turns = y != 0
    divisor = torch.where(turns, y, 1.0)
    first, last = torch.where(turns, torch.stack((lower / divisor, upper / divisor)), -torch.inf).aminmax(
        dim=0
    )
    clipped = x.clamp(lower, upper)

    def is_short(share: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm((share * y).clamp(lower, upper), dim=-1, keepdim=True)
        return length <= radius

    below, above = piece(torch.cat((first, last), -1).clamp(0.0, 1.0), is_short)
    below, above = below.clamp_min(0.0), above.clamp_max(1.0)
    free = turns & (first <= below) & (last >= above) & (first < last)
    resting = torch.where(turns, torch.where((last <= below) == (y > 0), upper, lower), y.clamp(lower, upper))
    fixed = torch.linalg.vector_norm(torch.where(free, 0.0, resting), dim=-1, keepdim=True)
    left = ((radius - fixed) * (radius + fixed)).clamp_min(0.0).sqrt()
    moving = torch.where(free, x, 0.0)
    is_moving = free.any(-1, keepdim=True)
    length = torch.linalg.vector_norm(torch.where(is_moving, moving, 1.0), dim=-1, keepdim=True)
    shortened = torch.where(free, moving * (left / length), resting).clamp(lower, upper)
    return torch.where(is_short(torch.ones_like(below)), clipped, shortened)


def piece(points: Tensor, holds: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Neighbours among the breakpoints of each row (…, m) between which ``holds`` turns from true to false."""
    ordered = points.sort(-1).values
    count = ordered.shape[-1]
    low = torch.full((*ordered.shape[:-1], 1), -1, device=ordered.device)
    high = torch.full_like(low, count)
    for _ in range(count.bit_length()):
        middle = (low + high) // 2
        is_open = high - low > 1
        held = holds(ordered.gather(-1, middle.clamp(0, count - 1)))
        low, high = torch.where(is_open & held, middle, low), torch.where(is_open & ~held, middle, high)
    below = torch.where(low >= 0, ordered.gather(-1, low.clamp_min(0)), -torch.inf)
    above = torch.where(high < count, ordered.gather(-1, high.clamp_max(count - 1)), torch.inf)
    return below, above
