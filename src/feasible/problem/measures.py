"""From what the user hands in to what a method works on: whole values, samples, distances, indexed samples."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from feasible.methods.method import Method, Pull, State
from feasible.problem.window import Moment, Window
from feasible.sets import Box, Set

Handed = Any
"""A tensor, or a pair (value, index) for ``per="index"``."""


def work_dtype(value: Tensor) -> torch.dtype:
    """Multipliers and terms are computed in float32 at least."""
    return torch.promote_types(value.dtype, torch.float32)


def detached(value: Tensor, copy: bool = False) -> Tensor:
    """The value without its history, in the dtype of the terms."""
    return value.detach().to(work_dtype(value), copy=copy)


class Measure(ABC):
    """How one constraint reads its value; the same constraint always uses the same measure."""

    batched: ClassVar[bool] = False
    """Whether dimension 0 is a batch, whose size may change between steps."""

    def __init__(self, method: Method, set: Set) -> None:
        self.method = method
        self.set = set

    def split(self, handed: Handed, name: str) -> tuple[Tensor, Tensor | None]:
        """Value and index of what the user handed in."""
        if not isinstance(handed, Tensor):
            raise ValueError(f"{name}: expected a tensor, got {type(handed).__name__}.")
        return handed, None

    def template(self, value: Tensor) -> Tensor:
        """What the method's state is bound to."""
        return detached(value)

    def shape(self, value: Tensor) -> tuple[int, ...]:
        """The part of the shape that must not change between steps."""
        return tuple(value.shape[1:] if self.batched else value.shape)

    def price(self, multiplier: Tensor) -> Tensor:
        """What widening the set by one unit of distance saves: the norms of the multipliers, added up."""
        return self.set.norm(multiplier).sum()

    @abstractmethod
    def pull(
        self,
        value: Tensor,
        index: Tensor | None,
        state: State,
        step: int,
        window: Window,
        moment: Moment | None,
    ) -> Pull:
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

    def pull(
        self,
        value: Tensor,
        index: Tensor | None,
        state: State,
        step: int,
        window: Window,
        moment: Moment | None,
    ) -> Pull:
        """The method's pull at the mean that the average policy asks for."""
        # What is recorded must not change with the weights in the step.
        at = self._settle(detached(value, copy=moment is not None), 1, state, window, moment)
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
        pull = latest[1] if latest is not None and latest[0] is mean else None
        return {**changed, **self.method.update(mean, self.set, state, step, full, pull)}


class EverySample(Measure):
    """``per="sample"`` without a multiplier: the mean of the method's term over the samples."""

    batched = True

    def pull(
        self,
        value: Tensor,
        index: Tensor | None,
        state: State,
        step: int,
        window: Window,
        moment: Moment | None,
    ) -> Pull:
        """The method's pull, divided by the number of samples."""
        at = detached(value)
        if moment is not None:
            window.record(moment, at, weight=len(value))
        pull = self.method.pull(at, self.set, state, step)
        assert pull is not None
        share = 1 / max(len(value), 1)
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

    def pull(
        self,
        value: Tensor,
        index: Tensor | None,
        state: State,
        step: int,
        window: Window,
        moment: Moment | None,
    ) -> Pull:
        """The chain rule: the multiplier of the reduced distance times its gradient in the samples."""
        reduced = self.reduced_distance(detached(value))
        excess = (reduced.amount - state["tolerance"]) / state["unit"]
        excess = self._settle(excess, len(value), state, window, moment)
        if len(value) == 0:
            return Pull(torch.zeros_like(excess), reduced.gradient)
        pull = self._pull(excess, state, step, moment)
        return Pull(pull.amount, reduced.gradient * (pull.gradient / state["unit"]))

    def reduced_distance(self, value: Tensor) -> Pull:
        """The mean of the samples' distances (or their p-mean) and its gradient in the samples."""
        residual = self.sample_set.residual(value)
        flat = residual.reshape(len(value), math.prod(residual.shape[1:]))
        distance = torch.linalg.vector_norm(flat, dim=1)
        count = max(len(distance), 1)
        if self.reduction == "mean":
            amount, slope = distance.sum() / count, torch.full_like(distance, 1 / count)
        else:
            p = float(self.reduction)
            mean = distance.pow(p).sum() / count
            amount = mean.pow(1 / p)
            base = torch.where(mean == 0, torch.ones_like(mean), mean)
            slope = base.pow(1 / p - 1) * distance.pow(p - 1) / count
        length = torch.where(distance == 0, torch.ones_like(distance), distance)
        return Pull(amount, (flat * (slope / length).unsqueeze(1)).reshape(residual.shape))


class IndexedSample(Measure):
    """``per="index"``: every one of N samples has its own row of the state."""

    batched = True

    def __init__(self, method: Method, set: Set, size: int) -> None:
        super().__init__(method, set)
        self.size = size

    def split(self, handed: Handed, name: str) -> tuple[Tensor, Tensor | None]:
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
        return value, index

    def template(self, value: Tensor) -> Tensor:
        """A row for each of the N samples, none of them seen yet."""
        return value.new_full((self.size, *value.shape[1:]), float("nan"), dtype=work_dtype(value)).detach()

    def pull(
        self,
        value: Tensor,
        index: Tensor | None,
        state: State,
        step: int,
        window: Window,
        moment: Moment | None,
    ) -> Pull:
        """N/B times the sum over the batch."""
        assert index is not None
        at = detached(value)
        if moment is not None:
            window.record(moment, at, index=index)
        pull = self.method.pull(at, self.set, _rows(state, index), step)
        assert pull is not None
        scale = self.size / max(len(value), 1)
        return Pull(pull.amount * scale, pull.gradient * scale)

    def update(self, state: State, step: int, full: bool, window: Window) -> State:
        """Each sample seen in the window updates its own row, on the mean of its values."""
        value, index = window.samples()
        seen, inverse, count = torch.unique(index, return_inverse=True, return_counts=True)
        total = value.new_zeros((len(seen), *value.shape[1:])).index_add_(0, inverse, value)
        mean = total / count.reshape(-1, *[1] * (value.dim() - 1))
        rows = _rows(state, seen)
        changed = self.method.update(mean, self.set, rows, step, full)
        # Only what is finite is written; the other rows stay as they were.
        return {
            key: state[key].index_copy(0, seen, torch.where(new.isfinite(), new, rows[key]))
            for key, new in changed.items()
        }


def _rows(state: State, index: Tensor) -> State:
    return {key: value[index] if value.dim() else value for key, value in state.items()}


def _running(average: Tensor, mean: Tensor, decay: float) -> Tensor:
    """The running mean, or the first mean itself where there is none yet."""
    return torch.where(average.isfinite(), average.lerp(mean, 1 - decay), mean)
