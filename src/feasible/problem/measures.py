"""From what the user hands in to what a method works on: whole values, samples, distances, indexed samples."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from feasible.methods.method import Method, Pull, State
from feasible.problem.probe import Outlook, outlook
from feasible.problem.window import Moment, Window
from feasible.sets import Box, Set
from feasible.surrogate import Surrogate

Handed = Any
"""A tensor, a ``Surrogate``, or a pair (value, index) for ``per="index"``."""


@dataclass(frozen=True)
class Reading:
    """What the user handed in, checked."""

    value: Tensor
    index: Tensor | None = None
    truth: Tensor | None = None
    """What the value stands for, where it is the smooth part of a ``Surrogate``."""

    @property
    def seen(self) -> Tensor:
        """What the constraint speaks of."""
        return self.value.detach() if self.truth is None else self.truth


def work_dtype(value: Tensor) -> torch.dtype:
    """Multipliers and terms are computed in float32 at least."""
    return torch.promote_types(value.dtype, torch.float32)


def detached(value: Tensor, copy: bool = False) -> Tensor:
    """The value without its history, in the dtype of the terms."""
    dtype = work_dtype(value)
    if value.dtype != dtype:
        return value.detach().to(dtype)
    return value.detach().clone() if copy else value.detach()


class Measure(ABC):
    """How one constraint reads its value; the same constraint always uses the same measure."""

    batched: ClassVar[bool] = False
    """Whether dimension 0 is a batch, whose size may change between steps."""

    def __init__(self, method: Method, set: Set) -> None:
        self.method = method
        self.set = set

    def split(self, handed: Handed, name: str) -> Reading:
        """Value, index and truth of what the user handed in."""
        if isinstance(handed, Surrogate):
            raise ValueError(f'{name}: a Surrogate goes with per="value"; every sample needs a derivative.')
        if not isinstance(handed, Tensor):
            raise ValueError(f"{name}: expected a tensor, got {type(handed).__name__}.")
        return Reading(handed)

    def mean(self, window: Window) -> Tensor:
        """What multipliers see of the window that this process has recorded."""
        return window.mean()

    def template(self, value: Tensor) -> Tensor:
        """What the method's state is bound to."""
        return detached(value)

    def shape(self, value: Tensor) -> tuple[int, ...]:
        """The part of the shape that must not change between steps."""
        return tuple(value.shape[1:] if self.batched else value.shape)

    def outlook(self, value: Tensor, state: State) -> Outlook:
        """In which direction of the value the constraint may pull, how far it may have to, and its weight."""
        slacks = self.set.slack(value) if self.set.offers("slack") else ()
        return outlook(value, self.set.residual(value), slacks)

    def price(self, multiplier: Tensor) -> Tensor:
        """What widening the set by one unit of distance saves: the norms of the multipliers, added up."""
        return self.set.norm(multiplier).sum()

    @abstractmethod
    def pull(self, reading: Reading, state: State, step: int, window: Window, moment: Moment | None) -> Pull:
        """The term at this value; with a moment, the value is recorded first."""

    @abstractmethod
    def update(self, state: State, step: int, full: bool, window: Window) -> State:
        """The next state from what the window has recorded."""


class WholeValue(Measure):
    """``per="value"`` and weights: a fixed shape, an element a multiplier."""

    def __init__(self, method: Method, set: Set, average: str | float | None = None) -> None:
        super().__init__(method, set)
        self.average = average
        self._latest: tuple[Tensor, Pull] | None = None
        """The last pull and where it was taken: the update of a single record need not compute it again."""
        self._has_truth: bool | None = None

    def split(self, handed: Handed, name: str) -> Reading:
        """A tensor, or a ``Surrogate`` at every step."""
        has_truth = isinstance(handed, Surrogate)
        if self._has_truth is not None and self._has_truth != has_truth:
            kinds = ("a tensor", "a Surrogate")
            raise ValueError(
                f"{name}: expected {kinds[not has_truth]} as in its first step, got {kinds[has_truth]}."
            )
        reading = Reading(handed.smooth, None, handed.truth) if has_truth else super().split(handed, name)
        self._has_truth = has_truth
        return reading

    def forget(self) -> None:
        """The last pull was taken with another state."""
        self._latest = None

    def mean(self, window: Window) -> Tensor:
        """The mean of the true values."""
        return self._true(window.mean())

    def _true(self, recorded: Tensor) -> Tensor:
        return recorded[1] if self._has_truth else recorded

    def _smooth(self, recorded: Tensor) -> Tensor:
        return recorded[0] if self._has_truth else recorded

    def average_like(self, template: Tensor, has_truth: bool) -> Tensor:
        """Room for a mean of what is recorded, a truth beside its stand-in; there is none yet."""
        return torch.full_like(torch.stack([template, template]) if has_truth else template, math.nan)

    def pull(self, reading: Reading, state: State, step: int, window: Window, moment: Moment | None) -> Pull:
        """The method's pull at the mean that the average policy asks for."""
        # What is recorded must not change with the weights in the step.
        value = detached(reading.value, copy=moment is not None)
        if reading.truth is not None:
            value = torch.stack([value, reading.truth.to(value)])
        at = self._smooth(self._settle(value, 1, state, window, moment))
        return self._pull(at, state, step, moment)

    def _pull(self, at: Tensor, state: State, step: int, moment: Moment | None) -> Pull:
        pull = self.method.pull(at, self.set, state, step)
        assert pull is not None
        if moment is not None:
            self._latest = (at, pull)
        return pull

    def _settle(
        self, value: Tensor, weight: int, state: State, window: Window, moment: Moment | None
    ) -> Tensor:
        """Record the value and answer with v̄; a line search must see v itself, so inside a closure v̄ = v."""
        if moment is None:
            return value
        window.record(moment, value, weight)
        if moment.closure is not None:
            return value
        if self.average == "window":
            return torch.where(state["average"].isfinite(), state["average"], value)
        if isinstance(self.average, float):
            return _running(state["average"], window.mean(), self.average)
        return window.mean()

    def update(self, state: State, step: int, full: bool, window: Window) -> State:
        """The method's update at the mean over window and ranks."""
        mean = window.mean_over_ranks()
        changed: State = {}
        if isinstance(self.average, float):
            mean = changed["average"] = _running(state["average"], mean, self.average)
        elif self.average == "window":
            changed["average"] = mean
        latest, self._latest = self._latest, None
        at = self._true(mean)
        pull = latest[1] if latest is not None and latest[0] is at else None
        return {**changed, **self.method.update(at, self.set, state, step, full, pull)}


