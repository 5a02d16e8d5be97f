"""Points that several convex sets have in common."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.sets.bounds import Bound, exactly
from feasible.sets.discrete import common_values
from feasible.sets.dykstra import dykstra, meet
from feasible.sets.elementwise import Box, Interval, NonNegative
from feasible.sets.precision import widest
from feasible.sets.set import Set
from feasible.sets.units import keep_members, vector_norm, vector_sum

__all__ = ["Intersection"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class Intersection(Set):
    """Points that are in every part. Made by ``a & b``.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to p in every part, by Dykstra's iteration.

    Args:
        parts: convex sets.

    Raises:
        UnsupportedError: a part is not convex.
        ValueError: no common point is found when the set is bound to a tensor.

    >>> from feasible import NonNegative, SumTo
    >>> (NonNegative() & SumTo(1.0)).project(torch.tensor([2.0, 0.0]))
    tensor([1., 0.])

    Source: Boyle & Dykstra, *A method for finding projections onto the intersection of convex sets in
    Hilbert spaces* (1986); stopping rule: Birgin & Raydan, SIAM J. Sci. Comput. 26 (2005).
    """

    parts: tuple[Set, ...]

    def __post_init__(self) -> None:
        for part in self.parts:
            if not part.convex:
                raise UnsupportedError(
                    f"{part!r} is not convex, and the nearest common point of it and another set is not known.\n"
                    "  Constrain a different tensor with each, or enforce one of the two with Penalty."
                )
        # The iteration ends on the last part: an exact one there, and the point obeys it to the bit.
        object.__setattr__(self, "parts", tuple(sorted(self.parts, key=lambda part: part.exact)))

    @classmethod
    def example(cls) -> Set:
        """What a ball and the orthant have in common."""
        from feasible.sets.balls import L2Ball

        return L2Ball(1.0) & NonNegative()

    @property
    def separable(self) -> bool:  # type: ignore[override]
        """Only if every part is."""
        return all(part.separable for part in self.parts)

    @property
    def unit(self) -> str:
        """The parts' common unit (single entries aside), else the whole tensor."""
        units = {part.unit for part in self.parts} - {"entry"}
        return "entry" if not units else units.pop() if len(units) == 1 else "tensor"

    @property
    def _coarsest(self) -> Set | None:
        return next((part for part in self.parts if part.unit == self.unit), None)

    @property
    def size(self) -> float:
        """The largest of the parts' sizes."""
        return max(part.size for part in self.parts)

    def check_shape(self, shape: torch.Size) -> None:
        """Every part must fit."""
        for part in self.parts:
            part.check_shape(shape)

    def bind(self, like: Tensor) -> Self:
        """Every part bound; an empty intersection is found here."""
        bound = self._with(parts=tuple(part.bind(like) for part in self.parts))
        if like.is_meta or not bool(like.isfinite().all()):
            return bound
        precise = bound.cast(widest(like.detach()))
        found = meet(widest(like.detach()), [part.project for part in precise.parts], precise._all_contain)
        if found.apart:
            raise ValueError(
                f"{self!r} is empty for a tensor of shape {tuple(like.shape)}: after {found.iterations} rounds "
                f"the nearest points of the parts are still {found.gap:.2g} apart.\n"
                "  Loosen one of the parts."
            )
        return bound

    def cast(self, like: Tensor) -> Self:
        """Every part cast; emptiness is not looked for again."""
        return self._with(parts=tuple(part.cast(like) for part in self.parts))

    def __repr__(self) -> str:
        return " & ".join(map(repr, self.parts))

    def _all_contain(self, x: Tensor) -> Tensor:
        """For each entry: is it in a unit that every part contains?"""
        contained = torch.ones_like(x, dtype=torch.bool)
        for part in self.parts:
            contained = contained & part.spread(part.is_member(x), x)
        return contained

    def project(self, x: Tensor) -> Tensor:
        """Nearest common point; units that every part contains keep their bits.

        A unit with an infinite entry has no nearest point that the iteration could find: it becomes NaN.
        """
        member = self.spread(self.is_member(x), x)
        lost = self.spread(~self.norm(x.detach()).isfinite(), x)
        searched = torch.where(lost, torch.zeros_like(x), x)
        precise = self.cast(widest(x))
        found = dykstra(searched, [part.project for part in precise.parts], self._all_contain, self._length)
        if not found.converged:
            warnings.warn(
                f"The nearest point of {self!r} was not reached in {found.iterations} rounds; "
                f"the parts are still {found.gap:.2g} apart.",
                stacklevel=2,
            )
        return keep_members(member, x, torch.where(lost, torch.full_like(x, math.nan), found.point))

    def _length(self, x: Tensor) -> Tensor:
        """For each entry: the norm of its unit."""
        return self.spread(self.norm(x), x)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether every part contains the unit, each up to its own rounding."""
        outside = (~self._all_contain(x)).to(x.dtype if x.is_floating_point() else torch.float32)
        return self.norm(outside) == 0

    def norm(self, displacement: Tensor) -> Tensor:
        """As the coarsest part, else of the whole tensor."""
        part = self._coarsest
        return vector_norm(displacement, None) if part is None else part.norm(displacement)

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        """As the coarsest part, else the one value everywhere."""
        part = self._coarsest
        return values.expand_as(x) if part is None else part.spread(values, x)

    def offers(self, capability: str) -> bool:
        """Slack functions and a barrier, where every part has them."""
        return capability in ("slack", "barrier") and all(part.offers(capability) for part in self.parts)

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """The slack functions of all parts."""
        return tuple(slack for part in self.parts for slack in part.slack(x))

    def sum_units(self, entries: Tensor) -> Tensor:
        """As the coarsest part, else over the whole tensor."""
        part = self._coarsest
        return vector_sum(entries, None).to(entries.dtype) if part is None else part.sum_units(entries)

    def barrier(self, x: Tensor) -> Tensor:
        """The sum of the parts' barriers, per unit."""
        total = torch.zeros_like(self.norm(x))
        for part in self.parts:
            barrier = part.barrier(x)
            if part.unit == self.unit:
                total = total + barrier
            else:
                total = total + (self.sum_units(barrier) if part.unit == "entry" else barrier.sum())
        return total


def intersect(first: Set, second: Set) -> Set:
    """``first & second``: one range where both are ranges, else an ``Intersection`` of all parts."""
    if not isinstance(second, Set):
        raise TypeError(f"& needs two sets, got {first!r} and {second!r}.")
    if first == second:
        return first
    if isinstance(first, Interval) and isinstance(second, Interval):
        lower = _tighter(first.bounds[0], second.bounds[0], max, torch.maximum)
        upper = _tighter(first.bounds[1], second.bounds[1], min, torch.minimum)
        return Box(lower, upper)
    common = common_values(first, second)
    if common is not None:
        return common
    parts = [
        part for set in (first, second) for part in (set.parts if isinstance(set, Intersection) else (set,))
    ]
    return Intersection(tuple(parts))


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
