"""The penalty–barrier multiplier method: a penalty outside, a barrier inside, and multipliers that make it exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.methods.method import Method, Pull, State, state_like
from feasible.methods.slacks import pulled_back, slacks
from feasible.schedules import Exponential, Schedule, check_weight, value_at
from feasible.sets import Set

__all__ = ["PenaltyBarrier"]

LEAST_MULTIPLIER = 1e-8
"""Multipliers of inactive inequalities stop here on their way to 0, from where they could not come back."""
JOINT = -0.5
"""Where the parabola of φ ends and its logarithm begins."""


@final
@dataclass(frozen=True)
class PenaltyBarrier(Method):
    """The loss gains ``Σ λ p φ(g/p)`` over the inequalities ``g = −slack(v) ≤ 0``, with multipliers λ > 0.

    ``φ(t) = t + t²/2`` from t = −1/2 on, and ``−log(−2t)/4 − 3/8`` below: smooth, and finite everywhere. When
    the optimizer has stepped, λ moves towards ``λ⁺ = λ φ′(g/p)`` of the step's mean value,
    ``λ ← λ + η (λ⁺ − λ)`` with ``η = dual_lr``, and all the way (η = 1) after a closure that ran more than once.
    An inequality with room loses its multiplier by a factor a step, and with it its influence. The inequalities
    of eigenvalues and singular values have kinks where two values meet; ``AugmentedLagrangian`` has none there.

    Args:
        penalty: p > 0, or a schedule: the slack that counts as little. The smaller, the steeper, and the faster
            the multipliers.
        dual_lr: η, the share of the way to λ⁺ that a step goes, or a schedule.
        first: λ of every inequality at first, > 0.
        max_change: λ⁺/λ is kept between this factor, > 1, and its inverse.

    Raises:
        ValueError: a number is out of its range.
        UnsupportedError: the set is not described by inequalities (use ``AugmentedLagrangian``).

    >>> import torch, feasible as fs
    >>> x = torch.tensor([3.0], requires_grad=True)
    >>> problem = fs.Problem([x])
    >>> handle = problem.require("x", fs.Box(upper=1.0), by=fs.PenaltyBarrier())
    >>> optimizer = problem.attach(torch.optim.SGD([x], lr=0.05))
    >>> for _ in range(1000):
    ...     optimizer.zero_grad()
    ...     problem.loss(((x - 2) ** 2).sum(), x=x).backward()
    ...     _ = optimizer.step()
    >>> round(x.item(), 3), round(handle.multiplier.item(), 2)
    (1.0, 2.0)

    Source: Ben-Tal & Zibulevsky, *Penalty/barrier multiplier methods for convex programming problems*, SIAM J.
    Optim. 7 (1997).
    """

    penalty: float | Schedule = Exponential(1.0, 0.998, minimum=0.3)
    dual_lr: float | Schedule = 0.05
    first: float = 1.0
    max_change: float = 2.0

    has_multiplier = True
    needs = ("slack",)

    def __post_init__(self) -> None:
        check_weight("PenaltyBarrier", "penalty", self.penalty)
        check_weight("PenaltyBarrier", "dual_lr", self.dual_lr)
        if not 0 < self.first < math.inf:
            raise ValueError(f"PenaltyBarrier: first must be positive and finite, got {self.first!r}.")
        if not 1 < self.max_change < math.inf:
            raise ValueError(
                f"PenaltyBarrier: max_change must be a finite factor above 1, got {self.max_change!r}."
            )

    def bind(self, value: Tensor, set: Set) -> State:
        """λ of every slack function, and the multiplier of the value that follows from them."""
        multiplier = state_like(value)
        return {"multiplier": multiplier, "duals": torch.full_like(slacks(multiplier, set), self.first)}

    def pull(self, mean: Tensor, set: Set, state: State, step: int) -> Pull:
        """``Σ λ p φ(g/p)`` and its gradient with respect to the value."""
        penalty = value_at(self.penalty, step)
        with torch.enable_grad():
            at = mean.detach().requires_grad_()
            amount = penalty * (state["duals"] * _cost(-slacks(at, set) / penalty)).sum()
            (gradient,) = torch.autograd.grad(amount, at)
        return Pull(amount.detach(), gradient)

    def update(
        self, mean: Tensor, set: Set, state: State, step: int, full: bool, pull: Pull | None = None
    ) -> State:
        """``λ + η (λ⁺ − λ)``, and what it means for the value: ``Σ λ ∇g``."""
        duals = state["duals"]
        factor = _slope(-slacks(mean, set) / value_at(self.penalty, step))
        target = duals * factor.clamp(1 / self.max_change, self.max_change)
        share = 1.0 if full else min(1.0, value_at(self.dual_lr, step))
        moved = duals.lerp(target, share).clamp_min(LEAST_MULTIPLIER)
        return {"duals": moved, "multiplier": -pulled_back(moved, mean, set)}


def _cost(t: Tensor) -> Tensor:
    """φ."""
    inside = t < JOINT
    beyond = -torch.log(-2 * torch.where(inside, t, JOINT)) / 4 - 3 / 8
    near = torch.where(inside, JOINT, t)
    return torch.where(inside, beyond, near + near.square() / 2)


def _slope(t: Tensor) -> Tensor:
    """φ′, positive and growing."""
    inside = t < JOINT
    return torch.where(inside, -1 / (4 * torch.where(inside, t, JOINT)), 1 + t)
