"""Conditions that hold by construction: the network is wrapped so that whatever it computes satisfies them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.func import jvp

from feasible.errors import UnsupportedError
from feasible.pde.conditions import Condition, Dirichlet, Initial, Neumann, OnPart
from feasible.pde.domains import Disc, Domain, Face, TimeCylinder
from feasible.pde.forward_mode import load
from feasible.pde.samplers import grid
from feasible.pde.values import known

__all__ = ["Hard", "hard"]

Model = Callable[..., Tensor]
CHECKED = 5
"""Points along each direction of a face where conditions are compared."""


def hard(model: Model, *conditions: Condition, check: bool = True) -> Hard:
    """The model, changed so that the conditions hold exactly for all weights.

    ``u = G + H N``: G satisfies the conditions, and H maps any function to one that satisfies them with zeros
    instead of values. On a face at distance φ, H multiplies by φ for a value; for a slope it is
    ``(1 − φ²) N(on the face) + φ² N``, which loses no smooth solution and needs no derivative of N; a value and a slope
    together multiply by φ². Along each coordinate one such map, applied one after the other. The values inside
    are carried over by Hermite polynomials and, where faces meet, by Boolean sums.

    Args:
        model: of ``(x, *inputs)``, (n, m); a module, so that its parameters are found.
        conditions: ``Dirichlet``, ``Initial``, and ``Neumann`` on faces; on a disc ``Dirichlet``.
        check: compare the conditions where they meet (values must be functions of x alone).

    Returns:
        A module; ``derivatives`` works on it as on any other.

    Raises:
        UnsupportedError: a condition cannot be built in.
        ValueError: conditions belong to several domains, occur twice, or conflict where they meet.

    >>> from feasible import pde
    >>> line = pde.Interval(0, 1)
    >>> model = hard(nn.Linear(1, 1), pde.Dirichlet(line, "left", 2.0), pde.Neumann(line, "right", 3.0))
    >>> u = pde.derivatives(model, torch.tensor([[0.0], [1.0]]))
    >>> bool((u.value[0] - 2).abs() < 1e-6), bool((u.gradient[1] - 3).abs() < 1e-6)
    (True, True)

    Source: Lagaris, Likas & Fotiadis, *Artificial neural networks for solving ordinary and partial differential
    equations* (1998); Sukumar & Srivastava, *Exact imposition of boundary conditions with distance functions* (2022).
    """
    parts = [readable(condition) for condition in conditions]
    if not parts:
        raise ValueError("hard: expected at least one condition, got none.")
    domain = parts[0].domain
    for condition in parts:
        if condition.domain != domain:
            raise ValueError(f"hard: {condition.name} belongs to {condition.domain}, not to {domain}.")
    wrapped = Hard(model, domain, parts)
    if check:
        wrapped.compare()
    return wrapped


def readable(condition: Condition) -> OnPart:
    """A condition that can be built in.

    Raises:
        UnsupportedError: it cannot.
    """
    if not isinstance(condition, (Dirichlet, Neumann, Initial)):
        raise UnsupportedError(
            f"hard: {condition.name} cannot be built into a network.\n"
            "  Works with: Dirichlet, Neumann, Initial. Give the others to System, or require them."
        )
    is_curved = condition.domain.face(condition.part) is None
    if is_curved and not isinstance(condition, Dirichlet):
        raise UnsupportedError(
            f"hard: {condition.name} is on a curved part, where slopes cannot be built in.\n"
            "  Works with: Dirichlet there; Neumann on the faces of intervals and rectangles."
        )
    return condition


@dataclass
class Side:
    """What is known on one face: a value, a slope along the coordinate, or both."""

    face: Face
    value: Callable[..., Any] | None = None
    slope: Callable[..., Any] | None = None

    @property
    def is_slope_alone(self) -> bool:
        """Whether the value on the face is free."""
        return self.value is None and self.slope is not None


@dataclass
class Axis:
    """A coordinate with conditions on one or both of its faces."""

    number: int
    low: float
    high: float
    sides: list[Side] = field(default_factory=list)

    def distance(self, x: Any, side: Side) -> Any:
        """φ: 0 on the face, 1 on the one opposite; (n, 1)."""
        place = x[:, self.number : self.number + 1]
        away = place - self.low if side.face.sign < 0 else self.high - place
        return away * (1 / (self.high - self.low))

    def onto(self, x: Any, side: Side) -> Any:
        """The points moved onto the face."""
        put = torch.full_like(x[:, :1], side.face.value)
        return torch.cat([x[:, : self.number], put, x[:, self.number + 1 :]], 1)

    def other(self, side: Side) -> Side | None:
        """The one opposite, if anything is known there."""
        return next((each for each in self.sides if each is not side), None)

    def bubble(self, x: Any) -> Any:
        """What the network is multiplied by: φ for a value, φ² for a slope."""
        result = None
        for side in self.sides:
            distance = self.distance(x, side)
            factor = distance if side.slope is None else distance**2
            result = factor if result is None else result * factor
        return result

    def hold(self, x: Any, side: Side) -> Any:
        """1 on the face with slope 0; opposite, what the condition there leaves alone."""
        distance, other = self.distance(x, side), self.other(side)
        if other is None or other.slope is None:
            return 1 - distance**2
        return 1 - 3 * distance**2 + 2 * distance**3

    def blends(self, x: Any, side: Side) -> tuple[Any, Any]:
        """The functions that carry the face's value and its slope inside."""
        distance = self.distance(x, side)
        stretch = -side.face.sign * (self.high - self.low)
        if self.other(side) is None:
            return 1 + 0 * distance, stretch * distance
        return 1 - 3 * distance**2 + 2 * distance**3, stretch * distance * (1 - distance) ** 2


