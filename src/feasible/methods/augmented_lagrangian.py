"""The augmented Lagrangian: a penalty whose multiplier makes it exact, for every set that projects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.methods.method import Method, Pull, State, state_like
from feasible.schedules import Schedule, check_weight, value_at
from feasible.sets import Set

__all__ = ["AugmentedLagrangian"]


@final
@dataclass(frozen=True)
class AugmentedLagrangian(Method):
    """The loss gains ``L(v, λ) = ρ/2 ‖v + λ/ρ − P(v + λ/ρ)‖² − ‖λ‖²/(2ρ)``.

    Its gradient is ``λ⁺(v) = ρ (v + λ/ρ − P(v + λ/ρ))``. When the optimizer has stepped, λ moves towards
    λ⁺ of the step's mean value: ``λ ← λ + η (λ⁺ − λ)`` with ``η = dual_lr/ρ``, and all the way (η = 1) after a
    closure that ran more than once, as L-BFGS runs it. At the solution ``∇f + Jᵀλ = 0`` with λ in the normal
    cone of the set: negative at a lower bound, positive at an upper one.

    Args:
        penalty: ρ > 0, or a schedule.
        dual_lr: how fast the multiplier follows, or a schedule. Under Adam 0.05 to 0.1 is stable for ρ from
            0.1 to 10; a larger rate is faster and needs a larger ρ (0.5: ρ = 10). Where neither number is
            given they are 1 and 0.05, and ``per="sample"`` measures distances in halves of the first value's
            RMS, so that they fit outputs of any size.

    Raises:
        ValueError: penalty or dual_lr is not positive.

    >>> import torch, feasible as fs
    >>> x = torch.tensor([1.0, 1.0], requires_grad=True)
    >>> problem = fs.Problem([x])
    >>> handle = problem.require("sum", fs.Equal(1.0), by=fs.AugmentedLagrangian())
    >>> optimizer = problem.attach(torch.optim.SGD([x], lr=0.1))
    >>> for _ in range(500):
    ...     optimizer.zero_grad()
    ...     problem.loss((x**2).sum(), sum=x.sum()).backward()
    ...     _ = optimizer.step()
    >>> torch.allclose(x, torch.tensor(0.5), atol=1e-4), round(handle.multiplier.item(), 3)
    (True, -1.0)

    Source: Rockafellar (1973); Bertsekas, *Constrained Optimization and Lagrange Multiplier Methods* (1982);
    Shapiro & Sun, *Some properties of the augmented Lagrangian in cone constrained optimization* (2004).
    """

    penalty: float | Schedule | None = None
    dual_lr: float | Schedule | None = None

    has_multiplier = True

    def __post_init__(self) -> None:
        for name in ("penalty", "dual_lr"):
            if getattr(self, name) is not None:
                check_weight("AugmentedLagrangian", name, getattr(self, name))

    @property
    def automatic(self) -> bool:
        """Whether both numbers are left to the problem."""
        return self.penalty is None and self.dual_lr is None

    def bind(self, value: Tensor, set: Set) -> State:
        """A multiplier an element, 0 at first."""
        return {"multiplier": state_like(value)}

    def pull(self, mean: Tensor, set: Set, state: State, step: int) -> Pull:
        """``L(mean, λ)`` and ``λ⁺(mean)``."""
        penalty = value_at(1.0 if self.penalty is None else self.penalty, step)
        multiplier = state["multiplier"]
        target = next_multiplier(mean, multiplier, set, penalty)
        return Pull((_square(target) - _square(multiplier)) / (2 * penalty), target)

    def update(
        self, mean: Tensor, set: Set, state: State, step: int, full: bool, pull: Pull | None = None
    ) -> State:
        """``λ + η (λ⁺ − λ)``."""
        penalty = value_at(1.0 if self.penalty is None else self.penalty, step)
        multiplier = state["multiplier"]
        target = pull.gradient if pull else next_multiplier(mean, multiplier, set, penalty)
        if full:
            return {"multiplier": target}
        dual_lr = value_at(0.05 if self.dual_lr is None else self.dual_lr, step)
        return {"multiplier": multiplier.lerp(target, min(1.0, dual_lr / penalty))}


def next_multiplier(mean: Tensor, multiplier: Tensor, set: Set, penalty: float) -> Tensor:
    """``λ⁺ = ρ (v + λ/ρ − P(v + λ/ρ))``: the multiplier that the penalty asks for at this value."""
    return set.residual(torch.add(mean, multiplier, alpha=1 / penalty)).mul_(penalty)


def _square(x: Tensor) -> Tensor:
    return x * x if x.dim() == 0 else torch.linalg.vector_norm(x).square()
