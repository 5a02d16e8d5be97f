"""Annealing in place: the distance to the nearest member shrinks on a schedule, from untouched to rounded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self, final

from torch import Tensor

from feasible.methods.method import Guarantee, Method, annealing
from feasible.methods.moments import Moments
from feasible.methods.slot import Slot
from feasible.methods.straight_through import objection_to_convex
from feasible.sets import Set
from feasible.sets.discrete import Lattice

__all__ = ["ProximalAnneal"]

_PIECE = 2**16
"""Entries that are treated at a time: a few passes over them stay in the cache."""


@final
@dataclass(frozen=True)
class ProximalAnneal(Method):
    """After the optimizer's step ``w ← P(w) + q · (w − P(w))``, with q from 1 (untouched) to 0 (rounded).

    Left alone, a weight would keep ``s(t) = (1 − t^power)^strength`` of its distance to the nearest member after
    a share t of the steps. s is followed in quarters: the weight is corrected in those steps alone in which s
    falls below the next power of ¼, rarely at first and at the end in every step. From step ``steps`` on
    ``w ← P(w)``. The map is the proximal map of ``c/2 · dist²`` with ``q = 1/(1 + c)``, affine within the cell of
    each member; it knows no scale, so lists of any spacing and sets of vectors or matrices anneal alike.

    The weight moves in place: no module changes, bare tensors will do, and a resumed training goes on bit for
    bit. The first two thirds of the steps are nearly free; rates should let weights cross half the gap between two
    members in that time. For sets that are not convex.

    Args:
        steps: how many steps of the clock it takes.
        strength: how strongly the distance shrinks.
        power: how late it begins.

    Raises:
        ValueError: ``steps`` is not a positive whole number, ``strength`` or ``power`` not positive and finite.
        UnsupportedError: the set is convex, or the optimizer is L-BFGS.

    >>> import torch, feasible as fs
    >>> w = torch.tensor([0.3, -0.6], requires_grad=True)
    >>> problem = fs.Problem({"w": w})
    >>> _ = problem.constrain("w", fs.FiniteSet([-1, 0, 1]), by=fs.ProximalAnneal(steps=10))
    >>> for _ in range(10):
    ...     problem.step()
    >>> w.tolist()
    [0.0, -1.0]

    Source: Yin et al., *BinaryRelax* (2018); Jin, Ma & Xiao, *PARQ: piecewise-affine regularized quantization*
    (2025). The schedule is our own; ``benchmarks/anneal.py`` sets it beside PARQ's.
    """

    steps: int
    strength: float = 16.0
    power: float = 12.0

    guarantee = "projected"
    hard = True
    for_values = False
    repeatable = False

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"ProximalAnneal: steps must be a positive whole number, got {self.steps!r}.")
        for name in ("strength", "power"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f"ProximalAnneal: {name} must be positive and finite, got {value!r}.")

    @classmethod
    def example(cls) -> Self:
        """A thousand steps."""
        return cls(steps=1000)

    def objection(self, set: Set) -> str | None:
        """Convex sets are reached without a heuristic."""
        return objection_to_convex(set)

    def guarantee_at(self, step: int) -> Guarantee:
        """Nothing is promised before the anneal is through."""
        return "projected" if step >= self.steps else "encouraged"

    def stage(self, step: int) -> str:
        """How far it is."""
        return annealing(step, self.steps)

    def settle(self, slot: Slot, set: Set) -> Tensor:
        """The nearest member."""
        return set.project(slot.value().detach())

    def corrects(self, step: int) -> bool:
        """Where another quarter is due, and from the end on."""
        return step + 1 >= self.steps or self._quarters(step + 1) > self._quarters(step)

    def correct(self, slots: Sequence[Slot], moments: Moments, set: Set, step: int) -> None:
        """Divide the distance to the nearest member by 4 as often as is due; round at the end."""
        weights = [slot.leaf for slot in slots]
        if step + 1 >= self.steps:
            set.project_all_(weights)
            return
        share = 1 - 0.25 ** (self._quarters(step + 1) - self._quarters(step))
        for weight in weights:
            for piece in _pieces(weight, set):
                piece.sub_(set.residual(piece), alpha=share)

    def _quarters(self, step: int) -> int:
        """How often s has been divided by 4 after so many steps, which are not all."""
        return math.floor(-self.strength * math.log2(1 - (step / self.steps) ** self.power) / 2)


def _pieces(weight: Tensor, set: Set) -> Iterator[Tensor]:
    """Views of a weight whose entries do not know each other, each small enough for the cache."""
    if isinstance(set, Lattice) and weight.device.type == "cpu" and weight.is_contiguous():
        yield from weight.view(-1).split(_PIECE)  # type: ignore[no-untyped-call]
    else:
        yield weight