@final
class Hard(nn.Module):
    """A model that satisfies conditions by construction; ``hard`` makes it.

    Args:
        model: the network.
        domain: where.
        conditions: that can be built in.
    """

    def __init__(self, model: Model, domain: Domain, conditions: Sequence[OnPart]) -> None:
        super().__init__()
        self.model = model
        self.domain = domain
        self.conditions = tuple(conditions)
        components = {c.component for c in conditions}
        self._components = sorted(each for each in components if each is not None)
        self._plans = {c: self._plan(c) for c in [None, *self._components]}

    def forward(self, x: Tensor, *inputs: Any) -> Tensor:
        """``G + H N``."""
        found: dict[tuple[tuple[int, float], ...], Tensor] = {}

        def network(at: Tensor, key: tuple[tuple[int, float], ...]) -> Tensor:
            if key not in found:
                value = self.model(at, *inputs)
                found[key] = value if value.dim() == 2 else value.unsqueeze(1)
            return found[key]

        if not self._components:
            return cast(Tensor, self._plans[None].apply(network, x, inputs))
        whole = network(x, ())
        columns = []
        for component in range(whole.shape[1]):
            plan = self._plans.get(component, self._plans[None])

            def one(at: Tensor, key: tuple[tuple[int, float], ...], number: int = component) -> Tensor:
                return network(at, key)[:, number : number + 1]

            columns.append(plan.apply(one, x, inputs))
        return torch.cat(columns, 1)

    @torch.no_grad()
    def compare(self) -> None:
        """Raise where conditions contradict each other on a part that they share.

        Raises:
            ValueError: they do.
        """
        for condition in self.conditions:
            plan = self._plans[condition.component]

            def lift(x: Tensor, plan: Plan = plan) -> Tensor:
                zero = torch.zeros_like(x[:, :1])
                return cast(Tensor, zero + plan.lift(x, ()))

            x = grid(self.domain, CHECKED, condition.part, dtype=torch.float64)
            single = condition if condition.component is None else first_component(condition)
            off = single.raw(lift, x).abs()
            size = 1 + float(known(single.name, single.value, x, (), 1).abs().max())
            if not bool((off <= 1e-6 * size).all()):
                row = int(off.amax(1).argmax())
                raise ValueError(
                    f"hard: {condition.name} conflicts with another condition where they meet, by "
                    f"{float(off.max()):.2g} at {x[row].tolist()}.\n"
                    "  Mend the values, or require one of them instead of building it in (check=False keeps the last)."
                )

    def _plan(self, component: int | None) -> Plan:
        """What is built in for one output."""
        own = [c for c in self.conditions if c.component is None or c.component == component]
        axes: dict[int, Axis] = {}
        curved: Dirichlet | None = None
        for condition in own:
            face = self.domain.face(condition.part)
            if face is None:
                if curved is not None:
                    raise ValueError(f"hard: {condition.name} is given twice.")
                curved = cast(Dirichlet, condition)
                continue
            low, high = (corner[face.axis] for corner in self.domain.bounds)
            axis = axes.setdefault(face.axis, Axis(face.axis, low, high))
            side = next((s for s in axis.sides if s.face == face), None)
            if side is None:
                side = Side(face)
                axis.sides.append(side)
            enter(side, condition)
        if curved is not None and axes:
            raise UnsupportedError(
                "hard: conditions on a circle and on faces cannot both be built in.\n  Require one of them."
            )
        # Slopes first: nothing has to be differentiated for the first coordinate.
        ordered = sorted(
            axes.values(), key=lambda axis: (all(s.slope is None for s in axis.sides), axis.number)
        )
        return Plan(ordered, curved, self.domain)


