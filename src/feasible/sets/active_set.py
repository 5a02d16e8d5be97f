"""The nearest point under linear inequalities: a dual active-set method for many vectors at once."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

EPS = torch.finfo(torch.float64).eps
DEPENDENT = 1e-10
"""Share of a unit normal that must be left outside the active normals' span to count as independent."""
MOST_NUMBERS = 1 << 24
"""Numbers in one batch of active normals' Gram matrices."""


@torch.library.custom_op("feasible::nearest_under_inequalities", mutates_args=())
def nearest_under_inequalities(
    x: Tensor, normals: Tensor, offsets: Tensor, rounding: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``argmin_p ½‖p − x‖²`` subject to ``normals p ≤ offsets`` for each row of ``x``.

    Args:
        x: vectors (B, n) in float64.
        normals: one row of length 1 (or 0) for each inequality, (m, n).
        offsets: (B, m); +inf where there is no inequality.
        rounding: relative error of the data; inequalities that contradict each other by no more are compatible.

    Returns:
        The points; which inequalities are active there, linearly independent ones only; and whether there is any
        such point. Where there is none, the active ones contradict each other.

    Source: Goldfarb & Idnani, *A numerically stable dual method for solving strictly convex quadratic programs*,
    Math. Program. 27 (1983).
    """
    points, active = torch.full_like(x, math.nan), x.new_zeros(offsets.shape, dtype=torch.bool)
    feasible = x.new_ones(x.shape[0], dtype=torch.bool)
    gram = normals @ normals.mT
    chunk = max(MOST_NUMBERS // max(min(normals.shape), 1) ** 2, 1)
    for rows in torch.split(x.isfinite().all(-1).nonzero().squeeze(1), chunk):
        search = _Search(x[rows], normals, offsets[rows], gram, rounding)
        search.run()
        points[rows], active[rows], feasible[rows] = search.points, search.active, search.feasible
    return points, active, feasible


@nearest_under_inequalities.register_fake
def _(x: Tensor, normals: Tensor, offsets: Tensor, rounding: float) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(x),
        offsets.new_empty(offsets.shape, dtype=torch.bool),
        x.new_empty(x.shape[0], dtype=torch.bool),
    )


def _all_batches(
    info: Any, in_dims: tuple[int | None, ...], x: Tensor, normals: Tensor, offsets: Tensor, rounding: float
) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int, int, int]]:
    """One more batch dimension is only more rows; the inequalities' normals are the same for all of them."""
    if in_dims[1] is not None:
        raise NotImplementedError(
            "vmap over the normals of a polyhedron: make one polyhedron for each of them."
        )
    batches = [
        value.movedim(dim, 0) if dim is not None else value.expand(info.batch_size, *value.shape)
        for value, dim in ((x, in_dims[0]), (offsets, in_dims[2]))
    ]
    results = nearest_under_inequalities(
        batches[0].flatten(0, 1), normals, batches[1].flatten(0, 1), rounding
    )
    points, active, feasible = (result.unflatten(0, (info.batch_size, -1)) for result in results)
    return (points, active, feasible), (0, 0, 0)


nearest_under_inequalities.register_vmap(_all_batches)


class _Search:
    """Violated inequalities enter one by one; active ones whose multiplier falls to 0 leave."""

    def __init__(self, x: Tensor, normals: Tensor, offsets: Tensor, gram: Tensor, rounding: float) -> None:
        self.normals, self.offsets, self.gram = normals, offsets.clone(), gram
        self.points = x.clone()
        self.active = torch.zeros_like(offsets, dtype=torch.bool)
        self.multipliers = torch.zeros_like(offsets)
        self.feasible = torch.ones_like(x[:, 0] if x.shape[1] else x.sum(1), dtype=torch.bool)
        sizes = torch.linalg.vector_norm(x, dim=-1, keepdim=True) + offsets.abs().nan_to_num(posinf=0)
        self.allowed, self.explained = 8 * EPS * sizes, rounding * sizes

    def run(self) -> None:
        """Until no vector violates an inequality, or none is left to make room for one that is violated."""
        rows = torch.arange(self.points.shape[0], device=self.points.device)
        entering = torch.full_like(rows, -1)
        while rows.numel() and self.offsets.shape[1]:
            violation = self._violation(rows)
            worst, chosen = violation.max(-1)
            is_new = entering < 0
            entering = torch.where(is_new, chosen, entering)
            open_ = ~is_new | (worst > 0)
            rows, entering = rows[open_], entering[open_]
            if rows.numel():
                entering = self._step(rows, entering)
                left = entering >= -1
                rows, entering = rows[left], entering[left]
        self._refine()

    def _violation(self, rows: Tensor) -> Tensor:
        excess = self.points[rows] @ self.normals.mT - self.offsets[rows]
        return torch.where(self.active[rows] | (excess <= self.allowed[rows]), -math.inf, excess)

    def _step(self, rows: Tensor, entering: Tensor) -> Tensor:
        """As far as the entering inequality is satisfied or an active one gives way.

        Returns:
            For each row the inequality that is still entering; −1 where it has become active, −2 where it cannot.
        """
        direction, change = self._direction(rows, entering)
        length = direction.square().sum(-1)
        is_dependent = length <= DEPENDENT**2 * (1 + change.square().sum(-1))
        position = torch.arange(rows.numel(), device=rows.device)
        excess = (self.points[rows] * self.normals[entering]).sum(-1) - self.offsets[rows, entering]
        whole = torch.where(is_dependent, math.inf, excess / length)
        held, leaving = torch.where(
            self.active[rows] & (change > EPS), self.multipliers[rows] / change, math.inf
        ).min(-1)
        step = torch.minimum(whole.clamp_min(0), held.clamp_min(0))
        is_blocked = step.isinf()
        is_explained = is_blocked & (excess <= self.explained[rows, entering])
        self.offsets[rows[is_explained], entering[is_explained]] = math.inf
        is_stuck = is_blocked & ~is_explained
        step = torch.where(is_blocked, 0.0, step).unsqueeze(-1)
        self.points[rows] -= torch.where(is_dependent.unsqueeze(-1), 0.0, step * direction)
        multipliers = self.multipliers[rows] - step * change
        multipliers[position, entering] += step.squeeze(-1)
        enters = ~is_blocked & (whole <= held)
        leaves = ~is_blocked & ~enters
        active = self.active[rows]
        active[position, entering] = enters | is_stuck
        active[position[leaves], leaving[leaves]] = False
        multipliers[position[leaves], leaving[leaves]] = 0.0
        self.active[rows], self.multipliers[rows] = active, multipliers
        self.feasible[rows] &= ~is_stuck
        return torch.where(is_stuck, -2, torch.where(leaves, entering, -1))

    def _direction(self, rows: Tensor, entering: Tensor) -> tuple[Tensor, Tensor]:
        """The entering normal's part outside the span of the active ones, and its coefficients in that span."""
        active = self.active[rows]
        most = most_active(active)
        change = solve_active(self.gram, active, self.gram[entering], most)
        direction = self.normals[entering] - change @ self.normals
        again = solve_active(self.gram, active, direction @ self.normals.mT, most)
        return direction - again @ self.normals, change + again

    def _refine(self) -> None:
        """Put the points exactly onto their active inequalities."""
        for _ in range(2):
            excess = torch.where(self.active, self.points @ self.normals.mT - self.offsets, 0.0)
            moved = solve_active(self.gram, self.active, excess, most_active(self.active)) @ self.normals
            self.points -= torch.where(self.feasible.unsqueeze(-1), moved, 0.0)


def most_active(active: Tensor) -> int:
    """Largest number of active inequalities of a vector; this reads a value back."""
    return int(active.sum(-1).max()) if active.numel() else 0


def solve_active(gram: Tensor, active: Tensor, right: Tensor, most: int) -> Tensor:
    """``λ`` with ``(gram λ)[active] = right[active]`` and 0 elsewhere, for each row; at most ``most`` are active."""
    if most == 0:
        return torch.zeros_like(right)
    is_active, chosen = active.to(torch.uint8).sort(dim=-1, descending=True, stable=True)
    is_active, chosen = is_active[:, :most].bool(), chosen[:, :most]
    matrices = gram[chosen.unsqueeze(-1), chosen.unsqueeze(-2)]
    both = is_active.unsqueeze(-1) & is_active.unsqueeze(-2)
    matrices = torch.where(both, matrices, torch.eye(most, dtype=gram.dtype, device=gram.device))
    sides = torch.where(is_active, right.gather(-1, chosen), 0.0)
    solution = torch.linalg.solve_ex(matrices, sides.unsqueeze(-1)).result.squeeze(-1)
    return torch.zeros_like(right).scatter(-1, chosen, torch.where(is_active, solution, 0.0))
