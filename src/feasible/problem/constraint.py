"""One declared constraint: a set on a weight or on a value, its method, its state and its window."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from feasible.methods.method import Method, Pull, State, attach_gradient, state_like
from feasible.methods.slot import Slot
from feasible.problem import history
from feasible.problem.history import History, Series
from feasible.problem.linearised import Linearised, form_of
from feasible.problem.measures import (
    EverySample,
    Handed,
    IndexedSample,
    Measure,
    Reading,
    SampleDistance,
    WholeValue,
    detached,
)
from feasible.problem.probe import (
    LossSize,
    first_scale,
    is_measured,
    measured,
    norms_of_both,
    norms_of_gradients,
    updated,
)
from feasible.problem.ranks import is_distributed
from feasible.problem.window import Moment, Window
from feasible.sets import Set, Where
from feasible.surrogate import Surrogate

Per = Literal["value", "sample", "index"]


@dataclass(frozen=True)
class ValueSpec:
    """How ``require`` was told to read a value."""

    per: Per = "value"
    size: int | None = None
    reduction: str | float = "mean"
    tolerance: float | None = None
    average: str | float | None = None
    function: Callable[[Any], Tensor] | None = None


@dataclass(frozen=True)
class Settled:
    """How many units of a weight the end of the training has moved, and the farthest of them."""

    moved: int
    units: int
    farthest: float

    @classmethod
    def between(cls, before: Tensor, after: Tensor, set: Set) -> Settled:
        """From what the model computed with to what it is left with."""
        distance = set.norm(after - before)
        mask = set.mask.expand_as(before) if isinstance(set, Where) and set.separable else None
        units = distance.numel() if mask is None else int(mask.sum())
        farthest = float(distance.max()) if distance.numel() else 0.0
        return cls(int((distance != 0).sum()), units, farthest)


@dataclass(eq=False)
class Constraint:
    """A set, what it holds for, and the method that enforces it."""

    name: str
    set: Set
    method: Method
    moment: Moment
    slot: Slot | None = None
    spec: ValueSpec = field(default_factory=ValueSpec)
    enabled: bool = True
    state: State = field(default_factory=dict)
    window: Window = field(default_factory=Window)
    history: History = field(default_factory=History)
    linearised: Linearised = field(default_factory=Linearised)
    """What a method that acts on the step knows of the value beside its numbers."""
    measure: Measure | None = None
    """``None`` until the value has been seen for the first time."""
    moved: float = 0.0
    """How far the weight was moved when the constraint was declared."""
    last: Tensor | None = None
    """The value that the last term was computed from."""
    gradientless: bool = False
    """Whether the last value came without a gradient."""
    reach: Tensor | None = None
    """Norms of the pull at the weights and at the value, as last measured."""
    raw_gradient: Tensor | None = None
    """The weight's descent direction, negated, before the method replaced it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The parameter group of the weight in its optimizer: learning rate, direction, …"""
    alone: State = field(default_factory=dict)
    """What this process has measured by itself, and what was before: until the ranks agree."""
    saturation: float | None = None
    """Share of saturated entries when the chart was taken away."""
    settled: Settled | None = None
    """What ``finish`` has moved; ``None`` before it."""
    _shape: tuple[int, ...] = ()
    _kind: tuple[torch.dtype, torch.device] | None = None
    _amounts: list[Tensor] = field(default_factory=list)
    _nonfinite: Tensor | int = 0
    _origin: int = field(init=False)
    _paused_at: int = 0
    _probed_at: int = -1
    unscaled: str = ""
    """Why the gradients could not be compared, if they could not."""

    def __post_init__(self) -> None:
        self._origin = self.moment.ticks
        self.window.is_common = self.slot is not None

    @property
    def ticks(self) -> int:
        """Steps that this constraint has seen: the clock counts for all, so that a step costs nothing here."""
        return self.moment.ticks - self._origin if self.enabled else self._paused_at

    @ticks.setter
    def ticks(self, value: int) -> None:
        self._origin = self.moment.ticks - value
        self._paused_at = value

    def switch(self, on: bool) -> None:
        """Let the constraint act, or rest with its steps and its state as they are."""
        ticks = self.ticks
        self.enabled, self.ticks = on, ticks

    @property
    def follows(self) -> bool:
        """Whether the method changes how the weight is stored as the training goes on."""
        return self.slot is not None and type(self.method).follow is not Method.follow

    def follow(self) -> None:
        """Bring the weight to where the method's schedule is now."""
        assert self.slot is not None
        self.method.follow(self.slot, self.bound, self.ticks)

    @property
    def sign(self) -> float:
        """−1 where the weight's optimizer maximises."""
        return -1.0 if self.options.get("maximize") else 1.0

    @property
    def has_term(self) -> bool:
        """Whether the method adds anything to the loss."""
        return type(self.method).pull is not Method.pull

    @property
    def bound(self) -> Set:
        """The set on the device and dtype of its value."""
        if self.measure is None:
            return self.set
        return self.measure.sample_set if isinstance(self.measure, SampleDistance) else self.measure.set

    # -- binding -----------------------------------------------------------------------------------

    @torch.no_grad()
    def enter(self, bound: Set) -> None:
        """Move the weight to where the method starts, change its storage, note how far it has moved."""
        slot, method = self.slot, self.method
        assert slot is not None
        before = slot.value().detach().clone()
        start = method.start(before, bound)
        if not torch.equal(start, before):
            slot.write(start)
        method.install(slot, bound)
        method.follow(slot, bound, self.ticks)
        weight = slot.value().detach()
        self.moved = float(torch.linalg.vector_norm((weight - before).float()))
        self._kind = (weight.dtype, weight.device)
        self.measure = WholeValue(self.method, bound)
        self.state = {**self.method.bind(weight, bound), **self._first_scale(weight)}

    def follow_weight(self) -> None:
        """The weight may have moved to another device or dtype since it was constrained."""
        assert self.slot is not None
        assert self.measure is not None
        weight = self.slot.value().detach()
        if (weight.dtype, weight.device) != self._kind:
            self._kind = (weight.dtype, weight.device)
            self.measure = WholeValue(self.method, self.measure.set.bind(weight))
            work = torch.promote_types(weight.dtype, torch.float32)
            self.state = {key: value.to(weight.device, work) for key, value in self.state.items()}

    # A first value seen under inference_mode must not make a state that autograd refuses later.
    @torch.inference_mode(False)
    def bind_value(self, value: Tensor, has_truth: bool = False) -> None:
        """The first value decides shape, dtype and device."""
        if not value.is_floating_point():
            raise ValueError(
                f"{self.name}: expected floating-point numbers, got {value.dtype}. Convert with .float()."
            )
        if self.spec.per != "value" and value.dim() == 0:
            raise ValueError(
                f'{self.name}: per="{self.spec.per}" needs a batch in dimension 0, got a single number.'
            )
        bound = self.set.bind(detached(value))
        if self.spec.per != "value" and _ties_samples(bound, value.shape):
            raise ValueError(
                f'{self.name}: per="{self.spec.per}" needs a set that speaks of one sample at a time, but the unit of '
                f"{self.set!r} is the {bound.unit} of a value of shape {tuple(value.shape)}.\n"
                "  Give the set a dim that is not the batch, or the samples one more dimension."
            )
        measure = self._measure(bound)
        template = measure.template(value)
        self.state = {**self.method.bind(template, measure.set), **self._first_scale(template)}
        square = value.detach().float().square().mean()
        squares = torch.stack([square, torch.ones_like(square)]) * value.numel()
        self.alone = {"squares": torch.where(square.isfinite(), squares, 0.0)}
        self.state.update(self._units(measure, self.alone["squares"]))
        if isinstance(measure, WholeValue) and self.spec.average is not None:
            self.state["average"] = measure.average_like(template, has_truth)
        self._shape = measure.shape(value)
        self.measure = measure
        if self.method.linearises and self.spec.per == "value" and form_of(self) == "batch":
            self.state["multiplier"] = state_like(value)

    def unbind(self) -> None:
        """As before the first value."""
        self.measure, self.state, self.alone = None, {}, {}
        self.history.clear()

    def _measure(self, bound: Set) -> Measure:
        spec = self.spec
        if spec.per == "value":
            return WholeValue(self.method, bound, spec.average)
        if spec.per == "index":
            assert spec.size is not None
            return IndexedSample(self.method, bound, spec.size)
        if self.method.has_multiplier and not self.method.linearises:
            return SampleDistance(self.method, bound, spec.average, spec.reduction)
        return EverySample(self.method, bound)

    def _units(self, measure: Measure, squares: Tensor) -> State:
        """Tolerance and unit, from the sum of squares of the first value and the number of its entries.

        Half the RMS makes a method's own numbers fit outputs of any size; the user's win.
        """
        size = (squares[0] / squares[1].clamp_min(1)).sqrt()
        half = torch.where(size > 0, size / 2, 1.0)
        given = self.spec.tolerance
        units = {"tolerance": size / 1000 if given is None else torch.full_like(size, given)}
        if isinstance(measure, SampleDistance):
            units["unit"] = half if self.method.automatic else torch.ones_like(half)
        if self.spec.reduction == "huber" and measure.batched:
            units["width"] = half
        return units

    # -- in the loss -------------------------------------------------------------------------------

    def read(self, handed: Handed) -> Reading:
        """What was handed in, checked against the shape that the constraint was bound to."""
        if self.slot is not None:
            return Reading(self.slot.value())
        if self.measure is not None:
            return self._checked(self.measure, handed)
        self.bind_value(_first_value(handed, self.spec.per, self.name), isinstance(handed, Surrogate))
        assert self.measure is not None
        try:
            return self._checked(self.measure, handed)
        except ValueError:
            self.unbind()
            raise

    def _checked(self, measure: Measure, handed: Handed) -> Reading:
        reading = measure.split(handed, self.name)
        self.check_shape(reading.value)
        return reading

    def check_shape(self, value: Tensor) -> None:
        """Raise ``ValueError`` where a value has another shape than the first one."""
        assert self.measure is not None
        if (value.dim() == 0 and self.spec.per != "value") or self.measure.shape(value) != self._shape:
            batch = "" if self.spec.per == "value" else "(batch) + "
            raise ValueError(
                f"{self.name}: expected a value of shape {batch}{self._shape} as in its first step, "
                f"got {tuple(value.shape)}."
            )

    def term(self, reading: Reading, record: bool) -> Tensor:
        """What the loss gains at a value that ``read`` has checked."""
        assert self.measure is not None
        moment = self.moment if record else None
        with torch.no_grad():
            pull = self.measure.pull(reading, self.state, self.ticks, self.window, moment)
            if "scale" in self.state:
                scale = self.state["scale"].to(pull.amount.dtype)
                pull = Pull(pull.amount * scale, pull.gradient * scale)
        if record:
            self.last = reading.seen
            self.gradientless = self.slot is None and not reading.value.requires_grad
            self._count(reading.seen.sum() * 0 if self.method.linearises else pull.amount)
        if self.method.linearises:
            return pull.amount
        return attach_gradient(reading.value, pull) if reading.truth is None else _known_part(reading, pull)

    # -- how hard to pull --------------------------------------------------------------------------

    def _first_scale(self, value: Tensor) -> State:
        return first_scale(detached(value)) if self.has_term and self.method.automatic else {}

    def is_probed(self) -> bool:
        """Whether this step measures how hard the constraint has to pull; once a step."""
        ticks = self.ticks
        is_due = is_measured(ticks) and "scale" in self.state and self._probed_at != ticks
        self._probed_at = ticks
        return is_due

    def probe(
        self,
        reading: Reading,
        loss: LossSize,
        leaves: Sequence[Tensor],
        rate: float | None,
    ) -> None:
        """Compare the gradients of value and loss; the multiplier keeps its size where the scale changes."""
        assert self.measure is not None
        with torch.no_grad():
            ahead = self.measure.outlook(detached(reading.value), self.state)
        norms = norms_of_gradients(reading.value, ahead.direction, leaves)
        with torch.no_grad():
            found = measured(self.state, loss.amount, *norms_of_both(loss.norms, norms), ahead, rate)
            if is_distributed():
                before = {key: self.state[key] for key in ("scale", "probes", "extent")}
                self.alone.update(before, found=found)
            self._rescale(updated(self.state, found))

    def _rescale(self, new: State) -> None:
        """Multipliers keep their size."""
        multiplier = self.state["multiplier"]
        self.history.stack()  # what waits there is this very tensor
        multiplier.mul_((self.state["scale"] / new["scale"]).to(multiplier.dtype))
        self.state.update(new)
        if isinstance(self.measure, WholeValue):
            self.measure.forget()

    # -- what ranks agree on ------------------------------------------------------------------------

    def proposal(self, device: torch.device) -> Tensor:
        """What this rank has measured since they last agreed, for all to be added up."""
        squares, found = (self.alone.get(k, torch.zeros(n)) for k, n in (("squares", 2), ("found", 3)))
        return torch.cat([squares.to(device, torch.float32), found.to(device, torch.float32)])

    def agree(self, total: Tensor) -> None:
        """Take the units and the scale that follow from all that the ranks have measured."""
        if self.measure is None:
            return
        if "scale" in self.state:
            found = total[2:].to(self.state["scale"])
            self._rescale(updated({**self.state, **self.alone}, found))
        self.alone = {}
        if "tolerance" in self.state:
            squares = total[:2].to(self.state["tolerance"])
            for key, new in self._units(self.measure, squares).items():
                self.state[key] = torch.where(squares[1] > 0, new, self.state[key])

    # -- after the step ----------------------------------------------------------------------------

    def tick(self, full: bool, skipped: Tensor | None = None) -> None:
        """The clock has stepped: move the state once, where the result is finite and no step was skipped."""
        is_open = self.window.is_open(self.moment)
        if is_open:
            self.window.keep_backed(self.moment)
        elif is_distributed() and self.window.records:
            self.window.stand_aside()
        else:
            return
        assert self.measure is not None
        if isinstance(self.measure, IndexedSample):
            self.measure.update_rows_(self.state, self.ticks, full, self.window, skipped)
        for key, new in self.measure.update(self.state, self.ticks, full, self.window).items():
            old = self.state[key]
            # x − x is 0 for finite x and NaN for every other: no broken number enters the state.
            new = torch.where((new - new) == 0, new, old)
            self.state[key] = new if skipped is None else torch.where(skipped, old, new)
        if is_open and self.ticks >= self.history.due:
            history.record(self)

    def _count(self, amount: Tensor) -> None:
        """Non-finite terms are counted later, many at a time: counting now would cost as much as the term."""
        self._amounts.append(amount)
        if len(self._amounts) >= 256:
            self._flush()

    def _flush(self) -> None:
        """The count stays on the device: reading it back would make the host wait."""
        if self._amounts:
            self._nonfinite = self._nonfinite + (~torch.stack(self._amounts).isfinite()).sum()
            self._amounts.clear()

    @property
    def nonfinite(self) -> int:
        """How many recorded terms were not finite."""
        self._flush()
        return int(self._nonfinite)


