"""The discrete weights of a problem: which they are, into their sets, and held there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.methods.moments import Moments
from feasible.methods.slot import Slot
from feasible.problem.constraint import Constraint
from feasible.problem.text import listing
from feasible.sets import Set
from feasible.sets.moves import discrete_entries

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from feasible.problem.problem import Problem


@dataclass(eq=False)
class Target:
    """A weight of which all or some entries are discrete."""

    constraint: Constraint
    slot: Slot
    entries: Tensor
    """Which of its entries are discrete: a bool mask."""

    @property
    def set(self) -> Set:
        """Where the weight belongs, bound to it."""
        return self.constraint.bound

    @property
    def whole(self) -> bool:
        """Whether all entries are discrete."""
        return bool(self.entries.all())

    def values(self) -> Tensor:
        """A copy of the weight."""
        return self.slot.value().detach().clone()

    def changed(self, before: Tensor) -> int:
        """How many discrete entries differ."""
        return int(((self.slot.value().detach() != before) & self.entries).sum())


def find_targets(problem: Problem) -> list[Target]:
    """The weights with discrete entries.

    Raises:
        ValueError: there are none, or a weight has two discrete sets.
        UnsupportedError: a weight is sharded over processes.
    """
    found: dict[int, Target] = {}
    for constraint in problem.constraints:
        slot = constraint.slot
        if slot is None or not constraint.enabled:
            continue
        slot.refresh()
        constraint.follow_weight()
        value = slot.value().detach()
        entries = discrete_entries(constraint.bound, value)
        if not bool(entries.any()):
            continue
        if hasattr(value, "full_tensor"):
            raise UnsupportedError(
                f"polish: {slot.name} is sharded over processes, and single entries cannot be tried there.\n"
                "  Gather the weights into a plain model and polish that."
            )
        if id(slot) in found:
            other = found[id(slot)].constraint
            raise ValueError(
                f"polish: {slot.name} is in two discrete sets, {other.set!r} and {constraint.set!r}. "
                "Constrain it to one of them, or to their intersection."
            )
        found[id(slot)] = Target(constraint, slot, entries)
    if not found:
        sets = listing(repr(c.set) for c in problem.constraints) or "nothing"
        raise ValueError(
            "polish: no weight is in a discrete set, so there is nothing to round. Constrain one first, as in "
            f'constrain("head.weight", FiniteSet([-1, 0, 1])).\n  The problem has: {sets}'
        )
    return list(found.values())


@torch.no_grad()
def settle(problem: Problem, targets: Sequence[Target], optimizer: Optimizer | None) -> None:
    """Plain parameters in their sets, as ``finish`` leaves them; a soft method's weights are rounded, too."""
    for target in targets:
        slot = target.slot
        latent = slot.refresh()
        for constraint in problem.constraints:
            if constraint.slot is slot and constraint.enabled and constraint.method.hard:
                problem._settle(constraint)
        if slot.chart is not None:
            problem._uninstall(next(c for c in problem.constraints if c.slot is slot and c.method.latent))
        if optimizer is not None and slot.refresh() is not latent:
            Moments(optimizer).replace(latent, slot.leaf)
        target.constraint.follow_weight()
        slot.write(target.set.project(slot.leaf.detach()))


class Held:
    """Discrete entries that nothing moves: no gradient, no weight decay, no momentum.

    A whole weight takes no gradients, and optimizers pass over it; of a part the gradients are zero. What an
    optimizer moves all the same, because of what it remembers, is put back after its step.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = targets

    def __enter__(self) -> Held:
        self._learned = [target.slot.leaf.requires_grad for target in self._targets]
        self._values = [target.values() for target in self._targets]
        for target in self._targets:
            target.slot.leaf.grad = None
            target.slot.leaf.requires_grad_(not target.whole and target.slot.leaf.requires_grad)
        return self

    def mask_gradients(self) -> None:
        """Before a step."""
        for target in self._targets:
            if target.slot.leaf.grad is not None:
                target.slot.leaf.grad.masked_fill_(target.entries, 0)

    @torch.no_grad()
    def put_back(self) -> None:
        """After a step."""
        for target, value in zip(self._targets, self._values, strict=True):
            leaf = target.slot.leaf
            free = value if target.whole else target.set.project(leaf)
            leaf.copy_(torch.where(target.entries, value, free))

    def __exit__(self, *error: object) -> None:
        for target, learned in zip(self._targets, self._learned, strict=True):
            target.slot.leaf.requires_grad_(learned)
