"""Intersections from projections onto their parts: the nearest common point, and whether there is any."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from feasible.sets.acceleration import Anderson, Units
from feasible.sets.nearest import NearestPoint, nearest_point
from feasible.sets.precision import widest

Map = Callable[[Tensor], Tensor]

ROUNDS = 2_000
CHECK_EVERY = 5


class Round(NamedTuple):
    """One projection onto every part, in turn."""

    point: Tensor
    arguments: list[Tensor]
    """What each map was applied to."""
    corrections: list[Tensor]
    """What each map took away."""
    change: list[Tensor]
    """By how much the corrections differ from those of the round before."""
    trail: list[Tensor]


def rounds(x: Tensor, maps: Sequence[Map], most: int, units: Units | None = None) -> Iterator[Round]:
    """Dykstra's iteration: each part corrects what its own last map has taken away.

    With ``units`` the corrections are extrapolated now and then, unit by unit.
    """
    point, corrections = x, [torch.zeros_like(x) for _ in maps]
    acceleration = None if units is None else Anderson(units)
    rounding = x if units is None else 8 * torch.finfo(x.dtype).eps * units.total(x.square())
    for _ in range(most):
        before, corrections = corrections, []
        arguments, trail = [], [point]
        for apply, correction in zip(maps, before, strict=True):
            arguments.append(point + correction)
            point = apply(arguments[-1])
            corrections.append(arguments[-1] - point)
            trail.append(point)
        change = [new - old for new, old in zip(corrections, before, strict=True)]
        yield Round(point, arguments, corrections, change, trail)
        if acceleration is None or units is None:
            continue
        # The dual problem's value, which every projection makes smaller.
        height = units.product(corrections, trail[1:]) + units.total(point.square()) / 2
        ahead = acceleration.next(corrections, change, height, rounding)
        if ahead is not None:
            corrections = ahead
            point = x - torch.stack(corrections).sum(0)


@dataclass(frozen=True)
class Dykstra:
    """Where the iteration ended and how."""

    point: Tensor
    converged: bool
    iterations: int
    gap: float
    """Largest movement between two parts in the last round: 0 at a common point."""
    arguments: list[Tensor]
    """What each projection was applied to in the last round."""


def dykstra(
    x: Tensor,
    projections: Sequence[Map],
    contained: Map,
    length: Map = torch.abs,
    most: int = ROUNDS,
    units: Units | None = None,
) -> Dykstra:
    """``argmin_p ½‖p − x‖²`` over the common points of the parts.

    It has converged when the corrections have come to rest and every part contains the point; looking costs
    one synchronisation every five rounds. The iteration runs in float64, so that its result is right to the
    rounding of the dtype of x. Large corrections use up digits: where it rests outside of a part, it begins
    once more at the point where it is.

    Args:
        x: where to start.
        projections: onto the parts.
        contained: for each entry, whether all parts contain its unit.
        length: for each entry, the norm of its unit: the scale on which rounding is judged.
        most: rounds after which the search is given up.
        units: what can be accelerated by itself; ``None``: no acceleration.
    """
    start = widest(x)
    least = max(torch.finfo(x.dtype).eps / 1024, 8 * torch.finfo(start.dtype).eps)
    search, arguments = rounds(start, projections, most, units), None
    for iteration in range(1, most + 1):
        now = next(search)
        if not _is_time(iteration, most):
            continue
        allowed = least * torch.stack([length(at) for at in (start, now.point, *now.arguments)]).amax(0)
        at_rest = all(bool((change.abs() <= allowed).all()) for change in now.change)
        if not at_rest:
            continue
        zero = torch.where(length(now.point) <= allowed, 0.0, now.point)
        rounded = _contained_in_all([point.to(x.dtype) for point in (*now.trail[:0:-1], zero)], contained)
        if bool(contained(rounded).all()):
            return Dykstra(rounded, True, iteration, _gap(now.trail), arguments or now.arguments)
        if arguments is None:
            start, arguments = now.point, now.arguments
            search = rounds(start, projections, most, units)
    return Dykstra(now.point.to(x.dtype), False, most, _gap(now.trail), arguments or now.arguments)


def _contained_in_all(points: Sequence[Tensor], contained: Map) -> Tensor:
    """Points that differ by rounding only: for each unit the first that all parts contain, if there is one."""
    best = points[0]
    for point in points[1:]:
        best = torch.where(contained(best), best, point)
    return best


def _is_time(iteration: int, most: int) -> bool:
    return iteration % CHECK_EVERY == 0 or iteration in (1, 2, most)


def nearest_common(
    x: Tensor, maps: Sequence[Map], contained: Map, length: Map, units: Units, what: str
) -> Tensor:
    """The nearest common point, with its derivatives; a warning names ``what`` where it was not reached."""
    return nearest_point(x, _NearestCommon(maps, contained, length, units, what))


@dataclass(frozen=True)
class _NearestCommon(NearestPoint):
    """The point p with ``p = P_k(p + c_k)`` for every part and ``x = p + Σ c_k``.

    Its derivatives solve the same equations with the derivatives of the P_k in their place, by the same
    iteration: no round of the search has to be remembered.
    """

    maps: Sequence[Map]
    contained: Map
    length: Map
    units: Units
    what: str

    takes_batches = False  # a part may be along a dimension counted from the first, or of the whole tensor

    def solve(self, x: Tensor) -> tuple[Tensor, ...]:
        """The point, and what each projection was applied to in the end."""
        found = dykstra(x, self.maps, self.contained, self.length, units=self.units)
        if not found.converged:
            warnings.warn(
                f"The nearest point of {self.what} was not reached in {found.iterations} rounds; "
                f"the parts are still {found.gap:.2g} apart.",
                stacklevel=2,
            )
        return found.point, *found.arguments

    def derivative(self, displacement: Tensor, *factors: Tensor) -> Tensor:
        """``dp = J_k (dp + dc_k)`` for every part, with ``dx = dp + Σ dc_k``."""
        slopes = [_Slope(apply, at) for apply, at in zip(self.maps, factors, strict=True)]
        return _settled(widest(displacement), slopes).point.to(displacement.dtype)

    def curvature(self, first: Tensor, second: Tensor, *factors: Tensor) -> Tensor:
        """The same equations once more, with the curvature of the parts as their right-hand sides."""
        slopes = [_Slope(apply, at) for apply, at in zip(self.maps, factors, strict=True)]
        one, two = (_settled(widest(moved), slopes).arguments for moved in (first, second))
        bends = [slope.bend(a, b) for slope, a, b in zip(slopes, one, two, strict=True)]
        maps = [partial(_shifted, slope, bend) for slope, bend in zip(slopes, bends, strict=True)]
        return _settled(torch.zeros_like(widest(first)), maps).point.to(first.dtype)


class _Slope:
    """The derivative of a projection at a point; it is symmetric, so that the reverse mode gives it."""

    def __init__(self, apply: Map, at: Tensor) -> None:
        self.at = at.detach().clone().requires_grad_()
        with torch.enable_grad():
            self.image = apply(self.at)

    def __call__(self, displacement: Tensor) -> Tensor:
        """The image of a displacement."""
        (moved,) = torch.autograd.grad(self.image, self.at, displacement, retain_graph=True)
        return moved

    def bend(self, first: Tensor, second: Tensor) -> Tensor:
        """How the image of ``first`` changes along ``second``."""
        with torch.enable_grad():
            (moved,) = torch.autograd.grad(self.image, self.at, first, retain_graph=True, create_graph=True)
        if not moved.requires_grad:
            return torch.zeros_like(first)
        (bent,) = torch.autograd.grad(moved, self.at, second, retain_graph=True, allow_unused=True)
        return torch.zeros_like(first) if bent is None else bent


def _shifted(linear: Map, shift: Tensor, x: Tensor) -> Tensor:
    return linear(x) + shift


def _settled(x: Tensor, maps: Sequence[Map]) -> Round:
    """The iteration with (affine) maps until nothing moves any more, up to rounding."""
    for iteration, now in enumerate(rounds(x, maps, ROUNDS), start=1):
        if not _is_time(iteration, ROUNDS):
            continue
        allowed = 8 * torch.finfo(x.dtype).eps * max(_largest(x), _largest(now.point))
        if all(_largest(change) <= allowed for change in now.change):
            break
    return now


def common_interior(
    x: Tensor, interiors: Sequence[Callable[[Tensor, float], Tensor]], has_room: Map, size: float
) -> Tensor | None:
    """A point with a margin in every part, the largest of ``size``, ``size/2``, ``size/4``, … for which there is one.

    Args:
        x: where to start.
        interiors: for each part, its nearest point with a given margin.
        has_room: for each entry, whether it has room in all parts.
        size: of the set.
    """
    for power in range(48):
        maps = [partial(_with_margin, interior, size / 2**power) for interior in interiors]
        if meet(x, maps, partial(_rests, maps, size)).apart:
            continue
        found = dykstra(x, maps, has_room)
        if found.converged:
            return found.point
    return None


def _with_margin(interior: Callable[[Tensor, float], Tensor], margin: float, x: Tensor) -> Tensor:
    return interior(x, margin)


def _rests(maps: Sequence[Map], size: float, x: Tensor) -> Tensor:
    moved = torch.stack([(apply(x) - x).abs() for apply in maps]).amax(0)
    return moved <= 8 * torch.finfo(x.dtype).eps * (x.abs() + size)


@dataclass(frozen=True)
class Meeting:
    """Whether projecting onto one part after the other leads to a common point."""

    apart: bool
    """The parts have no common point, as far as rounding can tell."""
    iterations: int
    gap: float


def meet(x: Tensor, projections: Sequence[Map], contained: Map, most: int = ROUNDS) -> Meeting:
    """Look for any common point by alternating projections; where that is still open in the end, hope for one.

    Where the parts meet, every round brings the point nearer to each common point. A round that returns to
    where it began, but has moved in between, is therefore a proof that there is none.
    """
    point = x
    for iteration in range(1, most + 1):
        trail = [point]
        for project in projections:
            point = project(point)
            trail.append(point)
        if iteration % CHECK_EVERY and iteration not in (1, most):
            continue
        if bool(contained(point).all()):
            break
        # Parts that touch slowly return up to rounding as well, but then the gap is small.
        precision, size = torch.finfo(x.dtype).eps, _largest(point)
        has_returned = _largest(point - trail[0]) <= 8 * precision * size
        if has_returned and _gap(trail) > 10 * precision**0.5 * size:
            return Meeting(True, iteration, _gap(trail))
    return Meeting(False, iteration, _gap(trail))


def _gap(trail: Sequence[Tensor]) -> float:
    return max(_largest(after - before) for before, after in pairwise(trail))


def _largest(x: Tensor) -> float:
    return float(x.detach().abs().max()) if x.numel() else 0.0