class Registry(Protocol):
    """What a handle asks of its problem."""

    def check_optimizers(self, constraints: list[Constraint]) -> None:
        """Raise where an attached optimizer cannot work with constraints that are to act."""

    def refresh(self) -> None:
        """Constraints have been switched."""

    def remove(self, constraints: list[Constraint]) -> None:
        """Take constraints back."""


class Handle:
    """What ``constrain``, ``freeze`` and ``require`` return: a grip on what was declared."""

    def __init__(self, name: str, constraints: list[Constraint], problem: Registry) -> None:
        self.name = name
        self._constraints = constraints
        self._problem = problem

    @property
    def violation(self) -> float:
        """Largest distance to the set: of the weights now, or of the last values that were handed in."""
        worst = []
        for constraint in self._constraints:
            value = constraint.slot.value() if constraint.slot is not None else constraint.last
            if value is None:
                return math.nan
            if value.numel():
                worst.append(float(violations(constraint, value.detach()).max()))
        return math.nan if any(map(math.isnan, worst)) else max(worst, default=0.0)

    @property
    def multiplier(self) -> Tensor | None:
        """The multiplier, negative at lower bounds; a weight of several that the pattern matched has its own."""
        multipliers = [multiplier_of(constraint) for constraint in self._constraints]
        return multipliers[0] if len(multipliers) == 1 else None

    @property
    def multipliers(self) -> dict[str, Tensor | None]:
        """The multiplier of every weight that the pattern matched."""
        return {constraint.name: multiplier_of(constraint) for constraint in self._constraints}

    @property
    def history(self) -> Series | None:
        """Violation, multiplier and penalty over the steps; each weight of several has its own."""
        return history.read(self._constraints[0]) if len(self._constraints) == 1 else None

    @property
    def histories(self) -> dict[str, Series]:
        """The history of every weight that the pattern matched."""
        return {constraint.name: history.read(constraint) for constraint in self._constraints}

    @property
    def enabled(self) -> bool:
        """Whether the constraint acts; assign to switch it."""
        return all(constraint.enabled for constraint in self._constraints)

    @enabled.setter
    def enabled(self, value: bool) -> None:
        for constraint in self._constraints:
            if constraint.enabled == value:
                continue
            if constraint.method.latent:
                raise ValueError(
                    f"{constraint.name}: a reparametrized weight cannot leave its set; use remove()."
                )
            if value:
                self._problem.check_optimizers([constraint])
            constraint.switch(value)
            if constraint.slot is not None:
                change = constraint.method.install if value else constraint.method.uninstall
                change(constraint.slot, constraint.bound)
        self._problem.refresh()

    def remove(self) -> None:
        """Take the constraint back; the weights keep their present values."""
        self._problem.remove(self._constraints)

    def __repr__(self) -> str:
        first = self._constraints[0]
        return f"<{self.name}: {first.set!r} by {first.method!r}>"


