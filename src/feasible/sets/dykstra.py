"""Intersections from projections onto their parts: the nearest common point, and whether there is any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from feasible.sets.precision import widest

Map = Callable[[Tensor], Tensor]

ROUNDS = 2_000
CHECK_EVERY = 5


@dataclass(frozen=True)
class Dykstra:
    """Where the iteration ended and how."""

    point: Tensor
    converged: bool
    iterations: int
    gap: float
    """Largest movement between two parts in the last round: 0 at a common point."""


def dykstra(
    x: Tensor, projections: Sequence[Map], contained: Map, length: Map = torch.abs, most: int = ROUNDS
) -> Dykstra:
    """``argmin_p ½‖p − x‖²`` over the common points of the parts.

    Each part corrects what its own last projection has taken away. It has converged when those corrections
    have come to rest and every part contains the point; looking costs one synchronisation every five rounds.
    The iteration runs in float64, so that its result is right to the rounding of the dtype of x.

    Args:
        x: where to start.
        projections: onto the parts.
        contained: for each entry, whether all parts contain its unit.
        length: for each entry, the norm of its unit: the scale on which rounding is judged.
        most: rounds after which the search is given up.
    """
    work = widest(x)
    least = max(torch.finfo(x.dtype).eps / 1024, 8 * torch.finfo(work.dtype).eps)
    point = work
    corrections = [torch.zeros_like(work) for _ in projections]
    for iteration in range(1, most + 1):
        before, corrections, trail = corrections, [], [point]
        for project, correction in zip(projections, before, strict=True):
            shifted = point + correction
            point = project(shifted)
            corrections.append(shifted - point)
            trail.append(point)
        if iteration % CHECK_EVERY and iteration not in (1, 2, most):
            continue
        allowed = least * torch.maximum(length(work.detach()), length(point.detach()))
        changes = zip(corrections, before, strict=True)
        at_rest = all(bool(((new - old).detach().abs() <= allowed).all()) for new, old in changes)
        rounded = point.to(x.dtype)
        if at_rest and bool(contained(rounded.detach()).all()):
            return Dykstra(rounded, True, iteration, _gap(trail))
    return Dykstra(point.to(x.dtype), False, most, _gap(trail))


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
        precision = torch.finfo(x.dtype).eps
        returned = (point - trail[0]).abs() <= 8 * precision * point.abs()
        if _gap(trail) > 10 * precision**0.5 * _largest(point) and bool(returned.all()):
            return Meeting(True, iteration, _gap(trail))
    return Meeting(False, iteration, _gap(trail))


def _gap(trail: Sequence[Tensor]) -> float:
    return max(_largest(after - before) for before, after in pairwise(trail))


def _largest(x: Tensor) -> float:
    return float(x.detach().abs().max()) if x.numel() else 0.0
