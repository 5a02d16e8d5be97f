"""Penalties: the distance to the set, weighted, is added to the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from feasible.methods.method import Method, Pull, State
from feasible.schedules import Schedule, check_weight, value_at
from feasible.sets import Set

__all__ = ["Penalty"]


@final
@dataclass(frozen=True)
class Penalty(Method):
    """The loss gains ``weight/2 · ‖v − P v‖²`` (``"squared"``) or ``weight · ‖v − P v‖`` (``"exact"``).

    The squared penalty is smooth and leaves a violation that shrinks like 1/weight. The exact one is zero
    violation beyond a finite weight (larger than the multiplier), and is not smooth at the boundary.

    Args:
        weight: a positive number, or a schedule (a growing weight forces the constraint in the end).
        kind: ``"squared"`` or ``"exact"``.

    Raises:
        ValueError: the weight is not positive, or the kind is unknown.

    >>> import torch, feasible as fs
    >>> w = torch.tensor([-2.0], requires_grad=True)
    >>> problem = fs.Problem([w])
    >>> _ = problem.constrain("0", fs.NonNegative(), by=fs.Penalty(3.0))
    >>> problem.loss(torch.tensor(0.0))
    tensor(6., grad_fn=<...>)

    Source: Nocedal & Wright, *Numerical Optimization*, chapter 17.
    """

    weight: float | Schedule
    kind: Literal["squared", "exact"] = "squared"

    def __post_init__(self) -> None:
        check_weight("Penalty", "weight", self.weight, from_zero=True)
        if self.kind not in ("squared", "exact"):
            raise ValueError(f'Penalty: kind must be "squared" or "exact", got {self.kind!r}.')

    def pull(self, mean: Tensor, set: Set, state: State, step: int) -> Pull:
        """The weighted distance and its gradient, which points away from the nearest member."""
        weight = value_at(self.weight, step)
        residual = set.residual(mean)
        if self.kind == "squared":
            gradient = residual * weight
            return Pull((residual * gradient).sum() / 2, gradient)
        norm = set.norm(residual)
        length = set.spread(torch.where(norm == 0, torch.ones_like(norm), norm), residual)
        return Pull(norm.sum() * weight, residual * (weight / length))
