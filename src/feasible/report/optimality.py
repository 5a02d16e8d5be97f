"""How far from a solution: stationarity, multipliers and what a bound costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from feasible.problem.constraint import Constraint, multiplier_of

if TYPE_CHECKING:
    from feasible.problem.problem import Problem


def stationarity(problem: Problem, constraint: Constraint) -> float | None:
    """``‖x − P(x − ∇f)‖`` for weights held in their set, ``‖∇‖`` of the last step otherwise."""
    slot = constraint.slot
    if slot is None:
        return _norm_of_gradients(problem)
    gradient = _gradient(constraint)
    if gradient is None:
        return None
    if _is_projected(constraint):
        x = slot.value().detach()
        gradient = x - constraint.bound.project(x - gradient)
    elif constraint.method.hard and slot.chart is None and constraint.bound.needs_tangent:
        gradient = gradient.clone()
        constraint.bound.reduce_gradients_([slot.value().detach()], [gradient], 1e-3)
    return float(torch.linalg.vector_norm(gradient.float()))


def _is_projected(constraint: Constraint) -> bool:
    """Whether a plain weight is held in a convex set by nothing but the projection."""
    method, slot = constraint.method, constraint.slot
    held = method.guarantee == "projected" and not constraint.has_term
    return held and slot is not None and slot.chart is None and constraint.bound.convex


def _gradient(constraint: Constraint) -> Tensor | None:
    """The gradient of what is minimised, in the last step, as it was before a method replaced it."""
    if constraint.raw_gradient is not None:
        return constraint.raw_gradient
    assert constraint.slot is not None
    gradient = constraint.slot.leaf.grad
    if gradient is None:
        return None
    return (gradient.to_dense() if gradient.is_sparse else gradient) * constraint.sign


def _norm_of_gradients(problem: Problem) -> float | None:
    gradients = [slot.leaf.grad for slot in problem.slots.values() if slot.leaf.grad is not None]
    norms = [
        torch.linalg.vector_norm(
            (gradient.coalesce().values() if gradient.is_sparse else gradient).float()
        ).cpu()
        for gradient in gradients
    ]
    return float(torch.stack(norms).norm()) if norms else None


def multiplier_and_price(constraint: Constraint) -> tuple[float | None, float | None]:
    """The largest multiplier with its sign, and the sum of their magnitudes per unit."""
    found = multiplier_of(constraint)
    if found is None:
        found = _multiplier_of_projection(constraint)
    if found is None or found.numel() == 0:
        return None, None
    flat = found.reshape(-1)
    assert constraint.measure is not None
    return float(flat[flat.abs().argmax()]), float(constraint.measure.price(found))


def _multiplier_of_projection(constraint: Constraint) -> Tensor | None:
    """For a projected weight: what of −∇f the set has taken away, an element of the normal cone."""
    slot, replaced = constraint.slot, constraint.method.replaces_gradients(constraint.bound)
    if slot is None or not _is_projected(constraint) or (replaced and constraint.raw_gradient is None):
        return None
    gradient = _gradient(constraint)
    if gradient is None:
        return None
    x = constraint.bound.project(slot.value().detach())
    mapped = gradient.clone()
    constraint.bound.reduce_gradients_([x], [mapped], 1e-3)
    return mapped - gradient