class EverySample(Measure):
    """``per="sample"`` without a multiplier: the mean of the method's term over the samples."""

    batched = True

    def pull(self, reading: Reading, state: State, step: int, window: Window, moment: Moment | None) -> Pull:
        """The method's pull, divided by the number of samples."""
        at = detached(reading.value)
        if moment is not None:
            window.record(moment, at, weight=len(at))
        pull = self.method.pull(at, self.set, state, step)
        assert pull is not None
        share = 1 / max(len(at), 1)
        return Pull(pull.amount * share, pull.gradient * share)

    def update(self, state: State, step: int, full: bool, window: Window) -> State:
        """Nothing to learn."""
        return {}


AT_MOST_ZERO = Box(upper=0.0)


class SampleDistance(WholeValue):
    """``per="sample"`` with a multiplier: one inequality, (reduced distance of the samples) − tolerance ≤ 0."""

    batched = True

    def __init__(self, method: Method, set: Set, average: str | float | None, reduction: str | float) -> None:
        super().__init__(method, AT_MOST_ZERO, average)
        self.sample_set = set
        self.reduction = reduction

    def template(self, value: Tensor) -> Tensor:
        """The reduced distance is one number."""
        return detached(value).new_zeros(())

    def pull(self, reading: Reading, state: State, step: int, window: Window, moment: Moment | None) -> Pull:
        """The chain rule: the multiplier of the reduced distance times its gradient in the samples."""
        reduced = self.reduced_distance(detached(reading.value), state)
        excess = (reduced.amount - state["tolerance"]) / state["unit"]
        excess = self._settle(excess, len(reading.value), state, window, moment)
        if len(reading.value) == 0:
            return Pull(torch.zeros_like(excess), reduced.gradient)
        pull = self._pull(excess, state, step, moment)
        return Pull(pull.amount, reduced.gradient * (pull.gradient / state["unit"]))

    def split(self, handed: Handed, name: str) -> Reading:
        """A batch of samples."""
        return Measure.split(self, handed, name)

    def outlook(self, value: Tensor, state: State) -> Outlook:
        """The way of the reduced distance; where no sample is outside, as if every one were, by its size."""
        flat = value.reshape(len(value), -1)
        length = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
        inside = (flat / torch.where(length > 0, length, 1.0) / max(len(value), 1)).reshape(value.shape)
        reduced = self.reduced_distance(value, state)
        direction = torch.where(reduced.amount > 0, reduced.gradient, inside) / state["unit"]
        excess = (reduced.amount - state["tolerance"]) / state["unit"]
        return Outlook(direction, excess.abs().clamp_min(1.0), reduced.amount > 0)

    def reduced_distance(self, value: Tensor, state: State) -> Pull:
        """The samples' distances as one number, and its gradient in the samples."""
        residual = self.sample_set.residual(value)
        flat = residual.reshape(len(value), math.prod(residual.shape[1:]))
        distance = torch.linalg.vector_norm(flat, dim=1)
        amount, slope = reduce(distance, self.reduction, state.get("width"))
        length = torch.where(distance == 0, torch.ones_like(distance), distance)
        return Pull(amount, (flat * (slope / length).unsqueeze(1)).reshape(residual.shape))


