"""The plain Lagrangian: gradient descent on the weights, ascent on the multiplier."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from feasible.methods.augmented_lagrangian import next_multiplier
from feasible.methods.method import Method, Pull, State, state_like
from feasible.schedules import Schedule, check_weight, value_at
from feasible.sets import Set

__all__ = ["Lagrangian"]


@final
@dataclass(frozen=True, init=False)
class Lagrangian(Method):
    """The loss gains ``⟨λ, v⟩ − σ(λ)``, σ the set's support function; λ ascends by proximal steps.

    The step is ``λ ← prox(λ + η v)`` of ``η σ``, which by Moreau's identity is
    ``η (v + λ/η − P(v + λ/η))``: it needs no σ, and λ always stays where σ is finite. For ``v = 0`` this is
    ``λ + η v``, for ``v ≤ 0`` it is ``max(λ + η v, 0)``. Without a penalty the pair circles around the solution
    before it settles. A proportional gain damps it: with the running mean ``ξ ← ν ξ + (1 − ν) v`` the step is
    taken at ``v + κ/η (ξ − ξ_before)`` in the place of v, the value that is ahead. For ``v = 0`` this is the
    νPI controller ``λ = κ (ξ − ξ₀) + η Σ v``, for ``v ≤ 0`` the same with λ kept at 0 or above. κ = η and ν = 0
    is optimistic ascent; with ν = 0, κ acts as the penalty of ``AugmentedLagrangian``, one step late.

    Args:
        dual_lr: η > 0 (the integral gain), or a schedule; where it is left out the problem measures how the
            gradients of loss and value compare, and η is a twentieth of the scale that follows.
        proportional_gain: κ > 0, or a schedule; in units of the measured scale where dual_lr is left out.
        smoothing: ν in (−1, 1), of the proportional term.
        update: ``"ascent"`` or ``"nupi"``; ``None``: the latter where a proportional gain is given. The controller
            without a gain takes κ = 20 η.

    Raises:
        ValueError: dual_lr or proportional_gain is not positive, or smoothing out of its range.
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

    Source: Arrow, Hurwicz & Uzawa, *Studies in Linear and Non-Linear Programming* (1958); Sohrabi, Ramirez,
    Zhang, Lacoste-Julien & Gallego-Posada, *On PI controllers for updating Lagrange multipliers in constrained
    optimization* (2024).
    """

    dual_lr: float | Schedule | None = None
    proportional_gain: float | Schedule | None = None
    smoothing: float = 0.0

    has_multiplier = True
    convex_only = True

    # ``update`` is a verb of every method, so that it cannot be a field as well.
    def __init__(
        self,
        dual_lr: float | Schedule | None = None,
        proportional_gain: float | Schedule | None = None,
        smoothing: float = 0.0,
        *,
        update: Literal["ascent", "nupi"] | None = None,
    ) -> None:
        if update not in (None, "ascent", "nupi"):
            raise ValueError(f'Lagrangian: update must be "ascent" or "nupi", got {update!r}.')
        if update == "ascent" and proportional_gain is not None:
            raise ValueError('Lagrangian: proportional_gain belongs to update="nupi"; ascent has none.')
        if update == "nupi" and proportional_gain is None:
            if callable(dual_lr):
                raise ValueError("Lagrangian: give proportional_gain as well where dual_lr is a schedule.")
            proportional_gain = 1.0 if dual_lr is None else 20 * dual_lr
        for name, value in zip(
            ("dual_lr", "proportional_gain", "smoothing"),
            (dual_lr, proportional_gain, smoothing),
            strict=True,
        ):
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        for name in ("dual_lr", "proportional_gain"):
            if getattr(self, name) is not None:
                check_weight("Lagrangian", name, getattr(self, name))
        if not -1 < self.smoothing < 1:
            raise ValueError(f"Lagrangian: smoothing must be in (−1, 1), got {self.smoothing!r}.")
        if self.smoothing and self.proportional_gain is None:
            raise ValueError(
                "Lagrangian: smoothing is of the proportional term. Give proportional_gain as well, as in "
                "proportional_gain=1.0."
            )

    @property
    def automatic(self) -> bool:
        """Whether the rate is left to the problem."""
        return self.dual_lr is None

    def bind(self, value: Tensor, set: Set) -> State:
        """A multiplier an element, 0 at first, and the member that attains ``σ(λ) = ⟨λ, member⟩``."""
        state = {"multiplier": state_like(value), "member": state_like(value)}
        if self.proportional_gain is not None:
            state["smoothed"] = torch.full_like(state["multiplier"], math.nan)
        return state

    def pull(self, mean: Tensor, set: Set, state: State, step: int) -> Pull:
        """``⟨λ, v − member⟩``, whose gradient is λ."""
        multiplier = state["multiplier"]
        return Pull((multiplier * (mean - state["member"])).sum(), multiplier)

    def update(
        self, mean: Tensor, set: Set, state: State, step: int, full: bool, pull: Pull | None = None
    ) -> State:
        """The proximal ascent step; the projected point is the member that attains the new ``σ(λ)``."""
        rate = value_at(0.05 if self.dual_lr is None else self.dual_lr, step)
        changed: State = {}
        if self.proportional_gain is not None:
            before = torch.where(state["smoothed"].isnan(), mean, state["smoothed"])
            changed["smoothed"] = torch.lerp(mean, before, self.smoothing)
            gain = value_at(self.proportional_gain, step)
            mean = torch.add(mean, changed["smoothed"] - before, alpha=gain / rate)
        multiplier = next_multiplier(mean, state["multiplier"], set, rate)
        member = mean + (state["multiplier"] - multiplier) / rate
        return {"multiplier": multiplier, "member": member, **changed}
