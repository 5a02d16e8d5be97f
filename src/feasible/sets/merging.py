"""Intersections of two sets that are a single set again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from feasible.sets.algebra import Flatten, Where
from feasible.sets.balls import L2Ball
from feasible.sets.bounds import Bound, exactly
from feasible.sets.candidates import Candidates
from feasible.sets.combinatorial import KSparse
from feasible.sets.discrete import common_values
from feasible.sets.elementwise import Box, Interval, NonNegative
from feasible.sets.fixed import Frozen
from feasible.sets.matrices import Symmetric
from feasible.sets.norm_balls import L1Ball, LInfBall
from feasible.sets.nuclear_ball import NuclearBall
from feasible.sets.ranges import is_uniform
from feasible.sets.set import Set
from feasible.sets.simplex import Simplex, SumTo
from feasible.sets.singular import SpectralBall
from feasible.sets.spectral import PSD
from feasible.sets.wrapping import Wrapping


def merged(first: Set, second: Set) -> Set | None:
    """``first & second`` as one set, or ``None`` where it takes two to say it."""
    if first == second:
        return first
    if isinstance(first, Interval) and isinstance(second, Interval):
        return _common_range(first, second)
    for one, other in ((first, second), (second, first)):
        single = _merged_in_order(one, other)
        if single is not None:
            return single
    return common_values(first, second)


def _merged_in_order(first: Set, second: Set) -> Set | None:
    match first, second:
        case Candidates(), _ if not _awaits_value(second):
            return _remaining(first, second)
        case KSparse(one, dim), KSparse(other, same) if dim == same:
            return KSparse(min(one, other), dim)
        case L1Ball() | L2Ball() | LInfBall(), L1Ball() | L2Ball() | LInfBall():
            is_alike = type(first) is type(second) and first.dim == second.dim
            return min(first, second, key=_radius) if is_alike else None
        case SpectralBall() | NuclearBall(), SpectralBall() | NuclearBall():
            return min(first, second, key=_radius) if type(first) is type(second) else None
        case NonNegative(), SumTo(total, dim) if total > 0:
            return Simplex(total, dim)
        case Simplex(total, dim), SumTo() if second == SumTo(total, dim):
            return first
        case (Simplex(), NonNegative()) | (PSD(), Symmetric()):
            return first
        case PSD(), PSD():
            return _common_eigenvalues(first, second)
        case PSD(), SpectralBall(radius):
            return _common_eigenvalues(first, PSD(-radius, radius))
        case Symmetric(), SpectralBall(radius):
            return PSD(-radius, radius)
        case Flatten(inner, start, only), Flatten(other, start_dim, same) if start == start_dim:
            fits = only is None or same is None or only == same
            return Flatten(inner & other, start, only or same) if fits else None
        case Flatten(inner, start, only), _ if is_uniform(second) and second.separable:
            return Flatten(inner & second, start, only)
        case Where(inner, mask), Where(other) if second == Where(other, mask):
            return (inner & other).where(mask)
    return None


def _radius(ball: L1Ball | L2Ball | LInfBall | SpectralBall | NuclearBall) -> float:
    return ball.radius


def _common_range(first: Interval, second: Interval) -> Box:
    lower = _tighter(first.bounds[0], second.bounds[0], max, torch.maximum)
    upper = _tighter(first.bounds[1], second.bounds[1], min, torch.minimum)
    return Box(lower, upper)


def _tighter(
    a: Bound,
    b: Bound,
    of_numbers: Callable[[float, float], float],
    of_tensors: Callable[[Tensor, Tensor], Tensor],
) -> Bound:
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return of_tensors(exactly(a), exactly(b))
    return of_numbers(a, b)


def _common_eigenvalues(first: PSD, second: PSD) -> PSD:
    bounds = [bound for bound in (first.max_eig, second.max_eig) if bound is not None]
    return PSD(max(first.min_eig, second.min_eig), min(bounds, default=None))


def _awaits_value(set: Set) -> bool:
    """Whether a part of the set takes its value only when it is bound."""
    inner = (*getattr(set, "parts", ()), *([set.inner] if isinstance(set, Wrapping) else []))
    return set == Frozen() or any(_awaits_value(part) for part in inner)


def _remaining(candidates: Candidates, set: Set) -> Candidates:
    kept = [tensor for tensor in candidates.tensors if bool(set.contains(tensor).all())]
    if not kept:
        raise ValueError(f"{candidates!r} & {set!r} is empty: no candidate is in the other set.")
    return Candidates(kept)