def reduce(distance: Tensor, reduction: str | float, width: Tensor | None) -> tuple[Tensor, Tensor]:
    """Distances as one number, and its derivatives: their mean, p-mean, or mean Huber loss.

    The Huber loss, ``d²/2δ`` up to the width δ and ``d − δ/2`` above, does not push hard on samples that are
    almost there.
    """
    count = max(len(distance), 1)
    if reduction == "mean":
        return distance.sum() / count, torch.full_like(distance, 1 / count)
    if width is not None:
        is_near = distance <= width
        loss = torch.where(is_near, distance.square() / (2 * width), distance - width / 2)
        return loss.sum() / count, torch.where(is_near, distance / width, 1.0) / count
    p = float(reduction)
    top = distance.max() if len(distance) else distance.sum()
    top = torch.where(top > 0, top, 1.0)  # powers of shares of the largest neither overflow nor vanish
    share = distance / top
    mean = share.pow(p).sum() / count
    base = torch.where(mean == 0, torch.ones_like(mean), mean)
    return top * mean.pow(1 / p), base.pow(1 / p - 1) * share.pow(p - 1) / count


class IndexedSample(Measure):
    """``per="index"``: every one of N samples has its own row of the state."""

    batched = True

    def __init__(self, method: Method, set: Set, size: int) -> None:
        super().__init__(method, set)
        self.size = size

    def split(self, handed: Handed, name: str) -> Reading:
        """A pair (value, index), with an index in range for each sample."""
        if not (
            isinstance(handed, (tuple, list))
            and len(handed) == 2
            and all(isinstance(part, Tensor) for part in handed)
        ):
            raise ValueError(
                f'{name}: per="index" takes a pair (value, index) of tensors, got {type(handed).__name__}.'
            )
        value, index = handed
        if (
            value.dim() == 0
            or index.shape != value.shape[:1]
            or index.dtype not in (torch.int64, torch.int32)
        ):
            raise ValueError(
                f"{name}: index must hold one integer a sample, shape {tuple(value.shape[:1])}; "
                f"got shape {tuple(index.shape)} of {index.dtype}."
            )
        if (
            index.device.type == "cpu"
            and len(index)
            and not (int(index.min()) >= 0 and int(index.max()) < self.size)
        ):
            raise ValueError(
                f"{name}: indices must be in 0 … {self.size - 1} (size={self.size}), "
                f"got {int(index.min())} … {int(index.max())}."
            )
        return Reading(value, index.long())

    def template(self, value: Tensor) -> Tensor:
        """A row for each of the N samples, none of them seen yet."""
        return value.new_full((self.size, *value.shape[1:]), float("nan"), dtype=work_dtype(value)).detach()

    def pull(self, reading: Reading, state: State, step: int, window: Window, moment: Moment | None) -> Pull:
        """N/B times the sum over the batch."""
        assert reading.index is not None
        at = detached(reading.value)
        if moment is not None:
            window.record(moment, at, index=reading.index)
        pull = self.method.pull(at, self.set, _rows(state, reading.index), step)
        assert pull is not None
        scale = self.size / max(len(at), 1)
        return Pull(pull.amount * scale, pull.gradient * scale)

    def outlook(self, value: Tensor, state: State) -> Outlook:
        """As the whole batch, with the weight that its sum has in the loss; other samples come: nothing is kept."""
        ahead, size = super().outlook(value, state), value.square().mean().sqrt()
        distance = torch.linalg.vector_norm(self.set.residual(value))
        extent = torch.where(ahead.is_outside, distance, ahead.extent).clamp_min(size / 20)
        weight = self.size / max(len(value), 1)
        return Outlook(ahead.direction, extent, torch.zeros_like(ahead.is_outside), weight)

    def update(self, state: State, step: int, full: bool, window: Window) -> State:
        """Nothing: ``update_rows_`` writes into the state, which is too large to be copied at every step."""
        return {}

    def update_rows_(
        self, state: State, step: int, full: bool, window: Window, skipped: Tensor | None
    ) -> None:
        """Each sample seen in the window moves its own row, in place, on the mean of its values."""
        value, index = window.samples_over_ranks()
        mean = _mean_of_equals(value, index)
        rows = _rows(state, index)
        for key, new in self.method.update(mean, self.set, rows, step, full).items():
            # Only what is finite is written; the other rows stay as they were.
            kept = new.isfinite() if skipped is None else new.isfinite() & ~skipped
            moved = torch.where(kept, new, rows[key])
            # What has no rows belongs to all samples.
            state[key] = state[key].index_copy_(0, index, moved) if new.dim() else moved


def _mean_of_equals(value: Tensor, index: Tensor) -> Tensor:
    """For each row the mean of all rows with its index; nothing is read back to the host."""
    ordered, order = index.sort()
    is_new = torch.ones_like(ordered)
    is_new[1:] = ordered[1:] != ordered[:-1]
    group = torch.empty_like(order).scatter_(0, order, is_new.cumsum(0) - 1)
    sums = torch.zeros_like(value).index_add_(0, group, value)
    ones = value.new_ones(len(value))
    counts = torch.zeros_like(ones).index_add_(0, group, ones).clamp_min(1)
    return (sums / counts.reshape(-1, *[1] * (value.dim() - 1)))[group]


def _rows(state: State, index: Tensor) -> State:
    return {key: value[index] if value.dim() else value for key, value in state.items()}


def _running(average: Tensor, mean: Tensor, decay: float) -> Tensor:
    """The running mean, or the first mean itself where there is none yet."""
    return torch.where(average.isfinite(), average.lerp(mean, 1 - decay), mean)
