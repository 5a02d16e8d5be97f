"""Required values as functions of the weights, to first order: what methods that act on the step need."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from feasible.methods.multiplier_system import Solution, rank
from feasible.optim.graph import GraphRows
from feasible.optim.per_sample import NotPerSampleError
from feasible.problem.measures import Reading, reduce, work_dtype
from feasible.problem.window import Moment
from feasible.sets import Equal

if TYPE_CHECKING:
    from feasible.methods.exact_multipliers import ExactMultipliers
    from feasible.problem.constraint import Constraint

FEW = 3
"""So many rows are differentiated together without looking for samples."""
CHUNK = 2**22
"""Numbers of the value's Jacobian that one batched backward pass makes: its own memory is a multiple."""
RETRY = 100
"""Where rows cannot be told apart, they are tried again after so many steps."""


class Record(NamedTuple):
    """One value of the present window."""

    call: int
    closure: int | None
    value: Tensor
    """(systems, rows)."""
    jacobian: Tensor
    """(systems, rows, weights)."""
    samples: int


@dataclass(eq=False)
class Linearised:
    """The value of one constraint and its Jacobian by the clock optimizer's weights, until its step."""

    records: list[Record] = field(default_factory=list)
    parameters: list[Tensor] = field(default_factory=list)
    multiplier: Tensor | None = None
    """Of the last step, in the shape of the value."""
    shape: tuple[int, ...] = ()
    solution: Solution | None = None
    damping: float = 0.0
    rows: int = 0
    """Of one system in the last step, all constraints that were solved together."""
    _window: int = -1
    _per_sample: GraphRows | None = None
    _wait: int = 0
    _before: tuple[Tensor, Tensor, Tensor] | None = None
    """Broyden's weights, value and Jacobian of the step before."""

    def record(
        self, constraint: Constraint, reading: Reading, parameters: Sequence[Tensor], moment: Moment
    ) -> None:
        """Note the value, and its Jacobian while its graph is there."""
        if self._window != moment.window:
            self.records.clear()
        self._window = moment.window
        if moment.closure is not None:
            self.records = [record for record in self.records if record.closure != moment.closure]
        if len(parameters) != len(self.parameters) or any(
            a is not b for a, b in zip(parameters, self.parameters)
        ):
            self.parameters, self._per_sample, self._wait, self._before = list(parameters), None, 0, None
        if not reading.value.requires_grad or not reading.value.numel():
            return
        value, seen = quantity(constraint, reading)
        form = form_of(constraint)
        width = len(value) if form == "sample" else 1
        self.shape = tuple(reading.value.shape)
        with torch.no_grad():
            jacobian = self._jacobian(constraint, value, seen)
        self.records.append(
            Record(
                moment.call,
                moment.closure,
                seen.reshape(width, -1),
                jacobian.reshape(width, -1, jacobian.shape[-1]),
                len(reading.value) if reading.value.dim() else 1,
            )
        )

    def system(self, constraint: Constraint, moment: Moment) -> tuple[Tensor, Tensor] | None:
        """Value and Jacobian of what the step has seen; ``None``: nothing."""
        if self._window != moment.window or not self.records:
            return None
        backed = [record for record in self.records if record.call in moment.backed]
        records = backed or self.records
        value, jacobian = records[0].value, records[0].jacobian
        if len(records) > 1:
            if constraint.spec.per == "sample" and form_of(constraint) != "reduced":
                place = 0 if form_of(constraint) == "sample" else 1
                value = torch.cat([record.value for record in records], place)
                jacobian = torch.cat([record.jacobian for record in records], place)
                self.shape = (sum(record.samples for record in records), *self.shape[1:])
            else:
                total = sum(record.samples for record in records)
                weights = [record.samples / total for record in records]
                if constraint.spec.per == "value":
                    weights = [1 / len(records)] * len(records)
                value = sum_of([r.value * w for r, w in zip(records, weights, strict=True)])
                jacobian = sum_of([r.jacobian * w for r, w in zip(records, weights, strict=True)])
        self.records = []
        return value, jacobian

    # -- the Jacobian -------------------------------------------------------------------------------

    def _jacobian(self, constraint: Constraint, value: Tensor, seen: Tensor) -> Tensor:
        method: ExactMultipliers = constraint.method  # type: ignore[assignment]
        if method.jacobian == "exact":
            return self._exact(constraint, value)
        weights = torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])
        flat = seen.reshape(-1)
        if self._before is None or self._before[1].shape != flat.shape:
            jacobian = self._exact(constraint, value)
        else:
            before, at, jacobian = self._before
            step = weights - before
            length = step.square().sum()
            change = flat - at - jacobian @ step
            jacobian = jacobian + torch.where(length > 0, change / length, 0.0).unsqueeze(1) * step
        self._before = (weights, flat, jacobian)
        return jacobian

    def _exact(self, constraint: Constraint, value: Tensor) -> Tensor:
        """The Jacobian (rows, weights), in the dtype of the terms."""
        count = value.numel()
        found = None
        if count > FEW and self._wait <= 0:
            if self._per_sample is None:
                self._per_sample = GraphRows(self.parameters)
            try:
                found = self._per_sample.rows(value)
            except NotPerSampleError:
                self._wait = RETRY
        else:
            self._wait -= 1
        if found is None:
            found = batched(constraint, value, self.parameters)
        return found.to(work_dtype(found))

    # -- what the report says -----------------------------------------------------------------------

    def note(self, solution: Solution, multiplier: Tensor, damping: float) -> None:
        """Keep what the step found."""
        self.solution, self.damping, self.rows = solution, damping, solution.multiplier.shape[-1]
        self.multiplier = multiplier

    def sentence(self, constraint: Constraint) -> str:
        """Rank, rows and damping of the last step."""
        method: ExactMultipliers = constraint.method  # type: ignore[assignment]
        if self.solution is None:
            return "no step has seen its Jacobian yet"
        found = rank(self.solution.gram, self.damping, method.truncation)
        systems = self.solution.gram.shape[0]
        each = f" (the least of {systems:,} samples)" if systems > 1 else ""
        return (
            f"the Jacobian of {self.rows:,} row{'s' * (self.rows != 1)} had numerical rank {found:,} in the last "
            f"step{each}, damping {self.damping:.2g}"
        )


