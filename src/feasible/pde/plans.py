"""How conditions are carried from the faces of a domain into its inside: ``u = G + H N``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import jvp

from feasible.pde.condition import OnPart
from feasible.pde.conditions import Dirichlet, Initial, Neumann, Robin
from feasible.pde.differentiation.forward_mode import load
from feasible.pde.domains import Disc, Domain, Face, TimeCylinder


@dataclass
class Side:
    """What is known on one face: a value, a slope along the coordinate (``∂u + pull · u``), or both."""

    face: Face
    value: Callable[..., Any] | None = None
    slope: Callable[..., Any] | None = None
    pull: float = 0.0

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
        """1 on the face with slope −pull; opposite, what the condition there leaves alone."""
        distance, other = self.distance(x, side), self.other(side)
        is_loose = other is None or other.slope is None
        level = 1 - distance**2 if is_loose else 1 - 3 * distance**2 + 2 * distance**3
        return level if side.pull == 0 else level - side.pull * self.blends(x, side)[1]

    def blends(self, x: Any, side: Side) -> tuple[Any, Any]:
        """The functions that carry the face's value and its slope inside."""
        distance = self.distance(x, side)
        stretch = -side.face.sign * (self.high - self.low)
        if self.other(side) is None:
            return 1 + 0 * distance, stretch * distance
        return 1 - 3 * distance**2 + 2 * distance**3, stretch * distance * (1 - distance) ** 2


def enter(side: Side, condition: OnPart) -> None:
    """Note a condition on its face: ``α u + β ∂u/∂n = g`` with numbers α and β.

    Raises:
        ValueError: there is one of its kind already.
    """
    level, slope, sign = 1.0, 0.0, 1.0
    if isinstance(condition, Robin):
        level, slope, sign = condition.alpha, condition.beta, side.face.sign
    elif isinstance(condition, Neumann):
        level, slope, sign = 0.0, 1.0, side.face.sign
    elif isinstance(condition, Initial) and condition.order == 1:
        level, slope = 0.0, 1.0
    name = "slope" if slope else "value"
    if getattr(side, name) is not None:
        raise ValueError(f"hard: {condition.name} is given twice.")
    setattr(side, name, partial(given, condition, sign / slope if slope else 1 / level))
    side.pull += sign * level / slope if slope else 0.0
    if side.pull and side.value is not None:
        raise ValueError(
            f"hard: {condition.name} stands beside a value on the same face: together they give the slope.\n"
            "  Write Dirichlet and Neumann."
        )


def given(condition: OnPart, factor: float, x: Any, *inputs: Any) -> Any:
    """The value of a condition, of slopes that along the coordinate."""
    value = at_points(condition.value, x, inputs)
    return value if factor == 1 else factor * value


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
        total: Any = 0.0 if self.curved is None else self._round(x, inputs)
        for number, axis in enumerate(self.axes[:count]):
            before = None if number == 0 and self.curved is None else number
            for side in axis.sides:
                at = axis.onto(x, side)
                carry, tilt = axis.blends(x, side)
                if side.value is not None:
                    rest = 0.0 if before is None else self.lift(at, inputs, before)
                    total = total + carry * (side.value(at, *inputs) - rest)
                if side.slope is not None:
                    rest = 0.0 if before is None else self._slope(at, inputs, before, axis.number, side.pull)
                    total = total + tilt * (side.slope(at, *inputs) - rest)
        return total

    def _slope(self, x: Any, inputs: tuple[Any, ...], count: int, number: int, pull: float) -> Any:
        """``∂ + pull`` of the values so far along a coordinate."""
        load()
        direction = torch.zeros_like(x)
        direction[:, number] = 1

        def before(at: Tensor) -> Tensor:
            return cast(Tensor, torch.zeros_like(at[:, :1]) + self.lift(at, inputs, count))

        found = jvp(before, (x,), (direction,))
        return found[1] + pull * found[0]

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
        return 0.0 if self.curved is None else at_points(self.curved.value, x, inputs)


def at_points(value: Any, x: Any, inputs: tuple[Any, ...]) -> Any:
    """A given value as a number, one for each component, or (n, m) from a function; in the points' dtype."""
    is_function = callable(value) and not isinstance(value, Tensor)
    found = value(x, *inputs) if is_function else value
    if isinstance(found, Tensor):
        found = found.to(x.device, x.dtype)
    return found.unsqueeze(1) if is_function and getattr(found, "ndim", 2) == 1 else found
