"""The KKT conditions, checked at a point by themselves: whoever found it, and however."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from feasible.sets import Set
from feasible.solve.minimization.program import Program
from feasible.solve.minimization.result import KKT, gradient_unit
from feasible.solve.minimization.unknowns import Vector

LARGEST = 10**7
"""Entries of the active Jacobian up to which its rank is worked out."""


def certify(program: Program, x: Vector, multipliers: Sequence[Tensor]) -> tuple[KKT, float]:
    """The certificate at x for these multipliers, and the objective there."""
    leaves = program.unknowns.leaves(x)
    with torch.enable_grad():
        objective = program.objective_at(leaves)
        values = program.values_of(leaves)
    gradient = program.derivatives.gradient(objective, leaves)
    total, size = gradient.astype(np.float64), max(1.0, float(np.abs(gradient).max()))
    feasibility, complementarity = 0.0, 0.0
    for requirement, value, multiplier in zip(program.requirements, values, multipliers, strict=True):
        pulled = _pulled(program, value, multiplier, leaves)
        total += pulled
        size = max(size, float(np.abs(pulled).max()))
        precise = value.detach().to("cpu", torch.float64)
        feasibility = max(feasibility, _largest(requirement.set.distance(precise)))
        complementarity = max(complementarity, _off_normal(requirement.set, precise, multiplier))
    active, rank = _active(program, values, leaves, multipliers, x)
    certificate = KKT(
        float(np.abs(total).max()) / gradient_unit(size), feasibility, complementarity, active, rank
    )
    return certificate, objective.item()


def _pulled(program: Program, value: Tensor, multiplier: Tensor, leaves: Sequence[Tensor]) -> Vector:
    """``Jᵀλ``."""
    if not value.requires_grad or not bool(multiplier.any()):
        return np.zeros(program.unknowns.count)
    weights = multiplier.to(value.device, value.dtype)
    parts = torch.autograd.grad(
        value, leaves, weights, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return program.unknowns.flat(parts)


def _largest(values: Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0


def _off_normal(set: Set, value: Tensor, multiplier: Tensor) -> float:
    """How far the multiplier is from the normal cone: ``P(v + λ) = v`` exactly where it is in it."""
    size = _largest(multiplier.abs())
    if size == 0:
        return 0.0
    # A set that is not convex has room for a short normal only.
    short = (
        min(1.0, size)
        if set.convex
        else 0.25 * set.size / max(float(torch.linalg.vector_norm(multiplier)), 1e-300) * size
    )
    moved = set.project(value + multiplier * (short / size))
    return _largest((moved - value).abs())


def _active(
    program: Program,
    values: Sequence[Tensor],
    leaves: Sequence[Tensor],
    multipliers: Sequence[Tensor],
    x: Vector,
) -> tuple[int, int | None]:
    """How many rows are active, and the rank of their gradients."""
    near = 1e-6 * max(1.0, float(np.abs(x).max()))
    held = (x <= program.lower + near) | (x >= program.upper - near)
    rows, known = [], True
    for requirement, value in zip(program.requirements, values, strict=True):
        if requirement.bounds is None and requirement.rows is None:
            known = False
        for row in requirement.rows or ():
            with torch.enable_grad():
                seen = row.function(value).reshape(-1)
            height, low, high = (part.detach().double().cpu() for part in (seen, row.lower, row.upper))
            reach = near * torch.ones_like(height)
            is_active = (height <= low + reach) | (height >= high - reach)
            rows.append(seen[is_active.to(seen.device).nonzero().squeeze(-1)])
    count = int(held.sum()) + sum(row.numel() for row in rows)
    general = sum(row.numel() for row in rows)
    if not known or general * program.unknowns.count > LARGEST:
        return count, None
    if not general:
        return count, count
    jacobian = program.derivatives.jacobian([row for row in rows if row.numel()], leaves)[:, ~held]
    size = np.linalg.norm(jacobian, axis=1, keepdims=True)
    scaled = jacobian / np.where(size == 0, 1.0, size)
    rank = int(np.linalg.matrix_rank(np.linalg.qr(scaled.T, mode="r"), tol=1e-8)) if scaled.size else 0
    return count, int(held.sum()) + rank