def enter(side: Side, condition: OnPart) -> None:
    """Note a condition on its face.

    Raises:
        ValueError: there is one of its kind already.
    """
    is_slope = isinstance(condition, Neumann) or (isinstance(condition, Initial) and condition.order == 1)
    name = "slope" if is_slope else "value"
    if getattr(side, name) is not None:
        raise ValueError(f"hard: {condition.name} is given twice.")
    outward = side.face.sign if isinstance(condition, Neumann) else 1.0

    setattr(side, name, partial(given, condition, outward))


def given(condition: OnPart, outward: float, x: Any, *inputs: Any) -> Any:
    """The value of a condition, of slopes that along the coordinate."""
    value = condition.value
    if callable(value) and not isinstance(value, Tensor):
        value = as_column(value(x, *inputs))
    return value if outward == 1 else outward * value


@dataclass
class Plan:
    """What is built in for one output."""

    axes: list[Axis]
    curved: Dirichlet | None
    domain: Domain

    def apply(self, network: Any, x: Any, inputs: tuple[Any, ...]) -> Any:
        """``G + H N``."""
        return self.homogeneous(network, x) + self.lift(x, inputs)

    def homogeneous(self, network: Any, x: Any) -> Any:
        """H N, by the values of N on all faces whose values are free."""
        total = None
        for pick in self._picks():
            at, factor = x, self._roundness(x)
            key: tuple[tuple[int, float], ...] = ()
            for axis, side in zip(self.axes, pick):
                weight = axis.bubble(x) if side is None else axis.hold(x, side)
                factor = weight if factor is None else factor * weight
                if side is not None:
                    at = axis.onto(at, side)
                    key = (*key, (axis.number, side.face.value))
            value = network(at, key)
            term = value if factor is None else factor * value
            total = term if total is None else total + term
        return total

    def lift(self, x: Any, inputs: tuple[Any, ...], count: int | None = None) -> Any:
        """G: the values, carried inside along one coordinate after the other."""
        if self.curved is not None:
            return self._round(x, inputs)
        total: Any = 0.0
        for number, axis in enumerate(self.axes[:count]):
            before = None if number == 0 else number
            for side in axis.sides:
                at = axis.onto(x, side)
                carry, tilt = axis.blends(x, side)
                if side.value is not None:
                    rest = 0.0 if before is None else self.lift(at, inputs, before)
                    total = total + carry * (side.value(at, *inputs) - rest)
                if side.slope is not None:
                    rest = 0.0 if before is None else self._slope(at, inputs, before, axis.number)
                    total = total + tilt * (side.slope(at, *inputs) - rest)
        return total

    def _slope(self, x: Any, inputs: tuple[Any, ...], count: int, number: int) -> Any:
        """The derivative of the values so far along a coordinate."""
        load()
        direction = torch.zeros_like(x)
        direction[:, number] = 1

        def before(at: Tensor) -> Tensor:
            return cast(Tensor, torch.zeros_like(at[:, :1]) + self.lift(at, inputs, count))

        return jvp(before, (x,), (direction,))[1]

    def _picks(self) -> Iterator[tuple[Side | None, ...]]:
        """For each coordinate the inside, or a face whose value is free."""
        choices = [[None, *(side for side in axis.sides if side.is_slope_alone)] for axis in self.axes]
        yield from itertools.product(*choices)

    def _disc(self) -> Disc:
        space = self.domain.space if isinstance(self.domain, TimeCylinder) else self.domain
        return cast(Disc, space)

    def _roundness(self, x: Any) -> Any:
        """1 at the centre, 0 on the circle; ``None`` where nothing is known there."""
        if self.curved is None:
            return None
        disc = self._disc()
        squares = sum((x[:, i : i + 1] - c) ** 2 for i, c in enumerate(disc.centre))
        return 1 - squares * (1 / disc.radius**2)

    def _round(self, x: Any, inputs: tuple[Any, ...]) -> Any:
        """The value on the circle, as the function of x that was given."""
        value = self.curved.value if self.curved is not None else 0.0
        if not callable(value) or isinstance(value, Tensor):
            return value
        return as_column(value(x, *inputs))


def as_column(value: Any) -> Any:
    """What a user's function gave, (n, m); numbers stay numbers."""
    return value.unsqueeze(1) if getattr(value, "ndim", 2) == 1 else value


def first_component(condition: OnPart) -> OnPart:
    """The same condition, for a function with one component."""
    return replace(condition, component=0)
