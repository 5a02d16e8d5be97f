"""The plain Lagrangian: gradient descent on the weights, ascent on the multiplier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from feasible.methods.augmented_lagrangian import next_multiplier
from feasible.methods.method import Method, Pull, State, state_like
from feasible.schedules import Schedule, check_weight, value_at
from feasible.sets import Set

__all__ = ["Lagrangian"]


@final
@dataclass(frozen=True)
class Lagrangian(Method):
    """The loss gains ``⟨λ, v⟩ − σ(λ)``, σ the set's support function; λ ascends by proximal steps.

    The step is ``λ ← prox(λ + η v)`` of ``η σ``, which by Moreau's identity is
    ``η (v + λ/η − P(v + λ/η))``: λ always stays where σ is finite. For ``v = 0`` this is ``λ + η v``, for
    ``v ≤ 0`` it is ``max(λ + η v, 0)``. Without a penalty the pair circles around the solution before it
    settles; ``AugmentedLagrangian`` damps that.

    Args:
        dual_lr: η > 0, or a schedule; where it is left out 0.05, and ``per="sample"`` measures distances in
            halves of the first value's RMS.

    Raises:
        ValueError: dual_lr is not positive.
        UnsupportedError: the set is not convex.

    >>> import torch, feasible as fs
    >>> x = torch.tensor([2.0], requires_grad=True)
    >>> problem = fs.Problem([x])
    >>> handle = problem.require("x", fs.Box(upper=1.0), by=fs.Lagrangian(dual_lr=0.1))
    >>> optimizer = problem.attach(torch.optim.SGD([x], lr=0.1))
    >>> for _ in range(1000):
    ...     optimizer.zero_grad()
    ...     problem.loss(((x - 2) ** 2).sum(), x=x).backward()
    ...     _ = optimizer.step()
    >>> round(x.item(), 4), round(handle.multiplier.item(), 3)
    (1.0, 2.0)

    Source: Arrow, Hurwicz & Uzawa, *Studies in Linear and Non-Linear Programming* (1958).
    """

    dual_lr: float | Schedule | None = None

    has_multiplier = True
    convex_only = True

    def __post_init__(self) -> None:
        if self.dual_lr is not None:
            check_weight("Lagrangian", "dual_lr", self.dual_lr)

    @property
    def automatic(self) -> bool:
        """Whether the rate is left to the problem."""
        return self.dual_lr is None

    def bind(self, value: Tensor, set: Set) -> State:
        """A multiplier an element, 0 at first, and the member that attains ``σ(λ) = ⟨λ, member⟩``."""
        return {"multiplier": state_like(value), "member": state_like(value)}

    def pull(self, mean: Tensor, set: Set, state: State, step: int) -> Pull:
        """``⟨λ, v − member⟩``, whose gradient is λ."""
        multiplier = state["multiplier"]
        return Pull((multiplier * (mean - state["member"])).sum(), multiplier)

    def update(
        self, mean: Tensor, set: Set, state: State, step: int, full: bool, pull: Pull | None = None
    ) -> State:
        """The proximal ascent step; the projected point is the member that attains the new ``σ(λ)``."""
        rate = value_at(0.05 if self.dual_lr is None else self.dual_lr, step)
        multiplier = next_multiplier(mean, state["multiplier"], set, rate)
        return {"multiplier": multiplier, "member": mean + (state["multiplier"] - multiplier) / rate}
