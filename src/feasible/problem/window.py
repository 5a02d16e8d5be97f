"""What one step of the clock sees: the values recorded since the last one."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from feasible.problem.ranks import gathered, is_distributed, total


@dataclass
class Moment:
    """Which step, window and closure the problem is in; shared by all its constraints."""

    ticks: int = 0
    """How often the clock has ticked."""
    window: int = 0
    """Counts up whenever a new window opens."""
    closure: int | None = None
    """The number of the closure that is running, if one is."""
    call: int = 0
    """Counts the calls of ``loss``."""
    backed: set[int] = field(default_factory=set)
    """The calls of ``loss`` in this window that a backward pass went through."""


@dataclass
class Window:
    """Values and their weights, or values and their sample indices, of the present window."""

    is_common: bool = False
    """Whether every rank of a distributed run records the same: a weight."""
    records: list[tuple[Tensor, int, Tensor | None, int]] = field(default_factory=list)
    _window: int = -1
    _closure: int | None = None
    _mark: int = 0

    def record(self, moment: Moment, value: Tensor, weight: int = 1, index: Tensor | None = None) -> None:
        """Add a value; inside a closure it replaces what that closure has recorded before."""
        if self._window != moment.window:
            self.records.clear()
            self._window = moment.window
            self._closure = None
        if moment.closure is not None:
            if self._closure != moment.closure:
                self._closure, self._mark = moment.closure, len(self.records)
            del self.records[self._mark :]
        self.records.append((value, weight, index, moment.call))

    def is_open(self, moment: Moment) -> bool:
        """Whether anything has been recorded in the present window."""
        return self._window == moment.window and bool(self.records)

    def keep_backed(self, moment: Moment) -> None:
        """Forget values of losses that were never backpropagated: a skipped step, a validation pass."""
        backed = [record for record in self.records if record[3] in moment.backed]
        if backed:
            self.records = backed

    def stand_aside(self) -> None:
        """Nothing was recorded in this window: keep a value that weighs nothing, for other ranks to add theirs."""
        value, _, index, call = self.records[-1]
        self.records = [(value, 0, index, call) if index is None else (value[:0], 0, index[:0], call)]

    def mean(self) -> Tensor:
        """The weighted mean of what this process has recorded; NaN where that was nothing but empty batches."""
        if len(self.records) == 1 and self.records[0][1]:
            return self.records[0][0]
        value, weight = self._sums()
        return value / weight

    def mean_over_ranks(self) -> Tensor:
        """The weighted mean over all processes of a distributed run."""
        if self.is_common or not is_distributed():
            return self.mean()
        sums = total(torch.stack(self._sums()))
        return sums[0] / sums[1]

    def samples(self) -> tuple[Tensor, Tensor]:
        """All values of the window side by side with their indices."""
        indices = [index for _, _, index, _ in self.records if index is not None]
        if len(self.records) == 1:
            return self.records[0][0], indices[0]
        return torch.cat([record[0] for record in self.records]), torch.cat(indices)

    def samples_over_ranks(self) -> tuple[Tensor, Tensor]:
        """The same of all processes of a distributed run: each keeps the multipliers of all samples."""
        value, index = self.samples()
        return (gathered(value), gathered(index)) if is_distributed() else (value, index)

    def _sums(self) -> tuple[Tensor, Tensor]:
        """Weighted values and weights, entry by entry; what is not finite has no weight."""
        added = weight = torch.zeros_like(self.records[0][0])
        for value, share, _, _ in self.records:
            finite = value.isfinite()
            added = added + torch.where(finite, value, 0.0) * share
            weight = weight + finite * share
        return added, weight
