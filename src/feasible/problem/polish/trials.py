"""Moves of several weights in one numbering, and combinations of them that are tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from feasible.problem.polish.targets import Target
from feasible.sets.moves import Moves

_FEW = 1024


@dataclass
class Change:
    """Entries of one target: in which trial, where, and what they become."""

    trial: Tensor
    index: Tensor
    value: Tensor


@dataclass
class Trials:
    """Numbered trials, each of which changes some entries of the targets."""

    count: int
    changes: list[Change]
    """One for each target, in ascending order of the trials."""

    @classmethod
    def none(cls, targets: Sequence[Target]) -> Trials:
        """A single trial that changes nothing."""
        changes = []
        for target in targets:
            places = torch.empty(0, dtype=torch.long, device=target.slot.leaf.device)
            changes.append(Change(places, places, target.slot.leaf.detach().new_empty(0)))
        return cls(1, changes)

    def split(self, size: int, first: int = 0) -> Iterator[Trials]:
        """So many at a time, from one of them on."""
        for start in range(first, self.count, size):
            yield self._between(start, min(start + size, self.count))

    def _between(self, start: int, end: int) -> Trials:
        changes = []
        for change in self.changes:
            ends = torch.tensor([start, end], device=change.trial.device)
            low, high = torch.searchsorted(change.trial, ends).tolist()
            part = slice(low, high)
            changes.append(Change(change.trial[part] - start, change.index[part], change.value[part]))
        return Trials(end - start, changes)

    def stacks(self, targets: Sequence[Target], everywhere: bool = False) -> tuple[list[int], list[Tensor]]:
        """The targets that any trial changes (or all), and their weights for every trial: (trials, *shape)."""
        touched = [number for number, change in enumerate(self.changes) if everywhere or change.trial.numel()]
        stacks = []
        for number in touched:
            change, weight = self.changes[number], targets[number].slot.leaf.detach()
            stack = weight.reshape(1, -1).repeat(self.count, 1)
            stack[change.trial, change.index] = change.value
            stacks.append(stack.reshape(self.count, *weight.shape))
        return touched, stacks

    def apply(self, number: int, targets: Sequence[Target]) -> None:
        """Write one trial into the weights."""
        for change, target in zip(self._between(number, number + 1).changes, targets, strict=True):
            if change.index.numel():
                leaf = target.slot.leaf.detach()
                flat = leaf.reshape(-1).clone()
                flat[change.index] = change.value
                leaf.copy_(flat.reshape(leaf.shape))


@dataclass
class Pool:
    """The most promising moves of all targets: numbered through, target after target."""

    moves: list[Moves]
    slopes: Tensor
    """First-order change of the loss, for each move: float64, on the CPU."""
    sizes: Tensor
    """Squared length of each move."""

    def __len__(self) -> int:
        return len(self.slopes)

    @property
    def starts(self) -> list[int]:
        """The number of each target's first move, and the number of all."""
        starts = [0]
        for moves in self.moves:
            starts.append(starts[-1] + len(moves))
        return starts

    def trials(self, chosen: Tensor, trial: Tensor, count: int) -> Trials:
        """``count`` trials from pairs of a move's number and the trial that makes it."""
        changes = []
        for start, end, moves in zip(self.starts, self.starts[1:], self.moves):
            own = (chosen >= start) & (chosen < end)
            rows, order = trial[own].sort(stable=True)
            part = moves[(chosen[own][order] - start).to(moves.index.device)]
            entries = part.index.shape[1]
            rows = rows.to(part.index.device).repeat_interleave(entries)
            changes.append(Change(rows, part.index.reshape(-1), part.value.reshape(-1)))
        return Trials(count, changes)

    def each(self, chosen: Tensor) -> Trials:
        """A trial for each of these moves."""
        return self.trials(chosen, torch.arange(len(chosen)), len(chosen))

    def prefixes(self, chosen: Tensor) -> Trials:
        """The first 1, 2, 4, … rows of moves together (1, 4, 16, … of many), and all of them."""
        factor = 2 if len(chosen) <= _FEW else 4
        sizes = [size for size in (factor**power for power in range(32)) if size < len(chosen)]
        sizes.append(len(chosen))
        picked = torch.cat([chosen[:size].reshape(-1) for size in sizes])
        lengths = torch.tensor(sizes) * chosen.shape[1]
        return self.trials(picked, torch.arange(len(sizes)).repeat_interleave(lengths), len(sizes))

    def rows(self, chosen: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Which row (index along dimension 0) of which weight each of these moves changes, as one number."""
        rows, before = torch.zeros_like(chosen), 0
        for start, end, moves, weight in zip(self.starts, self.starts[1:], self.moves, weights, strict=False):
            own = (chosen >= start) & (chosen < end)
            count = weight.shape[0] if weight.dim() > 1 else 1
            places = moves.index[(chosen[own] - start).to(moves.index.device), 0].cpu()
            rows[own] = before + places // max(weight.numel() // max(count, 1), 1)
            before += count
        return rows

    def units(self, chosen: Tensor) -> list[list[tuple[int, int]]]:
        """What each of these moves takes possession of, as (target, unit)."""
        target = torch.bucketize(chosen, torch.tensor(self.starts[1:]), right=True).tolist()
        numbers: list[list[tuple[int, int]]] = [[] for _ in target]
        for which, (start, moves) in enumerate(zip(self.starts, self.moves)):
            own = [place for place, number in enumerate(target) if number == which]
            if own:
                rows = moves.unit[(chosen[own] - start).to(moves.unit.device)].tolist()
                for place, row in zip(own, rows, strict=True):
                    numbers[place] = [(which, unit) for unit in row]
        return numbers
