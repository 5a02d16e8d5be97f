"""Domains: where an equation holds, and the parts of their boundaries by name."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from feasible.methods.lookup import closest
from feasible.pde.differentiation import check_points

__all__ = ["Disc", "Domain", "Interval", "Rectangle", "TimeCylinder"]

SIDES = (("left", "right"), ("bottom", "top"), ("front", "back"))


class Face(NamedTuple):
    """A part of the boundary on which one coordinate is fixed."""

    axis: int
    value: float
    sign: float
    """Of the outward normal."""


class Domain(ABC):
    """A closed, bounded set of points (n, dim)."""

    dim: int
    """The number of coordinates."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The corners of the smallest box around it."""

    @property
    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """The names of the parts of the boundary."""

    @property
    @abstractmethod
    def volume(self) -> float:
        """Length, area or volume."""

    @abstractmethod
    def from_unit(self, unit: Tensor) -> Tensor:
        """Points of the unit cube, (n, dim), spread evenly over the domain, (n, dim)."""

    @abstractmethod
    def area(self, part: str) -> float:
        """The size of a part of the boundary; 1 where it is one point."""

    @abstractmethod
    def part_from_unit(self, part: str, unit: Tensor) -> Tensor:
        """Points of the unit cube, (n, dim − 1), spread evenly over a part of the boundary, (n, dim)."""

    @abstractmethod
    def normal(self, part: str, x: Tensor) -> Tensor:
        """The outward unit normals at points of a part, (n, dim)."""

    @abstractmethod
    def _excess(self, x: Tensor) -> Tensor:
        """How far each point is outside, (n,); 0 or less inside."""

    @property
    def length(self) -> float:
        """The longest side of the box around it."""
        return max(high - low for low, high in zip(*self.bounds, strict=True))

    def contains(self, x: Tensor, tol: float | None = None) -> Tensor:
        """Whether each point is inside or on the boundary, (n,).

        Args:
            x: (n, dim).
            tol: how far outside still counts; ``None``: a few rounding errors.
        """
        self._check(x)
        return self._excess(x) <= (self.slack(x.dtype) if tol is None else tol)

    def slack(self, dtype: torch.dtype) -> float:
        """A few rounding errors of its coordinates."""
        largest = max(abs(corner) for corners in self.bounds for corner in corners)
        return 8 * torch.finfo(dtype).eps * max(largest, self.length)

    def require(self, x: Tensor) -> Tensor:
        """The points, if all are in the domain.

        Raises:
            ValueError: some are not.
        """
        outside = ~self.contains(x)
        if bool(outside.any()):
            first = int(outside.nonzero()[0])
            raise ValueError(
                f"{self}: {int(outside.sum())} of {len(x)} points lie outside, the first one row {first}: "
                f"{x[first].tolist()}."
            )
        return x

    def grid(self, counts: int | Sequence[int], like: Tensor | None = None) -> Tensor:
        """The points of a regular grid, corners included, that lie in the domain.

        Args:
            counts: how many along each coordinate.
            like: a tensor whose dtype and device they have.
        """
        each = [counts] * self.dim if isinstance(counts, int) else list(counts)
        if len(each) != self.dim or any(count < 1 for count in each):
            raise ValueError(
                f"{self}: grid needs a positive number, or one for each of {self.dim} coordinates; got {counts!r}."
            )
        like = torch.empty(0) if like is None else like
        lines = [
            torch.linspace(low, high, count, dtype=like.dtype, device=like.device)
            for low, high, count in zip(*self.bounds, each, strict=True)
        ]
        points = torch.cartesian_prod(*lines).reshape(-1, self.dim)
        return points[self.contains(points)]

    def face(self, part: str) -> Face | None:
        """The fixed coordinate of a part; ``None`` where the part is curved."""
        self.check_part(part)
        return None

    def distance_to(self, part: str, x: Tensor) -> Tensor:
        """How far points of the domain are from the surface that a part lies on, (n,)."""
        face = self.face(part)
        return self._excess(x).abs() if face is None else (x[:, face.axis] - face.value).abs()

    def check_part(self, part: str) -> None:
        """Raise where the boundary has no such part.

        Raises:
            ValueError: it has not.
        """
        if part not in self.parts:
            raise ValueError(
                f"{self} has no part {part!r}; it has {', '.join(self.parts)}.{closest(str(part), self.parts)}"
            )

    def _check(self, x: Tensor) -> None:
        check_points(x, str(self))
        if x.shape[1] != self.dim:
            raise ValueError(f"{self}: expected points of shape (n, {self.dim}), got {tuple(x.shape)}.")