def violations(constraint: Constraint, value: Tensor) -> Tensor:
    """Distance of each unit to the set: 0 where the set contains it, NaN where the value is."""
    if constraint.slot is None:
        value = detached(value)
    set = constraint.bound if constraint.measure is not None else constraint.set.bind(value)
    distance = set.distance(value)
    return torch.where(set.contains(value), torch.zeros_like(distance), distance)


def multiplier_of(constraint: Constraint) -> Tensor | None:
    """The method's multiplier in the shape of the constrained value."""
    measure, state = constraint.measure, constraint.state
    if constraint.method.linearises and "multiplier" not in state:
        return constraint.linearised.multiplier
    if measure is None or not constraint.method.has_multiplier:
        return None
    if isinstance(measure, IndexedSample):
        rows = state["multiplier"]
        return rows * state["scale"].to(rows.dtype) if "scale" in state else rows.clone()
    if constraint.window.records:
        at = measure.mean(constraint.window)
    elif constraint.slot is not None:
        at = detached(constraint.slot.value())
    else:
        at = state["multiplier"]  # restored from a checkpoint, no value seen yet
    found = constraint.method.multiplier(at, measure.set, state)
    if found is None:
        return None
    found = found * state["scale"].to(found.dtype) if "scale" in state else found.clone()
    return found / state["unit"] if isinstance(measure, SampleDistance) else found


