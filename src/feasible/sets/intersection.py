"""Points that several sets have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, Self, final

import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.sets.acceleration import Units
from feasible.sets.closed_forms import ClosedForm, closed_form
from feasible.sets.dykstra import Map, common_interior, meet, nearest_common
from feasible.sets.merging import merged
from feasible.sets.parts import OfParts
from feasible.sets.precision import roundoff, widest
from feasible.sets.set import Set
from feasible.sets.units import keep_members, vector_norm, vector_sum

__all__ = ["Intersection"]


class Step(NamedTuple):
    """One projection: onto a part, or onto what two parts have in common."""

    parts: tuple[int, ...]
    rule: ClosedForm | None = None


@final
@dataclass(frozen=True, eq=False, repr=False)
class Intersection(OfParts):
    """Points that are in every part. Made by ``a & b``.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to p in every part: by a closed form where one is known for
    two of the parts, and by Dykstra's iteration where more than one projection is left.

    Args:
        parts: convex sets, or two sets with a closed form.

    Raises:
        UnsupportedError: a part is not convex, and no closed form is known.
        ValueError: no common point is found when the set is bound to a tensor.

    >>> from feasible import Box, SumTo
    >>> (Box(0, 1) & SumTo(1.5)).project(torch.tensor([2.0, 0.75, 0.0]))
    tensor([1.0000, 0.5000, 0.0000])

    Source: Boyle & Dykstra, *A method for finding projections onto the intersection of convex sets in
    Hilbert spaces* (1986); stopping rule: Birgin & Raydan, SIAM J. Sci. Comput. 26 (2005).
    """

    parts: tuple[Set, ...]

    @classmethod
    def example(cls) -> Set:
        """What a ball and the orthant have in common."""
        from feasible.sets.balls import L2Ball
        from feasible.sets.elementwise import NonNegative

        return L2Ball(1.0) & NonNegative()

    def __post_init__(self) -> None:
        # The iteration ends on the last part: an exact one there, and the point obeys it to the bit.
        object.__setattr__(self, "parts", tuple(sorted(self.parts, key=lambda part: part.exact)))
        if not self.convex and len(self.steps) > 1:
            loose = next(part for part in self.parts if not part.convex)
            raise UnsupportedError(
                f"{loose!r} is not convex, and the nearest common point of it and another set is not known.\n"
                "  Constrain a different tensor with each, or enforce one of the two with Penalty."
            )

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """How it is projected: read off the kinds of the parts, once."""
        return _steps(self.parts)

    def _with(self, **changes: Any) -> Self:
        twin = super()._with(**changes)
        twin.__dict__["steps"] = self.steps
        return twin

    @property
    def convex(self) -> bool:  # type: ignore[override]
        """Only if every part is."""
        return all(part.convex for part in self.parts)

    @property
    def discrete(self) -> bool:  # type: ignore[override]
        """If any part is."""
        return any(part.discrete for part in self.parts)

    @property
    def default_method(self) -> str | None:  # type: ignore[override]
        """That of a discrete part, else plain projection."""
        return next((part.default_method for part in self.parts if part.discrete), "Project")

    @property
    def unit(self) -> str:
        """The parts' common unit (single entries aside), else the whole tensor."""
        units = {part.unit for part in self.parts} - {"entry"}
        return "entry" if not units else units.pop() if len(units) == 1 else "tensor"

    @property
    def _coarsest(self) -> Set | None:
        return next((part for part in self.parts if part.unit == self.unit), None)

    def bind(self, like: Tensor) -> Self:
        """Every part bound; an empty intersection is found here."""
        bound = super().bind(like)
        if not like.is_meta and bool(like.isfinite().all()):
            bound._check_not_empty(like.detach())
        return bound

    def _check_not_empty(self, like: Tensor) -> None:
        start = widest(like)
        precise = self.cast(start)

        def contained(point: Tensor) -> Tensor:
            return self._all_contain(point.to(like.dtype))

        if self._is_direct:
            if bool(contained(precise._maps[0](precise._maps[0](start))).all()):
                return
            reason = "no point is in all of the parts"
        else:
            found = meet(start, [part.project for part in precise.parts], contained)
            if not found.apart:
                return
            reason = f"after {found.iterations} rounds the nearest points of the parts are still {found.gap:.2g} apart"
        raise ValueError(
            f"{self!r} is empty for a tensor of shape {tuple(like.shape)}: {reason}.\n  Loosen one of the parts."
        )

    def __repr__(self) -> str:
        return " & ".join(f"({part!r})" if " | " in repr(part) else repr(part) for part in self.parts)

    @property
    def _maps(self) -> list[Map]:
        return [self._map(step) for step in self.steps]

    def _map(self, step: Step) -> Map:
        parts = [self.parts[index] for index in step.parts]
        if step.rule is None:
            return parts[0].project
        return partial(step.rule.project, parts[0], parts[1])

    def _all_contain(self, x: Tensor) -> Tensor:
        """For each entry: is it in a unit that every part contains?

        Where an iteration finds the point, it obeys what comes last to the bit, and the other parts up to the
        rounding of the whole unit.
        """
        contained = torch.ones_like(x, dtype=torch.bool)
        for index, part in enumerate(self.parts):
            inside = part.spread(part.is_member(x), x)
            is_last = part.exact and index in self.steps[-1].parts
            contained = contained & (
                inside if self._is_direct or is_last else inside | self._is_close(part, x)
            )
        return contained

    def _is_close(self, part: Set, x: Tensor) -> Tensor:
        """For each entry: is its unit as near to the part as the rounding of its own size explains?"""
        exact = widest(x)
        gap = self.norm(exact - part.cast(exact).project(exact))
        return self.spread(gap <= roundoff(x.dtype) * self.norm(exact), x)

    @property
    def _is_direct(self) -> bool:
        """Whether a single projection does it."""
        return len(self.steps) == 1

    def project(self, x: Tensor) -> Tensor:
        """Nearest common point; units that every part contains keep their bits.

        A unit with an infinite entry has no nearest point that the iteration could find: it becomes NaN.
        """
        if x.numel() == 0:
            return x.clone()
        member = self._are_members(x)
        lost = self.spread(~self.norm(x.detach()).isfinite(), x)
        searched = torch.where(lost, torch.zeros_like(x), x)
        maps = self.cast(widest(x))._maps
        if self._is_direct:
            point = maps[0](widest(searched)).to(x.dtype)
        else:
            point = nearest_common(
                searched,
                maps,
                self._are_members,
                self._length,
                Units(self.sum_units, self.spread),
                repr(self),
            )
        return keep_members(member, x, torch.where(lost, torch.full_like(x, math.nan), point))

    def _are_members(self, x: Tensor) -> Tensor:
        """For each entry: is its unit in every part?"""
        return self.spread(self.is_member(x), x)

    def _length(self, x: Tensor) -> Tensor:
        """For each entry: the norm of its unit."""
        return self.spread(self.norm(x), x)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether every part contains the unit, each up to its own rounding."""
        outside = (~self._all_contain(x.detach())).to(x.dtype if x.is_floating_point() else torch.float32)
        return self.norm(outside) == 0

    def norm(self, displacement: Tensor) -> Tensor:
        """As the coarsest part, else of the whole tensor."""
        part = self._coarsest
        return vector_norm(displacement, None) if part is None else part.norm(displacement)

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        """As the coarsest part, else the one value everywhere."""
        part = self._coarsest
        return values.expand_as(x) if part is None else part.spread(values, x)

    def sum_units(self, entries: Tensor) -> Tensor:
        """As the coarsest part, else over the whole tensor."""
        part = self._coarsest
        return vector_sum(entries, None).to(entries.dtype) if part is None else part.sum_units(entries)

    # -- interior ----------------------------------------------------------------------------------

    def offers(self, capability: str) -> bool:
        """Slack functions, a barrier and an interior, where every part has them."""
        return capability in ("slack", "barrier", "interior") and all(
            part.offers(capability) for part in self.parts
        )

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """The slack functions of all parts."""
        return tuple(slack for part in self.parts for slack in part.slack(x))

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

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """The projection, moved towards the centre until the slack is ``margin`` in each part (or to the centre).

        Raises:
            ValueError: no point has room in all parts.
        """
        if not self.offers("interior"):
            raise self._lacks("interior", "a part has none")
        if x.numel() == 0:
            return x.clone()
        precise, wide = self.cast(widest(x)), widest(x)
        margin = max(margin, 16 * roundoff(x.dtype) * self.size)  # some slack survives rounding
        start, centre = precise.project(wide), self._centre(wide)
        near, far = torch.zeros_like(wide), torch.ones_like(wide)
        for _ in range(60):
            middle = (near + far) / 2
            has_room = precise._has_room(torch.lerp(start, centre, middle), margin)
            near, far = torch.where(has_room, near, middle), torch.where(has_room, middle, far)
        moved = torch.where(far == 1, centre, torch.lerp(start, centre, far)).to(x.dtype)
        return torch.where(precise._has_room(wide, margin), x, moved)

    def _has_room(self, x: Tensor, margin: float) -> Tensor:
        """For each entry: is every slack of its unit at least the margin?"""
        short = torch.zeros_like(x)
        for part in self.parts:
            for slack in part.slack(x):
                lacks = (slack < margin).to(x.dtype)
                short = short + (lacks if slack.shape == x.shape else part.spread(lacks, x))
        return self.spread(self.norm(short) == 0, x)

    def _centre(self, x: Tensor) -> Tensor:
        """A point with much room in every part: within half of the largest margin there is. Found once a shape."""
        key = (x.shape, x.dtype, x.device)
        if key not in self._centres:
            precise = self.cast(x)
            start, interiors = torch.zeros_like(x), [part.interior for part in precise.parts]
            centre = common_interior(start, interiors, partial(precise._has_room, margin=0.0), self.size)
            if centre is None:
                raise ValueError(f"{self!r} has no interior: no point has room in all parts.")
            self._centres[key] = centre.detach()
        return self._centres[key]

    @cached_property
    def _centres(self) -> dict[object, Tensor]:
        return {}


def intersect(first: Set, second: Set) -> Set:
    """``first & second``: a single set where one says it, else an ``Intersection`` of all parts."""
    if not isinstance(second, Set):
        raise TypeError(f"& needs two sets, got {first!r} and {second!r}.")
    parts: list[Set] = []
    for part in (*_parts(first), *_parts(second)):
        _add(parts, part)
    return parts[0] if len(parts) == 1 else Intersection(tuple(parts))


def _parts(set: Set) -> tuple[Set, ...]:
    return set.parts if isinstance(set, Intersection) else (set,)


def _add(parts: list[Set], new: Set) -> None:
    """Append a set, or let it merge with one that is there; what comes out may merge with another."""
    for place, part in enumerate(parts):
        single = merged(part, new)
        if single is not None:
            del parts[place]
            for piece in _parts(single):
                _add(parts, piece)
            return
    parts.append(new)


def _steps(parts: Sequence[Set]) -> tuple[Step, ...]:
    """Pairs with a closed form where there are such, the other parts by themselves; exact ones last."""
    left, found = list(range(len(parts))), []
    while left:
        index = left.pop(0)
        pairs = (pair for other in left for pair in ((index, other), (other, index)))
        rules = ((pair, closed_form(parts[pair[0]], parts[pair[1]])) for pair in pairs)
        step = next((Step(pair, rule) for pair, rule in rules if rule is not None), Step((index,)))
        left = [other for other in left if other not in step.parts]
        found.append(step)
    return tuple(sorted(found, key=lambda step: any(parts[index].exact for index in step.parts)))
