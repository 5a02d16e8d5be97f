"""Histories: what violation, multiplier and penalty of a constraint were, kept cheaply while it trains."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from feasible.methods.method import State
from feasible.problem.measures import SampleDistance, WholeValue
from feasible.schedules import value_at

if TYPE_CHECKING:
    from feasible.problem.constraint import Constraint

CAPACITY = 729
"""Entries that are kept. When so many are there, every third stays: a stride that is odd at all times lets a
swing at every step be seen for ever, and 3⁶ is thinned evenly."""
CHUNK = 81
"""Entries that wait to be stacked: one by one, stacking would cost as much as a term."""
SMALL = 16
"""Values of up to so many elements are kept as they are, and looked at when the history is read."""
STRIDE_OF_LARGE = 9
"""Larger values are looked at in the step, so many steps apart: the look costs about half a term."""
KEPT = ("multiplier", "penalty", "scale")
"""What of the state is kept beside a small value, where it is there."""


@dataclass(frozen=True)
class Series:
    """One constraint over the steps, as plain numbers, in the units of the value that was handed in.

    >>> import torch, feasible as fs
    >>> x = torch.zeros(1, requires_grad=True)
    >>> problem = fs.Problem([x])
    >>> handle = problem.require("x", fs.Equal(1.0), by=fs.AugmentedLagrangian(penalty=2.0))
    >>> optimizer = problem.attach(torch.optim.SGD([x], lr=0.5))
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     problem.loss((x**2).sum(), x=x).backward()
    ...     _ = optimizer.step()
    >>> handle.history.steps, [round(violation, 3) for violation in handle.history.violation]
    ([0, 1, 2], [1.0, 0.0, 0.975])
    >>> handle.history.penalty
    [2.0, 2.0, 2.0]
    """

    steps: list[int] = field(default_factory=list)
    """The ticks that are kept: evenly spread, at most 729."""
    violation: list[float] = field(default_factory=list)
    """Largest distance to the set of what the step saw; of samples under a multiplier, by how much their reduced
    distance exceeds the tolerance."""
    multiplier: list[float] = field(default_factory=list)
    """Magnitude of the largest multiplier after the step; of indexed samples, among those in the batch."""
    penalty: list[float] = field(default_factory=list)
    """The largest penalty, or the weight of a method without a multiplier."""

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(eq=False)
class History:
    """Entries on the device of the value: never more than ``CAPACITY``, and nothing read back in a step."""

    steps: list[int] = field(default_factory=list)
    due: int = 0
    """The first step that is to be recorded."""
    _stride: int = 1
    _kept: dict[str, Tensor] = field(default_factory=dict)
    _waiting: list[dict[str, Tensor]] = field(default_factory=list)

    def record(self, step: int, entry: dict[str, Tensor], stride: int = 1) -> None:
        """Keep the entry; ``stride`` is the distance to the next one at first."""
        self._stride = max(self._stride, stride)
        self.steps.append(step)
        self._waiting.append(entry)
        self.due = step + self._stride
        if len(self._waiting) >= CHUNK:
            self.stack()
        if len(self.steps) >= CAPACITY:
            self._thin()

    def rows(self) -> dict[str, Tensor]:
        """All entries, stacked along dimension 0."""
        self.stack()
        return self._kept

    def clear(self) -> None:
        """Begin anew."""
        self.__init__()  # type: ignore[misc]

    def stack(self) -> None:
        """Copy the entries that wait, which are still the tensors of the state."""
        if not self._waiting:
            return
        latest = self._waiting[-1]
        for key, like in latest.items():
            # The constraint may have moved to another device since.
            new = torch.stack([entry[key].to(like) for entry in self._waiting])
            old = self._kept.get(key)
            self._kept[key] = new if old is None else torch.cat([old.to(new), new])
        self._waiting.clear()

    def _thin(self) -> None:
        self.stack()
        self._stride *= 3
        # The newest stays, so that the next entry comes one stride later.
        self.steps = self.steps[::-3][::-1]
        first = (CAPACITY - 1) % 3
        self._kept = {key: rows[first::3].clone() for key, rows in self._kept.items()}
        self.due = self.steps[-1] + self._stride


def record(constraint: Constraint) -> None:
    """Keep what the tick has seen and done (under the tick's no_grad)."""
    measure, state = constraint.measure, constraint.state
    if isinstance(measure, WholeValue):
        value = measure.mean(constraint.window)
        if value.numel() <= SMALL:
            entry = {key: state[key] for key in KEPT if key in state}
            constraint.history.record(constraint.ticks, {"value": value, **entry})
            return
    numbers = _present(constraint)
    if numbers:
        constraint.history.record(constraint.ticks, numbers, STRIDE_OF_LARGE)


def _present(constraint: Constraint) -> dict[str, Tensor]:
    """The numbers of the present window, on its device; none before the first value and for an empty batch."""
    measure, state, records = constraint.measure, constraint.state, constraint.window.records
    if measure is None or not records:
        return {}
    if isinstance(measure, WholeValue):
        value, index = measure.mean(constraint.window), None
    else:
        value, _, index, _ = records[-1]
    if value.numel() == 0:
        return {}
    rows = state if index is None else {key: x[index] if x.dim() else x for key, x in state.items()}
    return numbers_of(constraint, value, rows)


@torch.no_grad()
def read(constraint: Constraint) -> Series:
    """The history as numbers; reads back from the device once."""
    history = constraint.history
    rows, steps = history.rows(), list(history.steps)
    if not steps:
        return Series()
    if "value" in rows:
        rows = _each(lambda row: numbers_of(constraint, row["value"], {**constraint.state, **row}), rows)
    found = dict(zip(rows, torch.stack([column.double() for column in rows.values()]).tolist()))
    unknown, scales = [math.nan] * len(steps), found.get("scale", [1.0] * len(steps))
    penalty = found.get("penalty") or [_scheduled(constraint, step) for step in steps]
    return Series(
        steps,
        found["violation"],
        found.get("multiplier", unknown),
        [number * scale for number, scale in zip(penalty, scales)],
    )


def _each(
    function: Callable[[dict[str, Tensor]], dict[str, Tensor]], rows: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The numbers of every entry: all at once where set and method can, one by one elsewhere."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an operation without a batching rule is only slower
            return torch.vmap(function)(rows)
    except RuntimeError:
        found = [function(dict(zip(rows, row))) for row in zip(*rows.values())]
        return {key: torch.stack([numbers[key] for numbers in found]) for key in found[0]}


def numbers_of(constraint: Constraint, value: Tensor, row: State) -> dict[str, Tensor]:
    """Largest violation, multiplier and penalty."""
    measure, method = constraint.measure, constraint.method
    assert measure is not None
    unit = constraint.state["unit"] if isinstance(measure, SampleDistance) else 1.0
    distance = measure.set.distance(value)
    outside = torch.where(measure.set.contains(value), torch.zeros_like(distance), distance)
    numbers = {"violation": outside.max() * unit}
    multiplier = method.multiplier(value, measure.set, row) if method.has_multiplier else None
    if multiplier is not None:
        numbers["multiplier"] = multiplier.abs().max() * (row.get("scale", 1.0) / unit)
    return {**numbers, **{key: row[key].max() for key in ("penalty", "scale") if key in row}}


def _scheduled(constraint: Constraint, step: int) -> float:
    """A penalty that is no part of the state."""
    method = constraint.method
    for name in ("penalty", "weight"):
        number = getattr(method, name, math.nan)
        if number is None:
            return 1.0  # what the methods take where none is given
        if callable(number) or math.isfinite(number):
            return float(value_at(number, step))
    return math.nan


@torch.no_grad()
def metrics(constraints: Iterable[Constraint]) -> dict[str, float]:
    """The latest violation, multiplier and penalty of each, flat for a logger; reads back once."""
    found: dict[str, Tensor] = {}
    for constraint in constraints:
        name, numbers = constraint.name, _present(constraint)
        if not numbers and constraint.slot is not None:
            weight = constraint.slot.value().detach()
            outside = ~constraint.bound.contains(weight)
            distance = constraint.bound.distance(weight)
            numbers = {"violation": torch.where(outside, distance, torch.zeros_like(distance)).max()}
        found.update({f"{name}/{key}": value for key, value in numbers.items() if key != "scale"})
        penalty = _scheduled(constraint, max(constraint.ticks - 1, 0))
        if constraint.window.records and "penalty" not in numbers and not math.isnan(penalty):
            found[f"{name}/penalty"] = penalty * numbers.get("scale", torch.ones(()))
    if not found:
        return {}
    device = next(iter(found.values())).device
    return dict(zip(found, torch.stack([value.to(device).double() for value in found.values()]).tolist()))
