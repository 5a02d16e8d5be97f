"""Softmax annealing: the weight is a mean of members that becomes a single one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self, final

from torch import Tensor

from feasible.methods.method import Guarantee, Method, annealing
from feasible.methods.slot import Slot, remember_order
from feasible.sets import Integers, Set
from feasible.sets.charts import Chart
from feasible.sets.relaxation import phase, relaxations_of

__all__ = ["SoftmaxAnneal"]


@final
@dataclass(frozen=True)
class SoftmaxAnneal(Method):
    """The weight is ``Σ pᵢ cᵢ`` over members c, with ``p = softmax(z / T)``; T falls, and in the end one remains.

    The optimizer moves z. ``T = first · (last/first)^(step/steps)``; after ``steps`` the weight is exactly the
    member with the largest z, and stays it, while the rest of the model trains on. ``finish`` takes that
    member at any time.

    - ``OneHot``: the softmax along its dimension;
    - ``Permutation``: rows and columns of ``exp(z / T)`` scaled to sum to 1 (Sinkhorn); in the end the exact
      assignment on z, which needs scipy;
    - ``Candidates``: one softmax over all of them, z has one entry a candidate;
    - ``FiniteSet``, ``Integers`` with two bounds: ``softmax(−(z − v)² / (2 u² T))`` over the values v for each
      entry, u being their mean gap; z has the weight's shape, and the nearest value to it is the end.

    Args:
        steps: how many steps the temperature falls.
        first: the temperature at the start. Every entry of z is then of the order of 1.
        last: the temperature at the end.
        noise: factor of the Gumbel noise that is added to z / T, drawn anew for each step in training mode; 1 makes
            the weight a relaxed sample, 0.3 mostly finds more. Its seed comes from torch's default generator when
            the weight is declared, and is saved with the model.

    Raises:
        ValueError: a number is out of range.
        UnsupportedError: the set has no relaxation, or the problem holds bare tensors.

    >>> import torch, feasible as fs
    >>> model = torch.nn.Linear(4, 3, bias=False)
    >>> problem = fs.Problem(model)
    >>> _ = problem.constrain("weight", fs.OneHot(dim=0), by=fs.SoftmaxAnneal(steps=100))
    >>> model.weight.sum(0).round(decimals=4).tolist()
    [1.0, 1.0, 1.0, 1.0]
    >>> problem.finish()
    >>> bool(fs.OneHot(dim=0).contains(model.weight).all())
    True

    Source: Jang, Gu & Poole, *Categorical reparameterization with Gumbel-softmax* (2017); Maddison, Mnih & Teh,
    *The concrete distribution* (2017); for permutations Mena et al. (2018).
    """

    steps: int
    first: float = 1.0
    last: float = 0.03
    noise: float = 0.0

    guarantee = "by construction"
    hard = True
    latent = True
    for_values = False
    needs = ("relaxation",)
    on_saturation = "are as good as decided"

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"SoftmaxAnneal: steps must be a positive whole number, got {self.steps!r}.")
        for name in ("first", "last"):
            number = getattr(self, name)
            if not (isinstance(number, (int, float)) and math.isfinite(number) and number > 0):
                raise ValueError(f"SoftmaxAnneal: {name} must be positive and finite, got {number!r}.")
        if self.last > self.first:
            raise ValueError(
                f"SoftmaxAnneal: the temperature falls, so that last must be at most first; got first={self.first!r}, "
                f"last={self.last!r}."
            )
        if not (isinstance(self.noise, (int, float)) and math.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(f"SoftmaxAnneal: noise must be ≥ 0 and finite, got {self.noise!r}.")

    @classmethod
    def example(cls) -> Self:
        """A thousand steps."""
        return cls(1000)

    def objection(self, set: Set) -> str | None:
        """As of any method; whole numbers can be listed once they have two bounds."""
        reason = super().objection(set)
        if reason is not None and isinstance(set, Integers):
            return "it needs two bounds, with at most 256 numbers between them, as in Integers(-8, 7)"
        return reason

    def temperature(self, step: int) -> float:
        """The temperature after so many steps."""
        share = min(step / self.steps, 1.0)
        return float(self.first * (self.last / self.first) ** share)

    def guarantee_at(self, step: int) -> Guarantee:
        """A member once the schedule has ended, a mean of members before."""
        return "encouraged" if step < self.steps else "by construction"

    def stage(self, step: int) -> str:
        """How far it is."""
        return annealing(step, self.steps)

    def install(self, slot: Slot, set: Set) -> None:
        """One relaxation and one leaf of coordinates for all modules that own the weight."""
        for module, _ in slot.owners:
            remember_order(module)
        chart = set.relaxation().to(slot.leaf.device)
        assert isinstance(chart, Chart)
        for relaxation in relaxations_of(chart):
            relaxation.follow(self.first, 0)
            if self.noise:
                relaxation.add_noise(self.noise)
        slot.install(chart)

    def uninstall(self, slot: Slot, set: Set) -> None:
        """The weight is a plain parameter again."""
        slot.bake()

    def settle(self, slot: Slot, set: Set) -> Tensor:
        """The member of largest weight, whatever the noise of this step."""
        if all(relaxation.phase == "held" for relaxation in relaxations_of(slot.chart)):
            return slot.value().detach()
        with phase(slot.chart, "rounded"):
            return slot.value().detach()

    def follow(self, slot: Slot, set: Set, step: int) -> None:
        """Cool down; with the last step of the schedule the member is chosen."""
        found = relaxations_of(slot.chart)
        for relaxation in found:
            relaxation.follow(self.temperature(step), step)
            relaxation.phase = "soft" if step < self.steps else "held"
        if step == self.steps:
            with phase(slot.chart, "choosing"):
                slot.value()
