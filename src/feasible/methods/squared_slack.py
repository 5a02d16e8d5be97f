"""Slack variables: an inequality becomes an equality with a squared unknown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.methods.method import Method, Pull, State, state_like
from feasible.methods.slacks import pulled_back, slacks
from feasible.schedules import Schedule, check_weight, value_at
from feasible.sets import Set

__all__ = ["SquaredSlack"]

LEAST_SLACK = 1e-6
"""Slacks stop here on their way to 0, from where they could not come back."""


@final
@dataclass(frozen=True)
class SquaredSlack(Method):
    """``slack(v) − s² = 0`` by the augmented Lagrangian: the loss gains ``⟨μ, h⟩ + ρ/2 ‖h‖²``, ``h = slack(v) − s²``.

    ``slack`` are the set's own functions, ≥ 0 inside. When the optimizer has stepped, s descends on the same
    term with a step of ``slack_lr`` over its curvature, and ``μ ← μ + dual_lr · h``. s starts at the root of
    the first value's slack and never at 0, where it would stay for ever. In mini-batches every sample has a
    slack and a multiplier of its own: ``require(…, per="index")``.

    Args:
        penalty: ρ > 0, or a schedule.
        dual_lr: how fast the multiplier follows, or a schedule.
        slack_lr: share of the way to the best slack that a step goes, in (0, 1].

    Raises:
        ValueError: a number is out of its range.
        UnsupportedError: the set is not described by inequalities (use ``AugmentedLagrangian``).

    >>> import torch, feasible as fs
    >>> x = torch.tensor([-1.0], requires_grad=True)
    >>> problem = fs.Problem([x])
    >>> handle = problem.require("x", fs.NonNegative(), by=fs.SquaredSlack())
    >>> optimizer = problem.attach(torch.optim.SGD([x], lr=0.1))
    >>> for _ in range(2000):
    ...     optimizer.zero_grad()
    ...     problem.loss(((x + 1) ** 2).sum(), x=x).backward()
    ...     _ = optimizer.step()
    >>> abs(round(x.item(), 3)), round(handle.multiplier.item(), 2)
    (0.0, -2.0)

    Source: Bertsekas, *Nonlinear Programming*, section 4.3 (squared slack variables).
    """

    penalty: float | Schedule = 1.0
    dual_lr: float | Schedule = 0.05
    slack_lr: float = 0.2

    has_multiplier = True
    needs = ("slack",)

    def __post_init__(self) -> None:
        check_weight("SquaredSlack", "penalty", self.penalty)
        check_weight("SquaredSlack", "dual_lr", self.dual_lr)
        if not 0 < self.slack_lr <= 1:
            raise ValueError(f"SquaredSlack: slack_lr must be in (0, 1], got {self.slack_lr!r}.")

    def bind(self, value: Tensor, set: Set) -> State:
        """A dual variable and a slack for every slack function; the slack is NaN until its value is seen."""
        multiplier = state_like(value)
        slack = slacks(multiplier, set)
        return {
            "multiplier": multiplier,
            "duals": torch.zeros_like(slack),
            "slack": torch.full_like(slack, math.nan),
        }

    def pull(self, mean: Tensor, set: Set, state: State, step: int) -> Pull:
        """``⟨μ, h⟩ + ρ/2 ‖h‖²`` and its gradient with respect to the value."""
        with torch.enable_grad():
            at = mean.detach().requires_grad_()
            value = slacks(at, set)
            gap = value - _seen(state["slack"], value).square()
            penalty = value_at(self.penalty, step)
            amount = (state["duals"] * gap).sum() + penalty / 2 * gap.square().sum()
            (gradient,) = torch.autograd.grad(amount, at)
        return Pull(amount.detach(), gradient)

    def update(
        self, mean: Tensor, set: Set, state: State, step: int, full: bool, pull: Pull | None = None
    ) -> State:
        """Descent in the slack, ascent in its dual variable; ``Jᵀμ`` is the multiplier of the value itself."""
        duals, value = state["duals"], slacks(mean, set)
        slack, penalty = _seen(state["slack"], value), value_at(self.penalty, step)
        force = duals + penalty * (value - slack.square())
        curvature = 2 * force.abs() + 4 * penalty * slack.square()
        share = 1.0 if full else self.slack_lr
        moved = (slack + share * 2 * slack * force / curvature).clamp_min(LEAST_SLACK)
        rate = penalty if full else value_at(self.dual_lr, step)
        duals = duals + rate * (value - moved.square())
        return {"slack": moved, "duals": duals, "multiplier": pulled_back(duals, mean, set)}


def _seen(slack: Tensor, value: Tensor) -> Tensor:
    """The slack, or the root of the value's own where none was kept before; never 0, a stationary point."""
    typical = torch.linalg.vector_norm(value) / math.sqrt(max(value.numel(), 1))
    least = torch.where(typical > 0, typical, torch.ones_like(typical)) / 100
    return torch.where(slack.isnan(), torch.maximum(value, least).sqrt(), slack)
