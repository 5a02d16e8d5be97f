"""Constraints on functions of a model, as rows with a lower and an upper bound each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.methods.lookup import find_weights
from feasible.sets import Frozen, Intersection, Set
from feasible.solve.minimization.rows import Rows, rows_of
from feasible.solve.projection.weights import Weights


class Values(NamedTuple):
    """How far the constraints' values are from their sets."""

    norm: float
    """Euclidean norm of all residuals together."""
    largest: float
    """Largest distance of a unit."""
    entries: int
    """How many residuals there are."""

    @property
    def rms(self) -> float:
        """Root mean square of the residuals' entries."""
        return self.norm / math.sqrt(max(self.entries, 1))


class Cut(NamedTuple):
    """Half spaces, one a unit, that contain a convex set and touch it: ``⟨normal, value⟩ ≤ level``."""

    set: Set
    normal: Tensor
    level: Tensor
    units: Tensor
    """Which units have one."""

    def heights(self, value: Tensor) -> Tensor:
        """``⟨normal, value⟩`` for each of these units."""
        return self.set.sum_units(self.normal * value)[self.units].reshape(-1)


@dataclass
class Requirement:
    """One constraint: the function, the set, and the set's description."""

    name: str
    function: Callable[[], Tensor]
    set: Set
    position: int
    """Which of the caller's constraints it belongs to; −1: it keeps something as it is."""
    rows: list[Rows] = field(default_factory=list)
    curved: list[Set] = field(default_factory=list)
    """Convex sets that are more than their rows: half spaces that touch them are collected."""
    cuts: list[Cut] = field(default_factory=list)
    shape: torch.Size = torch.Size()

    def describe(self, value: Tensor) -> None:
        """Bind the set to a value like this one and find its rows.

        Raises:
            ValueError: the set cannot hold such a value.
            UnsupportedError: the set is a choice rather than a surface.
        """
        try:
            self.set = self.set.bind(value)
        except ValueError as error:
            raise type(error)(f"project_parameters: {self.name}: {error}") from None
        self.shape = value.shape
        for part in self.set.parts if isinstance(self.set, Intersection) else (self.set,):
            described = None if part.discrete else rows_of(part, value)
            if part.discrete or not (part.convex or described):
                raise UnsupportedError(
                    f"project_parameters: {part!r} ({self.name}) is a choice, not a surface to move along.\n"
                    "  Use feasible.exhaustive_search, or train with by=fs.ProximalAnneal(…) and problem.polish(…)."
                )
            kept = [row for row in described or () if row.is_linear or not part.convex]
            self.rows += kept
            if described is None or len(kept) < len(described):
                self.curved.append(part)

    def value(self) -> Tensor:
        """What the function returns, in float64.

        Raises:
            ValueError: its shape has changed.
        """
        value = self.function().double()
        if value.shape != self.shape:
            raise ValueError(
                f"project_parameters: the value of {self.name} had shape {tuple(self.shape)} and now has "
                f"{tuple(value.shape)}."
            )
        return value

    def seen(self, value: Tensor) -> list[Tensor]:
        """The rows of a value, flat, then those of the cuts."""
        rows = [row.function(value).reshape(-1) for row in self.rows]
        return rows + [cut.heights(value) for cut in self.cuts]

    def bounds(self) -> list[tuple[Tensor, Tensor]]:
        """Lower and upper bounds of the rows."""
        known = [(row.lower, row.upper) for row in self.rows]
        return known + [(torch.full_like(cut.level, -math.inf), cut.level) for cut in self.cuts]

    def cut(self, value: Tensor) -> None:
        """Add the half spaces that keep the curved sets and lose this value."""
        for part in self.curved:
            nearest = part.project(value)
            residual = value - nearest
            distance = part.norm(residual)
            units = distance > 0
            if bool(units.any()):
                normal = residual / part.spread(torch.where(units, distance, 1.0), value)
                level = part.sum_units(normal * nearest)[units].reshape(-1)
                self.cuts.append(Cut(part, normal, level, units))


