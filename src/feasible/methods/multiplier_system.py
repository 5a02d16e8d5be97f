"""The linear systems behind exact multipliers: damped, truncated where that is asked for or needed, rank told."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

MOST_ROUNDS = 10
"""Which inequalities act is settled after a few rounds; where it is not, gradients decide."""
GRADIENT_STEPS = 200


class Rows(NamedTuple):
    """Linearised constraints that are solved together; the first dimension holds systems that are independent."""

    value: Tensor
    """v, (systems, rows)."""
    jacobian: Tensor
    """J, (systems, rows, weights)."""
    share: Tensor
    """Of its distance each row is to lose in the step, (rows,)."""
    project: Callable[[Tensor], Tensor] | None
    """The nearest members of values, where each entry has a set of its own; ``None``: v itself must become 0."""
    projecting: bool
    """Whether the step of the loss is taken out of the rows' way."""


class Solution(NamedTuple):
    """What a system gives."""

    multiplier: Tensor
    """λ, (systems, rows)."""
    force: Tensor
    """``√P Jᵀ λ``, (systems, weights)."""
    gram: Tensor
    """``J P Jᵀ`` or ``√P Jᵀ J √P``, the smaller, with a largest diagonal entry of 1 in the first: for the rank."""


def multipliers(
    rows: Rows, moved: Tensor, root: Tensor, damping: float, truncation: float | None
) -> Solution:
    """λ such that the step ``moved − P Jᵀ λ`` brings the rows as far to their sets as they are asked to come.

    For equalities that is ``λ = (J P Jᵀ + μI)⁻¹ (k g + J Δ)``. Entries with sets of their own obey it while λ
    points out of their set; the others have none (a primal–dual active set).

    Args:
        rows: the constraints.
        moved: Δ, the step that the optimizer takes by itself, (weights,).
        root: √P, (weights,).
        damping: μ, as a share of the largest diagonal entry of ``J P Jᵀ``.
        truncation: eigenvalues below this share of the largest are left out; ``None``: none, unless the
            factorisation fails.
    """
    A = rows.jacobian * root
    diagonal = A.square().sum(-1)
    largest = diagonal.amax(-1, keepdim=True)
    scale = torch.where(largest > 0, largest, 1.0).rsqrt()
    A *= scale.unsqueeze(-1)
    free = rows.value
    if rows.projecting:
        free = free + (rows.jacobian @ moved) / rows.share
    if rows.project is None:
        found = solve(A, rows.share * free * scale, damping, truncation)
        return found._replace(multiplier=found.multiplier * scale)
    target = rows.project(free)
    feels = diagonal > 0
    active = (free != target) & feels
    reach = (diagonal + damping * largest) / rows.share
    for _ in range(MOST_ROUNDS):
        wanted = torch.where(active, rows.share * (free - target) * scale, 0.0)
        found = solve(
            A if bool(active.all()) else A * active.unsqueeze(-1), wanted, damping, truncation, by_rows=True
        )
        multiplier = torch.where(active, found.multiplier * scale, 0.0)
        reached = free - torch.linalg.vecdot(A, found.force.unsqueeze(-2)) / (scale * rows.share)
        outside = reached + reach * multiplier
        nearest = rows.project(outside)
        acts = (outside != nearest) & feels
        # A row may go on acting, but at the other end of its set.
        if torch.equal(acts, active) and torch.equal(nearest[acts], target[acts]):
            return found._replace(multiplier=multiplier)
        active, target = acts, nearest
    return _by_gradients(rows.project, free, A, scale * rows.share, scale, damping)


def _by_gradients(
    project: Callable[[Tensor], Tensor],
    free: Tensor,
    A: Tensor,
    unit: Tensor,
    scale: Tensor,
    damping: float,
) -> Solution:
    """The same inequalities by accelerated projected gradients, where the active set does not settle."""
    gram = A @ A.mT
    gram.diagonal(dim1=-2, dim2=-1).add_(damping)
    steep = torch.linalg.eigvalsh(gram)[..., -1:].clamp_min(torch.finfo(gram.dtype).tiny)
    multiplier = at = torch.zeros_like(free)
    speed = 1.0
    for _ in range(GRADIENT_STEPS):
        outside = free - (torch.linalg.vecdot(gram, at.unsqueeze(-2)) - steep * at) / unit
        new = (outside - project(outside)) * unit / steep
        faster = (1 + math.sqrt(1 + 4 * speed**2)) / 2
        at = new + (speed - 1) / faster * (new - multiplier)
        multiplier, speed = new, faster
    return Solution(multiplier * scale, (A.mT @ multiplier.unsqueeze(-1)).squeeze(-1), gram)


def solve(
    A: Tensor, wanted: Tensor, damping: float, truncation: float | None, by_rows: bool = False
) -> Solution:
    """``(A Aᵀ + μI)⁻¹ b`` through the smaller of ``A Aᵀ`` and ``Aᵀ A``; the force ``Aᵀ λ`` is the same.

    Through ``Aᵀ A``, with fewer weights than rows, λ is the smallest one that has the force: its signs say nothing,
    so that inequalities go ``by_rows``.
    """
    is_wide = by_rows or A.shape[-2] <= A.shape[-1]
    gram = A @ A.mT if is_wide else A.mT @ A
    inverse = inverted(gram, damping, truncation)
    if is_wide:
        multiplier = inverse(wanted)
        return Solution(multiplier, (A.mT @ multiplier.unsqueeze(-1)).squeeze(-1), gram)
    force = inverse((A.mT @ wanted.unsqueeze(-1)).squeeze(-1))
    return Solution((A @ inverse(force).unsqueeze(-1)).squeeze(-1), force, gram)


def inverted(gram: Tensor, damping: float, truncation: float | None) -> Callable[[Tensor], Tensor]:
    """``b ↦ (G + μI)⁻¹ b`` by Cholesky, or, truncated or where that fails, least squares by eigenvalues."""
    if truncation is None:
        shifted = gram.clone()
        shifted.diagonal(dim1=-2, dim2=-1).add_(damping)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if not bool(failed.any()):
            return lambda b: torch.cholesky_solve(b.unsqueeze(-1), factor).squeeze(-1)
    if not bool(gram.isfinite().all()):
        return lambda b: torch.full_like(b, math.nan)
    values, vectors = torch.linalg.eigh(gram)
    kept = values > least(values, truncation)
    inverse = torch.where(kept, 1 / torch.where(kept, values + damping, 1.0), 0.0)
    return lambda b: (vectors @ (inverse * (vectors.mT @ b.unsqueeze(-1)).squeeze(-1)).unsqueeze(-1)).squeeze(
        -1
    )


def least(values: Tensor, truncation: float | None) -> Tensor:
    """The smallest eigenvalue that counts."""
    rounding = torch.finfo(values.dtype).eps * values.shape[-1]
    return values.amax(-1, keepdim=True).clamp_min(0) * max(rounding, truncation or 0.0)


def rank(gram: Tensor, damping: float, truncation: float | None) -> int:
    """How many directions of the rows are more than damping, truncation and rounding; the least of the systems."""
    values = torch.linalg.eigvalsh(gram)
    floor = torch.maximum(least(values, truncation), torch.full_like(values[..., :1], damping))
    return int((values > floor).sum(-1).min())


def default_damping(dtype: torch.dtype) -> float:
    """The root of a rounding: λ of rows that contradict each other then brings no more than that into the step."""
    return math.sqrt(torch.finfo(dtype).eps)