def sum_of(parts: Sequence[Tensor]) -> Tensor:
    """Their sum."""
    return torch.stack(list(parts)).sum(0)


def form_of(constraint: Constraint) -> str:
    """Which rows are solved together."""
    method: ExactMultipliers = constraint.method  # type: ignore[assignment]
    if method.form is not None:
        return method.form
    if constraint.spec.per == "value":
        return "batch"
    return "sample" if constraint.spec.reduction == "mean" else "reduced"


def has_own_sets(constraint: Constraint) -> bool:
    """Whether each entry has a convex set of its own."""
    return constraint.bound.separable and constraint.bound.convex


def quantity(constraint: Constraint, reading: Reading) -> tuple[Tensor, Tensor]:
    """What is linearised, with its graph, and its present value."""
    value = reading.value.to(work_dtype(reading.value))
    seen = reading.seen.to(value.dtype)
    if form_of(constraint) == "reduced":
        amount, slopes = _reduced(constraint, seen)
        return (value * slopes).sum().reshape(1), amount.reshape(1)
    if isinstance(constraint.bound, Equal):
        return value, constraint.bound.residual(seen)
    if has_own_sets(constraint):
        return value, seen
    residual = constraint.bound.residual(value)
    return residual, constraint.bound.residual(seen) if reading.truth is not None else residual.detach()


@torch.no_grad()
def _reduced(constraint: Constraint, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The samples' distances as one number, less the tolerance where one is given, and its slopes by the value."""
    residual = constraint.bound.residual(seen)
    samples = len(seen) if seen.dim() else 1
    flat = residual.reshape(samples, math.prod(residual.shape[1:]))
    distance = torch.linalg.vector_norm(flat, dim=1)
    amount, slope = reduce(distance, constraint.spec.reduction, constraint.state.get("width"))
    length = torch.where(distance == 0, 1.0, distance)
    slopes = (flat * (slope / length).unsqueeze(1)).reshape(seen.shape)
    return amount - (constraint.spec.tolerance or 0.0), slopes


def projection(
    constraint: Constraint, value: Tensor, shape: Sequence[int]
) -> Callable[[Tensor], Tensor] | None:
    """Nearest members of values (systems, rows); ``None`` where the row itself must become 0."""
    if form_of(constraint) == "reduced":
        return (lambda x: x.clamp_max(0)) if constraint.spec.tolerance else None
    if isinstance(constraint.bound, Equal) or not has_own_sets(constraint):
        return None
    return lambda x: constraint.bound.project(x.reshape(tuple(shape))).reshape(x.shape)


def batched(constraint: Constraint, value: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """The Jacobian by batched backward passes, some rows at a time."""
    count, width = value.numel(), sum(parameter.numel() for parameter in parameters)
    size = max(1, min(count, CHUNK // max(width, value.numel(), 1)))
    pieces = []
    for start in range(0, count, size):
        rows = torch.arange(start, min(start + size, count), device=value.device)
        slopes = value.new_zeros(len(rows), count)
        slopes[torch.arange(len(rows), device=value.device), rows] = 1
        parts = torch.autograd.grad(
            value,
            parameters,
            slopes.reshape(len(rows), *value.shape),
            is_grads_batched=True,
            retain_graph=True,
            allow_unused=True,  # materialize_grads would make zeros without a dimension for the rows
        )
        columns = [
            value.new_zeros(len(rows), parameter.numel())
            if part is None
            else part.reshape(len(rows), -1).to(value.dtype)
            for part, parameter in zip(parts, parameters, strict=True)
        ]
        pieces.append(torch.cat(columns, 1))
    return torch.cat(pieces)
