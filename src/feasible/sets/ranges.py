"""What intersections read off sets: ranges, linear conditions, cones."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from feasible.sets.affine import Affine
from feasible.sets.algebra import Flatten, Where
from feasible.sets.bounds import Bound, exactly, with_infinities
from feasible.sets.cones import Monotone, SecondOrderCone
from feasible.sets.elementwise import Interval
from feasible.sets.fixed import Equal, Fixed, Frozen
from feasible.sets.half_space import HalfSpace
from feasible.sets.matrices import Mirrored
from feasible.sets.norm_balls import LInfBall
from feasible.sets.polyhedron import Polyhedron
from feasible.sets.set import Set
from feasible.sets.simplex import Simplex, SumTo
from feasible.sets.spectral import PSD


def is_range(set: Set) -> bool:
    """Whether the set is given by two bounds for every entry."""
    if isinstance(set, Where):
        return is_range(set.inner)
    return isinstance(set, Interval | Fixed | LInfBall)


def is_uniform(set: Set) -> bool:
    """Whether the set is a range with the same bounds for every entry."""
    if not is_range(set) or isinstance(set, Where | Frozen):
        return False
    return not any(isinstance(bound, Tensor) for bound in _bounds(set))


def range_of(set: Set, x: Tensor) -> tuple[Tensor, Tensor]:
    """Both bounds of every entry of ``x``, infinite where there is none."""
    if isinstance(set, Where):
        lower, upper = range_of(set.inner, x)
        picked = set.mask.to(x.device)
        return torch.where(picked, lower, -torch.inf), torch.where(picked, upper, torch.inf)
    lower, upper = (exactly(bound).to(x).expand_as(x) for bound in with_infinities(_bounds(set)))
    return lower, upper


def _bounds(set: Set) -> tuple[Bound, Bound]:
    if isinstance(set, Interval):
        return set.bounds
    if isinstance(set, LInfBall):
        return -set.radius, set.radius
    if isinstance(set, Equal):
        return set.value, set.value
    if isinstance(set, Frozen):  # no value yet: any will do
        return set.value, set.value
    raise TypeError(f"{set!r} is not a range.")


def is_non_negative(set: Set) -> bool:
    """Whether the set is a range without negative entries."""
    if not isinstance(set, Interval) or set.bounds[0] is None:
        return False
    return bool((exactly(set.bounds[0]) >= 0).all())


class LinearCondition(NamedTuple):
    """``⟨normal, p⟩ = total`` or ``≤ total``, for vectors along ``dim`` that may have to be ≥ 0 as well."""

    normal: Tensor | None
    """``None``: all ones."""
    total: Tensor | float
    is_equation: bool
    dim: int | None
    needs_sign: bool = False


def linear_condition(set: Set) -> LinearCondition | None:
    """The single linear condition that the set consists of, if it does."""
    match set:
        case SumTo(total, dim):
            return LinearCondition(None, total, True, dim)
        case Simplex(total, dim):
            return LinearCondition(None, total, True, dim, needs_sign=True)
        case HalfSpace(normal, offset, dim):
            return LinearCondition(normal.reshape(-1), offset, False, dim)
        case Affine(A, b, dim) if A.shape[0] == 1:
            return LinearCondition(A[0], b, True, dim)
        case _:
            return None


def is_cone(set: Set) -> bool:
    """Whether with every point the set holds its multiples by numbers ≥ 0."""
    match set:
        case Where(inner=inner) | Flatten(inner=inner):
            return is_cone(inner)
        case Interval():
            return all(
                bound is None or (not isinstance(bound, Tensor) and bound == 0) for bound in set.bounds
            )
        case SumTo(total=level) | HalfSpace(offset=level):
            return level == 0
        case Affine(b=b):
            return not bool(b.any())
        case Polyhedron(h=h, b=b):
            return not bool(h.any()) and (b is None or not bool(b.any()))
        case PSD(min_eig, max_eig):
            return min_eig == 0 and max_eig is None
        case _:
            return isinstance(set, SecondOrderCone | Monotone | Mirrored)


def trace_condition(set: Set) -> LinearCondition | None:
    """The condition on the trace of each matrix that the set consists of, if it does."""
    if isinstance(set, Flatten) and set.start_dim == -2:
        condition, dim = linear_condition(set.inner), -1
    else:
        condition, dim = linear_condition(set), None
    if condition is None or condition.normal is None or condition.dim != dim:
        return None
    size = round(condition.normal.numel() ** 0.5)
    if size * size != condition.normal.numel():
        return None
    first = condition.normal[0]
    is_identity = torch.equal(condition.normal.reshape(size, size), first * torch.eye(size).to(first))
    return condition._replace(normal=first.expand(size)) if is_identity else None
