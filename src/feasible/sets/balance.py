"""Matrices with prescribed row and column sums: the nearest one, by Newton's method on the dual problem."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STAGE = 8.0
"""Factor between the scales through which large numbers are reached."""


def nearest_doubly_stochastic(x: Tensor) -> Tensor:
    """``argmin_p ½‖p − x‖²`` subject to ``p ≥ 0`` and all row and column sums 1, for square matrices.

    The answer is ``max(x + u + v, 0)`` with one number u a row and one v a column, which leave the problem
    itself unchanged: they are added to x at once, where small numbers keep their digits. Large numbers make
    it an assignment problem with few positive entries, hard to guess; so x is first shrunk, and grows back
    in stages, each of which starts at the last one's answer.
    """
    if x.numel() == 0:
        return x.clone()
    y = x - x.amax(-1, keepdim=True)
    y = (y - y.amax(-2, keepdim=True)).clamp_min(torch.finfo(x.dtype).min / STAGE)
    size = y.abs().amax((-2, -1), keepdim=True)
    stages = torch.log(size.clamp_min(1)).div(math.log(STAGE)).ceil()
    y = y * STAGE ** (-stages) + 1 / x.shape[-1]
    nowhere = torch.zeros_like(y, dtype=torch.bool)
    for _ in range(int(stages.max())):
        y = balanced(y, nowhere, 1.0, 1e-6)
        y = torch.where(stages > 0, y * STAGE, y)
        stages = stages - 1
    point = balanced(y, nowhere, 1.0)
    # What rounding has left over 0 is 0: no entry is larger than 1.
    return torch.where(point <= 4 * torch.finfo(x.dtype).eps, 0.0, point)


def balanced(y: Tensor, free: Tensor, total: float, enough: float = 0.0, most: int = 200) -> Tensor:
    """``y + u + v`` whose positive (or free) entries have the row and column sums ``total``, to ``enough``.

    Newton's method on the dual function, convex and piecewise quadratic, with an exact line search. It ends
    when rounding is all that is left.

    Source: Li, Sun & Toh, *On the efficient computation of a generalized Jacobian of the projector over the
    Birkhoff polytope*, Math. Program. 179 (2020).
    """
    enough = max(enough, 4 * torch.finfo(y.dtype).eps)
    last = math.inf
    for _ in range(most):
        active = free | (y > 0)
        kept = torch.where(active, y, 0.0)
        rows, columns = total - kept.sum(-1), total - kept.sum(-2)
        worst = float(torch.maximum(rows.abs(), columns.abs()).max())
        if worst <= enough or (worst < 1e-11 and worst > last / 2):
            break
        last = worst
        across, down = _newton_direction(active.to(y), rows, columns)
        direction = across.unsqueeze(-1) + down.unsqueeze(-2)
        slope = -(rows * across).sum(-1) - (columns * down).sum(-1)
        gain = total * (across.sum(-1) + down.sum(-1))
        y = y + _line_search(y, free, direction, slope, gain)[..., None, None] * direction
    return y


def balanced_displacement(displacement: Tensor, active: Tensor) -> Tensor:
    """``displacement`` projected onto the matrices on the active entries with row and column sums 0."""
    moved = torch.where(active, displacement, 0.0)
    across, down = _newton_direction(active.to(moved), -moved.sum(-1), -moved.sum(-2), singular=True)
    return torch.where(active, displacement + across.unsqueeze(-1) + down.unsqueeze(-2), 0.0)


def _newton_direction(
    active: Tensor, rows: Tensor, columns: Tensor, singular: bool = False
) -> tuple[Tensor, Tensor]:
    """u, v that add ``rows`` and ``columns`` to the sums of the active entries.

    A constant can move from u to v in every connected part: a little damping, or least squares, settles it.
    """
    damping = 0.0 if singular else math.sqrt(torch.finfo(active.dtype).eps)
    down_count = (active.sum(-2) + damping).clamp_min(damping or 1.0)
    system = torch.diag_embed(active.sum(-1) + damping) - (active / down_count.unsqueeze(-2)) @ active.mT
    target = rows - _times(active, columns / down_count)
    if singular:
        tolerance = 10 * active.shape[-1] * torch.finfo(active.dtype).eps
        across = _times(torch.linalg.pinv(system, rtol=tolerance, hermitian=True), target)
    else:
        across = torch.linalg.solve(system, target.unsqueeze(-1)).squeeze(-1)
    return across, (columns - _times(active.mT, across)) / down_count


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _line_search(
    y: Tensor, free: Tensor, direction: Tensor, slope: Tensor, gain: Tensor, most: int = 60
) -> Tensor:
    """The step after which the dual function has lost nine tenths of its slope, for each matrix."""
    # A slope this small is made of roundings: the full step is right.
    noise = (1e3 * y.shape[-1] * torch.finfo(y.dtype).eps) ** 2
    allowed = (0.1 * slope.abs()).clamp_min(noise)
    step, low, high = torch.ones_like(gain), torch.zeros_like(gain), torch.full_like(gain, math.inf)
    for _ in range(most):
        moved = y + step[..., None, None] * direction
        active = free | (moved > 0)
        there = (torch.where(active, moved, 0.0) * direction).sum((-2, -1)) - gain
        done = there.abs() <= allowed
        if bool(done.all()):
            break
        low, high = torch.where(there < 0, step, low), torch.where(there < 0, high, step)
        curvature = torch.where(active, direction.square(), 0.0).sum((-2, -1))
        guess = step - there / curvature
        middle = torch.where(high.isinf(), 2 * step, (low + high) / 2)
        step = torch.where(done, step, torch.where((guess > low) & (guess < high), guess, middle))
    return step
