"""The augmented Lagrangian: a penalty whose multiplier makes it exact, for every set that projects."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import final

import torch
from torch import Tensor

from feasible.methods.method import Method, Pull, State, state_like
from feasible.schedules import Schedule, check_weight, value_at
from feasible.sets import Set

__all__ = ["AugmentedLagrangian"]

MOST_GROWTH = 10.0
"""How far a penalty grows where no cap is given: the dual rate grows with it, and is stable about so far."""
ONE_SIDED = 0.75
"""A violation whose mean is smaller than this share of its mean size is noise, or swings around the solution."""
CONVERGED = 1e-4
"""A multiplier that is asked to move by less than this share of itself is no reason to grow the penalty."""


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
            given the problem measures, in its steps 0, 1, 2, 4, 8, …, how the gradients of loss and value compare:
            ρ is the scale that follows, and dual_lr a twentieth of it, whatever the units of both are.
        growth: above 1, ρ is multiplied by it whenever the violation ``(λ⁺ − λ)/ρ`` stalls. λ stays as it is,
            and so does η: the dual rate grows with ρ.
        shrink: the violation stalls where its mean over ``patience`` ticks is larger than this share of the
            mean over the ticks before, and no mere swing or noise around 0.
        patience: that number of ticks.
        max_penalty: where ρ stops, in units of the measured scale where penalty is left out; ten times the first ρ
            where it is left out itself.
        per_element: every unit of the set has a ρ of its own, and grows it by its own violation: an entry of a
            separable set, a vector or a matrix of the others, whose entries must share it, since their
            projection is the nearest point in the Euclidean norm only.

    Raises:
        ValueError: penalty or dual_lr is not positive, or a number of the growth is out of its range.

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
    _: KW_ONLY
    growth: float = 1.0
    shrink: float = 0.5
    patience: int = 50
    max_penalty: float | None = None
    per_element: bool = False

    has_multiplier = True

    def __post_init__(self) -> None:
        for name in ("penalty", "dual_lr"):
            if getattr(self, name) is not None:
                check_weight("AugmentedLagrangian", name, getattr(self, name))
        _check_growth(self)

    @property
    def automatic(self) -> bool:
        """Whether both numbers are left to the problem."""
        return self.penalty is None and self.dual_lr is None

    @property
    def grows(self) -> bool:
        """Whether the penalty is part of the state."""
        return self.growth != 1

    def bind(self, value: Tensor, set: Set) -> State:
        """A multiplier an element, 0 at first; a penalty that grows, and what tells whether it should."""
        multiplier = state_like(value)
        if not self.grows:
            return {"multiplier": multiplier}
        zero = set.norm(multiplier) if self.per_element else multiplier.new_zeros(())
        return {
            "multiplier": multiplier,
            "penalty": torch.full_like(zero, self._scheduled(0)),
            "mean_violation": torch.zeros_like(multiplier),
            "mean_size": zero,
            "size_before": torch.full_like(zero, torch.finfo(zero.dtype).max),
            "waited": torch.zeros_like(zero),
        }

    def pull(self, mean: Tensor, set: Set, state: State, step: int) -> Pull:
        """``L(mean, λ)`` and ``λ⁺(mean)``."""
        penalty = self._penalty(set, state, step)
        multiplier = state["multiplier"]
        target = next_multiplier(mean, multiplier, set, penalty)
        if self.per_element:
            return Pull(((target.square() - multiplier.square()) / (2 * penalty)).sum(), target)
        return Pull((_square(target) - _square(multiplier)) / (2 * penalty), target)

    def update(
        self, mean: Tensor, set: Set, state: State, step: int, full: bool, pull: Pull | None = None
    ) -> State:
        """``λ + η (λ⁺ − λ)``, and the penalty of the next step."""
        penalty = self._penalty(set, state, step)
        multiplier = state["multiplier"]
        target = pull.gradient if pull else next_multiplier(mean, multiplier, set, penalty)
        grown = self._grown(target, penalty, set, state) if self.grows else {}
        if full:
            return {"multiplier": target, **grown}
        dual_lr = value_at(0.05 if self.dual_lr is None else self.dual_lr, step)
        share = min(1.0, dual_lr / self._scheduled(step))
        return {"multiplier": multiplier.lerp(target, share), **grown}

    def _scheduled(self, step: int) -> float:
        return value_at(1.0 if self.penalty is None else self.penalty, step)

    def _penalty(self, set: Set, state: State, step: int) -> float | Tensor:
        """ρ as the formula takes it."""
        return self._of_entries(state["penalty"], set, state) if self.grows else self._scheduled(step)

    def _of_entries(self, values: Tensor, set: Set, state: State) -> Tensor:
        """What units have of their own, for each of their entries; what is shared as it is."""
        return set.spread(values, state["multiplier"]) if self.per_element else values

    def _grown(self, target: Tensor, penalty: float | Tensor, set: Set, state: State) -> State:
        """One tick of the watch over the violation; at the end of a period the penalty may grow."""
        size = set.norm if self.per_element else torch.linalg.vector_norm
        waited = state["waited"] + 1
        violation = (target - state["multiplier"]) / penalty
        mean, mean_size = state["mean_violation"], state["mean_size"]
        mean = mean + (violation - mean) / self._of_entries(waited, set, state)
        mean_size = mean_size + (size(violation) - mean_size) / waited
        reached = size(mean)
        is_over = waited >= self.patience
        stalls = (
            (reached > self.shrink * state["size_before"])
            & (reached > ONE_SIDED * mean_size)
            & (reached * state["penalty"] > CONVERGED * size(target))
        )
        larger = (state["penalty"] * self.growth).clamp_max(self._cap)
        return {
            "penalty": torch.where(is_over & stalls, larger, state["penalty"]),
            "mean_violation": torch.where(self._of_entries(is_over, set, state), 0.0, mean),
            "mean_size": torch.where(is_over, 0.0, mean_size),
            "size_before": torch.where(is_over, reached, state["size_before"]),
            "waited": torch.where(is_over, 0.0, waited),
        }

    @property
    def _cap(self) -> float:
        return MOST_GROWTH * self._scheduled(0) if self.max_penalty is None else self.max_penalty


def next_multiplier(mean: Tensor, multiplier: Tensor, set: Set, penalty: float | Tensor) -> Tensor:
    """``λ⁺ = ρ (v + λ/ρ − P(v + λ/ρ))``: the multiplier that the penalty asks for at this value."""
    if isinstance(penalty, Tensor):
        return set.residual(mean + multiplier / penalty) * penalty
    return set.residual(torch.add(mean, multiplier, alpha=1 / penalty)).mul_(penalty)


def _square(x: Tensor) -> Tensor:
    return x * x if x.dim() == 0 else torch.linalg.vector_norm(x).square()


def _check_growth(method: AugmentedLagrangian) -> None:
    """Raise ``ValueError`` where the numbers of the growth are out of range, or stand without it."""
    if not 1 <= method.growth < math.inf:
        raise ValueError(
            f"AugmentedLagrangian: growth must be a factor of at least 1 (1: the penalty stays), got {method.growth!r}."
        )
    if not 0 < method.shrink < 1:
        raise ValueError(f"AugmentedLagrangian: shrink must be in (0, 1), got {method.shrink!r}.")
    if not isinstance(method.patience, int) or method.patience < 1:
        raise ValueError(
            f"AugmentedLagrangian: patience must be a positive number of ticks, got {method.patience!r}."
        )
    if not method.grows:
        for name in ("max_penalty", "per_element"):
            if getattr(method, name):
                raise ValueError(
                    f"AugmentedLagrangian: {name} is for a penalty that grows. Give growth as well, as in growth=2.0."
                )
        return
    if callable(method.penalty):
        raise ValueError(
            "AugmentedLagrangian: a penalty grows by its schedule or by growth, not by both. "
            "Give penalty as a number, or leave growth out."
        )
    first = 1.0 if method.penalty is None else method.penalty
    if method.max_penalty is not None and not first <= method.max_penalty < math.inf:
        raise ValueError(
            f"AugmentedLagrangian: max_penalty must be finite and at least the first penalty, {first:g}, "
            f"got {method.max_penalty!r}."
        )
