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
    call: int = 0
    """Counts the calls of ``loss``."""
    backed: set[int] = field(default_factory=set)
    """The calls of ``loss`` in this window that a backward pass went through."""


@dataclass
class Window:
    """Values and their weights, or values and their sample indices, of the present window."""

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

    def mean(self) -> Tensor:
        """The weighted mean of what this process has recorded; NaN where that was nothing but empty batches."""
        if len(self.records) == 1 and self.records[0][1]:
            return self.records[0][0]
        total, weight = self._sums()
        return total / weight

    def mean_over_ranks(self) -> Tensor:
        """The weighted mean over all processes of a distributed run."""
        if not is_distributed():
            return self.mean()
        total, weight = self._sums()
        both = torch.stack([total, weight])
        dist.all_reduce(both)
        return both[0] / both[1]

    def samples(self) -> tuple[Tensor, Tensor]:
        """All values of the window side by side with their indices."""
        indices = [index for _, _, index, _ in self.records if index is not None]
        if len(self.records) == 1:
            return self.records[0][0], indices[0]
        return torch.cat([record[0] for record in self.records]), torch.cat(indices)

    def samples_over_ranks(self) -> tuple[Tensor, Tensor]:
        """The same of all processes of a distributed run: each keeps the multipliers of all samples."""
        value, index = self.samples()
        if not is_distributed():
            return value, index
        values, indices = _gathered(value), _gathered(index)
        return torch.cat(values), torch.cat(indices)

    def _sums(self) -> tuple[Tensor, Tensor]:
        """Weighted values and weights, entry by entry; what is not finite has no weight."""
        total = weight = torch.zeros_like(self.records[0][0])
        for value, share, _, _ in self.records:
            finite = value.isfinite()
            total = total + torch.where(finite, value, 0.0) * share
            weight = weight + finite * share
        return total, weight


def is_distributed() -> bool:
    """Whether this process is one of several that train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _gathered(rows: Tensor) -> list[Tensor]:
    """The rows of every rank; their numbers may differ."""
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    most = max(int(one) for one in counts)
    padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
    pieces = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(pieces, padded.contiguous())
    return [piece[: int(one)] for piece, one in zip(pieces, counts, strict=True)]
