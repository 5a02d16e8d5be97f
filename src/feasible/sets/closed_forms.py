"""Nearest points of intersections of two sets that need no iteration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from feasible.sets.affine import Affine
from feasible.sets.balls import L2Ball
from feasible.sets.bounds import exactly
from feasible.sets.combinatorial import KSparse
from feasible.sets.cones import Monotone
from feasible.sets.elementwise import NonNegative
from feasible.sets.knapsack import cut_range, shorten_range
from feasible.sets.matrices import SkewSymmetric, Symmetric
from feasible.sets.norm_balls import L1Ball, LInfBall
from feasible.sets.nuclear_ball import NuclearBall
from feasible.sets.ranges import (
    LinearCondition,
    is_cone,
    is_non_negative,
    is_range,
    is_uniform,
    linear_condition,
    range_of,
    trace_condition,
)
from feasible.sets.set import Set
from feasible.sets.simplex import Simplex, SumTo
from feasible.sets.singular import SpectralBall
from feasible.sets.spectral import PSD
from feasible.sets.sphere import Sphere
from feasible.sets.thresholds import with_sum_and_norm
from feasible.sets.trace import nearest_with_trace
from feasible.sets.transport import DoublyStochastic
from feasible.sets.units import along, precise_norm


@dataclass(frozen=True)
class ClosedForm:
    """The nearest common point of two sets, for the pairs that it fits, in their order."""

    fits: Callable[[Set, Set], bool]
    project: Callable[[Set, Set, Tensor], Tensor]


def closed_form(first: Set, second: Set) -> ClosedForm | None:
    """The rule for this ordered pair, if there is one."""
    return next((rule for rule in CLOSED_FORMS if rule.fits(first, second)), None)


# -- one projection after the other ------------------------------------------------------------------


def _one_after_the_other(first: Set, second: Set, x: Tensor) -> Tensor:
    return second.project(first.project(x))


def _second_stays_in_first(first: Set, second: Set) -> bool:
    """Whether projecting onto the second part of what is nearest in the first gives the nearest common point.

    So it is for two ranges; for a cone and a ball around 0; and for isotonic regression, whose result may be
    clipped.
    """
    match first, second:
        case (_, _) if is_range(first) and is_range(second):
            return True
        case (_, L2Ball()):
            return is_cone(first) and _covers(second, first)
        case (Monotone(), _):
            return is_uniform(second)
    return False


def _second_keeps_the_sum(first: Set, second: Set) -> bool:
    return isinstance(first, SumTo) and isinstance(second, Monotone) and first.dim == second.dim


def _with_the_sum_again(first: Set, second: Set, x: Tensor) -> Tensor:
    """One after the other, twice: means of large numbers lose digits of the sum, the second bring them back."""
    for _ in range(2):
        x = second.project(first.project(x))
    return x


def _second_keeps_symmetry(first: Set, second: Set) -> bool:
    """Whether the nearest point in the second of a (skew-)symmetric matrix is so again."""
    match first, second:
        case Symmetric(), NuclearBall() | DoublyStochastic():
            return True
        case Symmetric(), L1Ball(dim=None) | SumTo(dim=None) | Simplex(dim=None):
            return True
        case Symmetric(), _:
            return is_uniform(second) or trace_condition(second) is not None
        case SkewSymmetric(), SpectralBall() | NuclearBall() | L1Ball(dim=None) | LInfBall():
            return True
    return False


def _mirrored_again(first: Set, second: Set, x: Tensor) -> Tensor:
    """One after the other; what rounding did to the symmetry is mended in the end."""
    return first.project(second.project(first.project(x)))


def _covers(ball: Set, part: Set) -> bool:
    """Whether every unit of the ball is made of whole units of the other set."""
    return part.unit in ("entry", ball.unit) or ball.unit == "tensor"


def _keeps_the_largest(first: Set, second: Set) -> bool:
    match first, second:
        case KSparse(dim=one), L2Ball(dim=other) | Sphere(dim=other):
            return one == other
        case NonNegative(), KSparse():
            return True
    return False


# -- ranges with one more condition --------------------------------------------------------------------


def _is_cut_range(first: Set, second: Set) -> bool:
    if isinstance(second, L1Ball):
        return is_non_negative(first)
    return is_range(first) and linear_condition(second) is not None


def _cut_range(first: Set, second: Set, x: Tensor) -> Tensor:
    if isinstance(second, L1Ball):
        condition = LinearCondition(None, second.radius, False, second.dim)
    else:
        condition = cast(LinearCondition, linear_condition(second))
    lower, upper = range_of(first, x)
    if condition.needs_sign:
        lower = lower.clamp_min(0)

    def cut(rows: Tensor) -> Tensor:
        if rows.numel() == 0:
            return rows.clone()
        normal = rows.new_ones(rows.shape[-1]) if condition.normal is None else condition.normal.to(rows)
        total = exactly(condition.total).to(rows)
        low, high = (_rows(bound, condition.dim) for bound in (lower, upper))
        return cut_range(rows, low, high, normal, total, condition.is_equation)

    return along(condition.dim, x, cut)


def _rows(x: Tensor, dim: int | None) -> Tensor:
    return x.reshape(1, -1) if dim is None else x.movedim(dim, -1)


def _is_shortened_range(first: Set, second: Set) -> bool:
    return is_range(first) and isinstance(second, L2Ball)


def _shortened_range(first: Set, second: Set, x: Tensor) -> Tensor:
    ball = cast(L2Ball, second)
    lower, upper = (_rows(bound, ball.dim) for bound in range_of(first, x))

    def shortened(rows: Tensor) -> Tensor:
        return shorten_range(rows, lower, upper, ball.radius) if rows.numel() else rows.clone()

    return along(ball.dim, x, shortened)


# -- sums of magnitudes in a ball -------------------------------------------------------------------------


def _is_sum_in_ball(first: Set, second: Set) -> bool:
    return isinstance(first, L1Ball | Simplex) and isinstance(second, L2Ball) and first.dim == second.dim


def _sum_in_ball(first: Set, second: Set, x: Tensor) -> Tensor:
    """The nearest point of one of the two where that is in the other; else that with both conditions active."""
    part, ball = cast(L1Ball | Simplex, first), cast(L2Ball, second)
    total = part.radius if isinstance(part, L1Ball) else part.total
    if ball.radius == 0 or total <= ball.radius:
        return (ball if ball.radius == 0 else part).project(x)

    def both(rows: Tensor) -> Tensor:
        if rows.numel() == 0:
            return rows.clone()
        if isinstance(part, Simplex):
            return with_sum_and_norm(rows, total, ball.radius)
        return rows.sign() * with_sum_and_norm(rows * rows.sign(), total, ball.radius)

    inside, shortened = first.project(x), second.project(x)
    is_done = first.spread(second.is_member(inside.detach()), x)
    nearest = torch.where(is_done, inside, along(ball.dim, torch.where(is_done, x.detach(), x), both))
    if isinstance(part, Simplex):
        return nearest
    return torch.where(first.spread(first.is_member(shortened.detach()), x), shortened, nearest)


# -- flat sets and balls ---------------------------------------------------------------------------------


def _is_flat_in_ball(first: Set, second: Set) -> bool:
    return (
        isinstance(first, SumTo | Affine) and isinstance(second, L2Ball | Sphere) and _covers(second, first)
    )


def _flat_in_ball(first: Set, second: Set, x: Tensor) -> Tensor:
    """The flat set meets the ball in a smaller one, around its point nearest to 0."""
    ball = cast(L2Ball | Sphere, second)
    centre = first.project(torch.zeros_like(x))
    away = first.tangent(x, x)
    offset = precise_norm(centre, ball.dim, keepdim=True)
    radius = ((ball.radius - offset) * (ball.radius + offset)).clamp_min(0).sqrt()
    if isinstance(ball, Sphere):
        return centre + radius * Sphere(1.0, ball.dim).project(_without_zeros(first, ball, away))
    length = precise_norm(away, ball.dim, keepdim=True)
    is_longer = length > radius
    return centre + away * torch.where(is_longer, radius / torch.where(is_longer, length, 1.0), 1.0)


def _without_zeros(flat: Set, sphere: Sphere, away: Tensor) -> Tensor:
    """All points of the sphere are equally near to its centre; then the first axis along the set decides.

    Where that axis is perpendicular to the set, a direction that is hardly ever so takes its place.
    """
    zeros = torch.zeros_like(away)
    places = along(sphere.dim, zeros, lambda rows: rows + torch.arange(rows.shape[-1]).to(rows))
    first, other = (flat.tangent(axis, axis) for axis in ((places == 0).to(away), places.square().cos()))
    is_across = precise_norm(first, sphere.dim, keepdim=True) < 1e-6
    is_centre = precise_norm(away, sphere.dim, keepdim=True) == 0
    return torch.where(is_centre, torch.where(is_across, other, first), away)


def _is_orthant_and_sphere(first: Set, second: Set) -> bool:
    return isinstance(first, NonNegative) and isinstance(second, Sphere)


def _on_orthant_and_sphere(first: Set, second: Set, x: Tensor) -> Tensor:
    """The positive part, stretched; without one the axis of the largest entry, the first of several."""
    sphere = cast(Sphere, second)

    def stretched(rows: Tensor) -> Tensor:
        positive = rows.clamp_min(0)
        axis = torch.zeros_like(rows).scatter(-1, rows.argmax(-1, keepdim=True), 1.0)
        has_positive = (positive > 0).any(-1, keepdim=True)
        return Sphere(sphere.radius).project(torch.where(has_positive, positive, axis))

    return along(sphere.dim, x, stretched)


# -- eigenvalues -------------------------------------------------------------------------------------------


def _is_bounded_trace(first: Set, second: Set) -> bool:
    if not isinstance(first, PSD):
        return False
    return trace_condition(second) is not None or (first.min_eig >= 0 and isinstance(second, NuclearBall))


def _bounded_trace(first: Set, second: Set, x: Tensor) -> Tensor:
    """Eigenvalues in a range, with a condition on their sum."""
    psd, condition = cast(PSD, first), trace_condition(second)
    if condition is None:
        condition = LinearCondition(None, cast(NuclearBall, second).radius, False, None)
    return nearest_with_trace(x, psd.min_eig, torch.inf if psd.max_eig is None else psd.max_eig, condition)


CLOSED_FORMS = (
    ClosedForm(_second_stays_in_first, _one_after_the_other),
    ClosedForm(_second_keeps_the_sum, _with_the_sum_again),
    ClosedForm(_second_keeps_symmetry, _mirrored_again),
    ClosedForm(_keeps_the_largest, _one_after_the_other),
    ClosedForm(_is_cut_range, _cut_range),
    ClosedForm(_is_shortened_range, _shortened_range),
    ClosedForm(_is_sum_in_ball, _sum_in_ball),
    ClosedForm(_is_flat_in_ball, _flat_in_ball),
    ClosedForm(_is_orthant_and_sphere, _on_orthant_and_sphere),
    ClosedForm(_is_bounded_trace, _bounded_trace),
)
"""Tried in this order."""