class Conditions:
    """All constraints of a projection, evaluated together.

    Args:
        weights: the parameters that may move.
        constraints: pairs ``(function of the module, set)``, or ``(pattern of names, set)``.
        keep: functions of the module whose present values are to stay.

    Raises:
        ValueError, TypeError, UnsupportedError: something does not fit; the message says what.
    """

    def __init__(self, weights: Weights, constraints: object, keep: object) -> None:
        self.weights = weights
        self.given = listed(constraints)
        self.requirements = list(self._read(self.given))
        if not self.requirements:
            raise ValueError("project_parameters: there are no constraints; give pairs (function, set).")
        kept = list(keep) if isinstance(keep, Iterable) else [keep]
        for index, function in enumerate(kept):
            if not callable(function):
                raise TypeError(f"project_parameters: keep[{index}] must be a function, got {function!r}.")
            own = on_model(function, weights.model)
            self.requirements.append(Requirement(f"keep[{index}]", own, Frozen(), -1))
        self._describe()

    def _read(self, given: Sequence[object]) -> Iterator[Requirement]:
        for index, item in enumerate(given):
            if not (isinstance(item, Sequence) and len(item) == 2 and isinstance(item[1], Set)):
                mend = " Write (it, fs.Equal(0.0)) for rows that should be zero." if callable(item) else ""
                raise TypeError(
                    f"project_parameters: constraint {index} must be a pair (function of the module, set), "
                    f"got {item!r}.{mend}"
                )
            target, wanted = item
            if callable(target):
                yield Requirement(f"constraint {index}", on_model(target, self.weights.model), wanted, index)
                continue
            for slot in find_weights(self.weights.slots, target, "project_parameters"):
                yield Requirement(f"constraint {index} on {slot.name}", slot.value, wanted, index)

    def _describe(self) -> None:
        """Evaluate once: kinds, shapes, numbers and gradients have to make sense."""
        moves = False
        for requirement in self.requirements:
            value = requirement.function()
            if not isinstance(value, Tensor) or not value.is_floating_point():
                got = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(
                    f"project_parameters: the function of {requirement.name} must return a real floating-point "
                    f"tensor, got {got}."
                )
            bad = ~value.detach().isfinite()
            if bool(bad.any()):
                where = bad.nonzero()[0].tolist()
                raise ValueError(
                    f"project_parameters: the value of {requirement.name} is {value.detach()[tuple(where)].item()} at "
                    f"{where}. Start where everything has a value."
                )
            if not value.requires_grad:
                raise ValueError(
                    f"project_parameters: the value of {requirement.name} has no gradient.\n"
                    "  Compute it from the module's parameters without .item(), .detach(), NumPy or no_grad."
                )
            found = torch.autograd.grad(
                value, self.weights.leaves, torch.ones_like(value), retain_graph=True, allow_unused=True
            )
            moves = moves or any(part is not None for part in found)
            requirement.describe(value.detach().double())
        if not moves:
            raise ValueError(
                f"project_parameters: no constraint depends on {', '.join(self.weights.names)}.\n"
                "  Name the parameters that they are computed from."
            )

    # -- evaluation --------------------------------------------------------------------------------

    def values(self) -> list[Tensor]:
        """The value of each constraint in float64, with its graph where gradients are on."""
        return [requirement.value() for requirement in self.requirements]

    def seen(self) -> list[Tensor]:
        """The same without graphs: there is only one of them at a time."""
        return [requirement.value().detach() for requirement in self.requirements]

    def distances(self, values: Sequence[Tensor]) -> Values:
        """How far values are from their sets."""
        square, largest, count = 0.0, 0.0, 0
        for requirement, value in zip(self.requirements, values, strict=True):
            if not bool(value.isfinite().all()):
                return Values(math.inf, math.inf, value.numel())
            residual = requirement.set.residual(value.detach())
            distance = requirement.set.norm(residual)
            square += float(residual.square().sum())
            largest = max(largest, float(distance.max()) if distance.numel() else 0.0)
            count += value.numel()
        return Values(math.sqrt(square), largest, count)

    def rows(self, values: Sequence[Tensor]) -> Tensor:
        """All rows of these values in one vector."""
        pairs = zip(self.requirements, values, strict=True)
        parts = [row for requirement, value in pairs for row in requirement.seen(value)]
        return joined(parts, self.weights.device)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds of all rows."""
        pairs = [pair for requirement in self.requirements for pair in requirement.bounds()]
        device = self.weights.device
        return joined([low for low, _ in pairs], device), joined([high for _, high in pairs], device)

    def cut(self, values: Sequence[Tensor]) -> None:
        """Describe the sets that have no rows around these values."""
        for requirement, value in zip(self.requirements, values, strict=True):
            requirement.cut(value.detach())

    @property
    def has_fixed_rows(self) -> bool:
        """Whether rows describe all sets, and are linear in the values."""
        return not any(
            item.curved or any(not row.is_linear for row in item.rows) for item in self.requirements
        )

    def multipliers(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Multipliers of rows, as one tensor in the shape of each of the caller's constraints' values."""
        shaped: dict[int, list[Tensor]] = {}
        start = 0
        for requirement, value in zip(self.requirements, self.seen(), strict=True):
            with torch.enable_grad():
                precise = value.requires_grad_()
                seen = requirement.seen(precise)
                end = start + sum(row.numel() for row in seen)
                part = torch.zeros_like(value)
                if end > start:
                    (part,) = torch.autograd.grad(torch.cat(seen), precise, rows[start:end])
            shaped.setdefault(requirement.position, []).append(part.detach())
            start = end
        parts = [shaped[index] for index in range(len(self.given))]
        return tuple(
            each[0] if len(each) == 1 else torch.cat([p.reshape(-1) for p in each]) for each in parts
        )


def joined(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    """Flat tensors as one, in float64."""
    if len(parts) == 1:
        return parts[0].double()
    return torch.cat([torch.zeros(0, dtype=torch.float64, device=device), *parts])


def listed(constraints: object) -> list[object]:
    """The constraints as a list, where a single pair was handed in bare, too."""
    is_pair = isinstance(constraints, tuple) and len(constraints) == 2 and isinstance(constraints[1], Set)
    if is_pair:
        return [constraints]
    if not isinstance(constraints, Iterable):
        raise TypeError(
            f"project_parameters: constraints must be a list of pairs (function, set), got {constraints!r}."
        )
    return list(constraints)


def on_model(function: Callable[..., Any], model: Any) -> Callable[[], Tensor]:
    """The function with the module in its place; it may also take no argument."""
    try:
        signature(function).bind(model)
    except TypeError:
        return function
    except ValueError:  # a built-in without a signature
        pass
    return lambda: function(model)