class Box(Domain):
    """A product of intervals: its faces are the parts of its boundary."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Two faces a coordinate."""
        return tuple(side for pair in SIDES[: self.dim] for side in pair)

    @property
    def volume(self) -> float:
        """The product of the lengths."""
        return math.prod(high - low for low, high in zip(*self.bounds, strict=True))

    def from_unit(self, unit: Tensor) -> Tensor:
        """Stretched and moved."""
        low, high = (torch.tensor(corner, dtype=unit.dtype, device=unit.device) for corner in self.bounds)
        return torch.minimum(low + (high - low) * unit, high)

    def face(self, part: str) -> Face:
        """The coordinate and its value."""
        self.check_part(part)
        number = self.parts.index(part)
        axis, is_upper = number // 2, number % 2
        return Face(axis, self.bounds[is_upper][axis], 1.0 if is_upper else -1.0)

    def area(self, part: str) -> float:
        """The volume over the length across."""
        axis = self.face(part).axis
        return self.volume / (self.bounds[1][axis] - self.bounds[0][axis])

    def part_from_unit(self, part: str, unit: Tensor) -> Tensor:
        """The face's coordinate is put in."""
        return on_face(self, self.face(part), unit)

    def normal(self, part: str, x: Tensor) -> Tensor:
        """± a unit vector."""
        return face_normal(self.face(part), x)

    def _excess(self, x: Tensor) -> Tensor:
        low, high = (torch.tensor(corner, dtype=x.dtype, device=x.device) for corner in self.bounds)
        return torch.maximum(low - x, x - high).amax(1)


def on_face(domain: Domain, face: Face, unit: Tensor) -> Tensor:
    """Points of a face, exactly on it, from points of a cube with one coordinate less."""
    half = torch.full((len(unit), 1), 0.5, dtype=unit.dtype, device=unit.device)
    points = domain.from_unit(torch.cat([unit[:, : face.axis], half, unit[:, face.axis :]], 1))
    points[:, face.axis] = face.value
    return points


def face_normal(face: Face, x: Tensor) -> Tensor:
    """± a unit vector for each point."""
    normals = torch.zeros_like(x)
    normals[:, face.axis] = face.sign
    return normals


def check_order(name: str, low: float, high: float) -> None:
    """Raise where an interval is empty.

    Raises:
        ValueError: it is, or is not finite.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{name}: expected finite lower < upper, got {low!r} and {high!r}.")


@final
@dataclass(frozen=True)
class Interval(Box):
    """``[lower, upper]``; the parts of its boundary are ``"left"`` and ``"right"``.

    >>> Interval(0, 2).contains(torch.tensor([[1.0], [3.0]])), Interval(0, 2).volume
    (tensor([ True, False]), 2.0)
    """

    lower: float = 0.0
    upper: float = 1.0
    dim = 1

    def __post_init__(self) -> None:
        check_order("Interval", self.lower, self.upper)

    @property
    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The ends."""
        return (float(self.lower),), (float(self.upper),)


