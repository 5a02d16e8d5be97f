"""Sets as rows: functions of a value with a lower and an upper bound each, for methods that linearise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from feasible.sets import (
    PSD,
    Affine,
    DoublyStochastic,
    Equal,
    Flatten,
    Frozen,
    HalfSpace,
    Intersection,
    L2Ball,
    LInfBall,
    Monotone,
    Polyhedron,
    Set,
    Simplex,
    SkewSymmetric,
    Sphere,
    Stiefel,
    SumTo,
    Symmetric,
    Where,
)
from feasible.sets.blocks import take
from feasible.sets.bounds import exactly, with_infinities
from feasible.sets.elementwise import Interval
from feasible.sets.picked import Picked

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Rows:
    """``lower ≤ function(value) ≤ upper``, entry by entry; all three are flat.

    Args:
        is_linear: whether the function is affine in the value.
        is_smooth: whether it has derivatives wherever a solution may lie.
    """

    function: Function
    lower: Tensor
    upper: Tensor
    is_linear: bool = True
    is_smooth: bool = True


def bounds_of(set: Set, value: Tensor) -> tuple[Tensor, Tensor] | None:
    """Lower and upper bounds in the shape of the value, where the set is nothing else; infinite where there is none."""
    if isinstance(set, Interval):
        return _expanded(*with_infinities(set.bounds), value)
    if isinstance(set, LInfBall):
        return _expanded(-set.radius, set.radius, value)
    if isinstance(set, (Equal, Frozen)):
        fixed = value if set.value is None else set.value
        return _expanded(fixed, fixed, value)
    if isinstance(set, Where):
        inner = bounds_of(set.inner, value)
        return inner and (
            torch.where(set.mask, inner[0], -math.inf),
            torch.where(set.mask, inner[1], math.inf),
        )
    if isinstance(set, Flatten):
        flat = bounds_of(set.inner, value.flatten(set.start_dim) if value.dim() else value.reshape(1))
        return flat and (flat[0].reshape(value.shape), flat[1].reshape(value.shape))
    if isinstance(set, Intersection):
        parts = [bounds_of(part, value) for part in set.parts]
        known = [part for part in parts if part is not None]
        if len(known) == len(parts):
            lower, upper = (torch.stack(side) for side in zip(*known, strict=True))
            return lower.amax(0), upper.amin(0)
    return None


def _expanded(lower: float | Tensor, upper: float | Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    first, second = (exactly(bound).to(value).expand(value.shape) for bound in (lower, upper))
    return first, second


def rows_of(set: Set, value: Tensor) -> list[Rows] | None:
    """The rows of a set for values like this one; ``None`` where it has no such description."""
    bounds = bounds_of(set, value)
    if bounds is not None:
        return _finite(*(bound.reshape(-1) for bound in bounds))
    if isinstance(set, Flatten):
        return _within(rows_of(set.inner, value.flatten(set.start_dim)), lambda x: x.flatten(set.start_dim))
    if isinstance(set, Picked):
        return _within(rows_of(set.inner, take(value, set.axes)), lambda x: take(x, set.axes))
    if isinstance(set, Intersection):
        parts = [rows_of(part, value) for part in set.parts]
        return None if any(part is None for part in parts) else [row for part in parts for row in part or ()]
    for kind, description in DESCRIPTIONS.items():
        if isinstance(set, kind):
            described: list[Rows] = description(set, value)
            return described
    if set.convex and set.offers("slack"):
        return [_inequalities(lambda x: _joined(set.slack(x)), value, is_linear=False, is_smooth=False)]
    return None


def _within(rows: list[Rows] | None, view: Function) -> list[Rows] | None:
    def seen(row: Rows) -> Rows:
        return Rows(lambda x: row.function(view(x)), row.lower, row.upper, row.is_linear, row.is_smooth)

    return rows and [seen(row) for row in rows]


def _finite(lower: Tensor, upper: Tensor) -> list[Rows]:
    """The entries themselves, without those that have no bound."""
    bounded = (lower.isfinite() | upper.isfinite()).nonzero().squeeze(-1)
    if len(bounded) == len(lower):
        return [Rows(lambda x: x.reshape(-1), lower, upper)]
    return [Rows(lambda x: x.reshape(-1)[bounded], lower[bounded], upper[bounded])]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def _inequalities(function: Function, value: Tensor, is_linear: bool = True, is_smooth: bool = True) -> Rows:
    """``function(value) ≥ 0``."""
    count = function(value).numel()
    zero = value.new_zeros(count)
    return Rows(function, zero, torch.full_like(zero, math.inf), is_linear, is_smooth)


def _equations(function: Function, right: Tensor, is_linear: bool = True) -> Rows:
    return Rows(function, right, right, is_linear)


def _sum_to(set: SumTo, value: Tensor) -> list[Rows]:
    def sums(x: Tensor) -> Tensor:
        return set.rows(x).sum(-1).reshape(-1)

    return [_equations(sums, torch.full_like(sums(value), set.total))]


def _simplex(set: Simplex, value: Tensor) -> list[Rows]:
    entries = value.reshape(-1)
    return [
        Rows(lambda x: x.reshape(-1), torch.zeros_like(entries), torch.full_like(entries, math.inf)),
        *_sum_to(SumTo(set.total, set.dim), value),
    ]


def _half_space(set: HalfSpace, value: Tensor) -> list[Rows]:
    return [_inequalities(lambda x: set.room(set.rows(x)).reshape(-1), value)]


def _affine(set: Affine, value: Tensor) -> list[Rows]:
    def coordinates(x: Tensor) -> Tensor:
        return (set.rows(x) @ set.derived.basis.to(x)).reshape(-1)

    batch = (*set.rows(value).shape[:-1], -1)
    return [_equations(coordinates, set.derived.coordinates.to(value).expand(batch).reshape(-1))]


def _polyhedron(set: Polyhedron, value: Tensor) -> list[Rows]:
    conditions, batch = set.derived, (*set.rows(value).shape[:-1], -1)

    def coordinates(x: Tensor) -> Tensor:
        return (set.rows(x) @ conditions.basis.to(x)).reshape(-1)

    def heights(x: Tensor) -> Tensor:
        return (set.rows(x) @ conditions.normals.to(x).mT).reshape(-1)

    upper = conditions.offsets.to(value).expand(batch).reshape(-1)
    return [
        _equations(coordinates, conditions.coordinates.to(value).expand(batch).reshape(-1)),
        Rows(heights, torch.full_like(upper, -math.inf), upper),
    ]


def _monotone(set: Monotone, value: Tensor) -> list[Rows]:
    sign = 1.0 if set.increasing else -1.0
    return [_inequalities(lambda x: sign * set.rows(x).diff(dim=-1).reshape(-1), value)]


def _mirrored(set: Symmetric | SkewSymmetric, value: Tensor) -> list[Rows]:
    height, width = value.shape[-2:]
    first, second = torch.triu_indices(height, width, offset=1 if set.sign > 0 else 0)

    def differences(x: Tensor) -> Tensor:
        return (x[..., first, second] - set.sign * x[..., second, first]).reshape(-1)

    return [_equations(differences, torch.zeros_like(differences(value)))]


def _doubly_stochastic(set: DoublyStochastic, value: Tensor) -> list[Rows]:
    return [*_simplex(Simplex(1.0, -1), value), *_sum_to(SumTo(1.0, -2), value)]


def _l2_ball(set: L2Ball, value: Tensor) -> list[Rows]:
    if set.radius == 0:
        return [_equations(lambda x: x.reshape(-1), torch.zeros_like(value.reshape(-1)))]
    return [_inequalities(lambda x: _bend(set, x), value, is_linear=False)]


def _sphere(set: Sphere, value: Tensor) -> list[Rows]:
    return [_equations(lambda x: _bend(set, x), torch.zeros_like(_bend(set, value)), is_linear=False)]


def _bend(set: L2Ball | Sphere, x: Tensor) -> Tensor:
    """``(radius² − ‖x‖²)/(2 radius)``: close to the boundary the distance to it."""
    square = (set.rows(x) ** 2).sum(-1).reshape(-1)
    return (set.radius - square / set.radius) / 2


def _stiefel(set: Stiefel, value: Tensor) -> list[Rows]:
    size = min(value.shape[-2:])
    first, second = torch.triu_indices(size, size)

    def products(x: Tensor) -> Tensor:
        tall = x if x.shape[-2] >= x.shape[-1] else x.mT
        return (tall.mT @ tall)[..., first, second].reshape(-1) / 2

    unit = (first == second).to(value) / 2
    return [_equations(products, unit.expand(*value.shape[:-2], -1).reshape(-1), is_linear=False)]


def _psd(set: PSD, value: Tensor) -> list[Rows]:
    slack = _inequalities(lambda x: _joined(set.slack(x)), value, is_linear=False, is_smooth=False)
    return [*_mirrored(Symmetric(), value), slack]


DESCRIPTIONS: dict[type[Set], Callable[..., list[Rows]]] = {
    SumTo: _sum_to,
    Simplex: _simplex,
    HalfSpace: _half_space,
    Affine: _affine,
    Polyhedron: _polyhedron,
    Monotone: _monotone,
    Symmetric: _mirrored,
    SkewSymmetric: _mirrored,
    DoublyStochastic: _doubly_stochastic,
    L2Ball: _l2_ball,
    Sphere: _sphere,
    Stiefel: _stiefel,
    PSD: _psd,
}
