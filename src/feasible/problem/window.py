"""What one step of the clock sees: the values recorded since the last one."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass
class Moment:
    """Which step, window and closure the problem is in; shared by all its constraints."""

    ticks: int = 0
    """How often the clock has ticked."""
    window: int = 0
    """Counts up whenever a new window opens."""
    closure: int | None = None
    """The number of the closure that is running, if one is."""


@dataclass
class Window:
    """Values and their weights, or values and their sample indices, of the present window."""

    records: list[tuple[Tensor, int, Tensor | None]] = field(default_factory=list)
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
        self.records.append((value, weight, index))

    def is_open(self, moment: Moment) -> bool:
        """Whether anything has been recorded in the present window."""
        return self._window == moment.window and bool(self.records)

    def mean(self) -> Tensor:
        """The weighted mean of what this process has recorded; NaN where that was nothing but empty batches."""
        if len(self.records) == 1 and self.records[0][1]:
            return self.records[0][0]
        total, weight = self._sums()
        return total / weight

    def mean_over_ranks(self) -> Tensor:
        """The weighted mean over all processes of a distributed run."""
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return self.mean()
        total, weight = self._sums()
        both = torch.cat([total.reshape(-1), total.new_full((1,), float(weight))])
        dist.all_reduce(both)
        return (both[:-1] / both[-1]).reshape(total.shape)

    def samples(self) -> tuple[Tensor, Tensor]:
        """All values of the window side by side with their indices."""
        indices = [index for _, _, index in self.records if index is not None]
        if len(self.records) == 1:
            return self.records[0][0], indices[0]
        return torch.cat([value for value, _, _ in self.records]), torch.cat(indices)

    def _sums(self) -> tuple[Tensor, int]:
        total = self.records[0][0] * self.records[0][1]
        for value, weight, _ in self.records[1:]:
            total = total + value * weight
        return total, sum(weight for _, weight, _ in self.records)