def _first_value(handed: Handed, per: Per, name: str) -> Tensor:
    """The tensor that decides shape, dtype and device."""
    if isinstance(handed, Surrogate):
        return handed.smooth
    first = handed[0] if per == "index" and isinstance(handed, (tuple, list)) and handed else handed
    if not isinstance(first, Tensor):
        raise ValueError(f"{name}: expected a tensor, got {type(first).__name__}.")
    return first


def _known_part(reading: Reading, pull: Pull) -> Tensor:
    """The term of a surrogate; where its truth is NaN (no sample of a group in the batch), nothing pulls."""
    unknown = reading.seen.isnan()
    value = torch.where(unknown, 0.0, reading.value)
    gradient = torch.where(unknown | pull.gradient.isnan(), 0.0, pull.gradient)
    return attach_gradient(value, Pull(torch.where(pull.amount.isnan(), 0.0, pull.amount), gradient))


def _ties_samples(set: Set, shape: torch.Size) -> bool:
    """Whether a unit of the set reaches over several samples, the entries of dimension 0."""
    for count in (2, 3):
        norm = set.norm(torch.empty((count, *shape[1:]), device="meta"))
        if norm.dim() == 0 or norm.shape[0] != count:
            return True
    return False


def root_mean_square(value: Tensor) -> Tensor:
    """Typical magnitude of the entries; 0 where none is finite or there is none."""
    return torch.nan_to_num(value.detach().float().square().mean().sqrt(), nan=0.0, posinf=0.0)