@final
@dataclass(frozen=True)
class Rectangle(Box):
    """A box with two or three coordinates.

    The parts of its boundary are ``"left"``, ``"right"``, ``"bottom"``, ``"top"``, and ``"front"``, ``"back"``.

    >>> Rectangle((0, 0), (2, 1)).volume, Rectangle((0, 0), (2, 1)).area("left")
    (2.0, 1.0)
    """

    lower: tuple[float, ...] = (0.0, 0.0)
    upper: tuple[float, ...] = (1.0, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lower", tuple(map(float, self.lower)))
        object.__setattr__(self, "upper", tuple(map(float, self.upper)))
        if len(self.lower) != len(self.upper) or len(self.lower) not in (2, 3):
            raise ValueError(
                f"Rectangle: expected two corners of 2 or 3 numbers, got {self.lower} and {self.upper}."
            )
        for low, high in zip(self.lower, self.upper, strict=True):
            check_order("Rectangle", low, high)

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The number of coordinates."""
        return len(self.lower)

    @property
    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The corners."""
        return self.lower, self.upper


@final
@dataclass(frozen=True)
class Disc(Domain):
    """``‖x − centre‖ ≤ radius`` in the plane; its boundary is the part ``"circle"``.

    >>> Disc(radius=2.0).contains(torch.tensor([[1.0, 1.0], [2.0, 1.0]]))
    tensor([ True, False])
    """

    centre: tuple[float, float] = (0.0, 0.0)
    radius: float = 1.0
    dim = 2

    def __post_init__(self) -> None:
        if len(self.centre) != 2 or not 0 < self.radius < math.inf:
            raise ValueError(
                f"Disc: expected a centre of two numbers and a radius > 0, got {self.centre} and {self.radius}."
            )

    @property
    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The square around it."""
        low, high = ([c + sign * self.radius for c in self.centre] for sign in (-1, 1))
        return tuple(low), tuple(high)

    @property
    def parts(self) -> tuple[str, ...]:
        """The circle."""
        return ("circle",)

    @property
    def volume(self) -> float:
        """πr²."""
        return math.pi * self.radius**2

    def area(self, part: str) -> float:
        """2πr."""
        self.check_part(part)
        return 2 * math.pi * self.radius

    def from_unit(self, unit: Tensor) -> Tensor:
        """Polar coordinates of even density."""
        return self._polar(self.radius * unit[:, :1].sqrt(), unit[:, 1:])

    def part_from_unit(self, part: str, unit: Tensor) -> Tensor:
        """By the angle."""
        self.check_part(part)
        return self._polar(torch.full_like(unit, self.radius), unit)

    def normal(self, part: str, x: Tensor) -> Tensor:
        """Away from the centre."""
        self.check_part(part)
        away: Tensor = x - torch.tensor(self.centre, dtype=x.dtype, device=x.device)
        unit: Tensor = away / torch.linalg.vector_norm(away, dim=1, keepdim=True)
        return unit

    def _polar(self, radius: Tensor, turn: Tensor) -> Tensor:
        angle = 2 * math.pi * turn
        away: Tensor = radius * torch.cat([torch.cos(angle), torch.sin(angle)], 1)
        return away + torch.tensor(self.centre, dtype=turn.dtype, device=turn.device)

    def _excess(self, x: Tensor) -> Tensor:
        away: Tensor = x - torch.tensor(self.centre, dtype=x.dtype, device=x.device)
        distance: Tensor = torch.linalg.vector_norm(away, dim=1) - self.radius
        return distance


@final
@dataclass(frozen=True)
class TimeCylinder(Domain):
    """A domain of space times ``[start, end]``; time is the last coordinate.

    The parts of its boundary are those of the domain of space, at all times, and ``"start"`` and ``"end"``.

    >>> TimeCylinder(Interval(-1, 1), 0, 5).parts
    ('left', 'right', 'start', 'end')
    """

    space: Domain
    t0: float = 0.0
    t1: float = 1.0

    def __post_init__(self) -> None:
        check_order("TimeCylinder", self.t0, self.t1)
        if not isinstance(self.space, Domain) or isinstance(self.space, TimeCylinder):
            raise TypeError(f"TimeCylinder: expected a domain of space, got {self.space!r}.")

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The coordinates of space, and time."""
        return self.space.dim + 1

    @property
    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The box around it."""
        low, high = self.space.bounds
        return (*low, float(self.t0)), (*high, float(self.t1))

    @property
    def parts(self) -> tuple[str, ...]:
        """Those of space, the start and the end."""
        return (*self.space.parts, "start", "end")

    @property
    def volume(self) -> float:
        """Space times time."""
        return self.space.volume * (self.t1 - self.t0)

    def area(self, part: str) -> float:
        """Of a part of space times time, or of all of space."""
        self.check_part(part)
        return self.space.volume if part in ("start", "end") else self.space.area(part) * (self.t1 - self.t0)

    def face(self, part: str) -> Face | None:
        """Those of space, and of time."""
        self.check_part(part)
        if part in ("start", "end"):
            return Face(self.space.dim, self.bounds[part == "end"][-1], 1.0 if part == "end" else -1.0)
        return self.space.face(part)

    def distance_to(self, part: str, x: Tensor) -> Tensor:
        """That in space, or in time."""
        return super().distance_to(part, x) if self.face(part) else self.space.distance_to(part, x[:, :-1])

    def from_unit(self, unit: Tensor) -> Tensor:
        """Space and time each for itself."""
        return torch.cat([self.space.from_unit(unit[:, :-1]), self._time(unit[:, -1:])], 1)

    def part_from_unit(self, part: str, unit: Tensor) -> Tensor:
        """On a part of space at even times, or all over space at one time."""
        self.check_part(part)
        if part in ("start", "end"):
            when = torch.full_like(unit[:, :1], self.bounds[part == "end"][-1])
            return torch.cat([self.space.from_unit(unit), when], 1)
        return torch.cat([self.space.part_from_unit(part, unit[:, :-1]), self._time(unit[:, -1:])], 1)

    def normal(self, part: str, x: Tensor) -> Tensor:
        """That of space, or ± the direction of time."""
        self.check_part(part)
        if part in ("start", "end"):
            return face_normal(Face(self.space.dim, 0.0, 1.0 if part == "end" else -1.0), x)
        return torch.cat([self.space.normal(part, x[:, :-1]), torch.zeros_like(x[:, -1:])], 1)

    def _time(self, unit: Tensor) -> Tensor:
        return (self.t0 + (self.t1 - self.t0) * unit).clamp(self.t0, self.t1)

    def _excess(self, x: Tensor) -> Tensor:
        time = x[:, -1]
        late = torch.maximum(self.t0 - time, time - self.t1)
        return torch.maximum(self.space._excess(x[:, :-1]), late)
