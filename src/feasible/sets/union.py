"""Points that are in at least one of several sets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.sets.candidates import Candidates
from feasible.sets.discrete import FiniteSet
from feasible.sets.parts import OfParts
from feasible.sets.precision import widest
from feasible.sets.set import Set

__all__ = ["Union"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class Union(OfParts):
    """Points of which every unit is in one of the parts. Made by ``a | b``.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to p in one of the parts, unit by unit: the nearest of the
    parts' projections, of equally near ones that of the first part.

    Args:
        parts: sets that speak of the same unit: all of entries, or all of vectors along the same dimension.

    Raises:
        ValueError: there are no parts, or their units differ.

    >>> from feasible import Box, FiniteSet
    >>> (Box(1, 2) | FiniteSet([0])).project(torch.tensor([0.4, 0.6, 1.5, 3.0]))
    tensor([0.0000, 1.0000, 1.5000, 2.0000])
    """

    parts: tuple[Set, ...]

    convex = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts:
            raise ValueError("Union is empty: give at least one set.")
        units = {part.unit: part for part in self.parts}
        if len(units) > 1:
            shown = ", ".join(f"{part!r} of {unit}" for unit, part in units.items())
            raise ValueError(
                f"A union needs sets that speak of the same unit, got {shown}.\n"
                "  Give them the same dim, or constrain different tensors."
            )

    @classmethod
    def example(cls) -> Set:
        """Two sets of vectors."""
        from feasible.sets.simplex import Simplex
        from feasible.sets.sphere import Sphere

        return Simplex() | Sphere(2.0)

    @property
    def discrete(self) -> bool:  # type: ignore[override]
        """Only if every part is."""
        return all(part.discrete for part in self.parts)

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """Only if every part is."""
        return all(part.exact for part in self.parts)

    @property
    def default_method(self) -> str | None:  # type: ignore[override]
        """That of the parts where they agree; none where one of them leaves the choice open."""
        methods = {part.default_method for part in self.parts}
        return methods.pop() if len(methods) == 1 else None

    @property
    def unit(self) -> str:
        """As every part."""
        return self.parts[0].unit

    def tolerance(self, dtype: torch.dtype) -> float:
        """The largest of the parts' tolerances."""
        return max(part.tolerance(dtype) for part in self.parts)

    def __repr__(self) -> str:
        return " | ".join(f"({part!r})" if " & " in repr(part) else repr(part) for part in self.parts)

    # -- the set -----------------------------------------------------------------------------------

    def project(self, x: Tensor) -> Tensor:
        """The nearest of the parts' projections; its derivative is that part's."""
        projected = [part.project(x) for part in self.parts]
        distances = [self._distance_to(x.detach(), point.detach()) for point in projected]
        return self._best(x, projected, distances)

    def _distance_to(self, x: Tensor, point: Tensor) -> Tensor:
        displacement = widest(x) - widest(point)
        # At infinity a point that did not move is at distance 0, not NaN.
        return self.norm(torch.where(x == point, torch.zeros_like(displacement), displacement))

    def _best(self, x: Tensor, points: Sequence[Tensor], costs: Sequence[Tensor]) -> Tensor:
        """For each unit the point of least cost, the first of several."""
        chosen, least = points[0], costs[0]
        for point, cost in zip(points[1:], costs[1:]):
            better = cost < least
            chosen = torch.where(self.spread(better, x), point, chosen)
            least = torch.where(better, cost, least)
        return chosen

    def is_member(self, x: Tensor) -> Tensor:
        """Whether one of the parts contains the unit, up to its own rounding."""
        return _reduced(torch.logical_or, [part.is_member(x) for part in self.parts])

    def norm(self, displacement: Tensor) -> Tensor:
        """As the parts."""
        return self.parts[0].norm(displacement)

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        """As the parts."""
        return self.parts[0].spread(values, x)

    def sum_units(self, entries: Tensor) -> Tensor:
        """As the parts."""
        return self.parts[0].sum_units(entries)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """For each unit a random member of a random part."""
        drawn = [part.sample(shape, generator) for part in self.parts]
        like = self.norm(drawn[0])
        choice = torch.randint(len(drawn), like.shape, generator=generator, device=like.device)
        sample = drawn[0]
        for number, other in enumerate(drawn[1:], start=1):
            sample = torch.where(self.spread(choice == number, other), other, sample)
        return sample

    def offers(self, capability: str) -> bool:
        """Support function, linear minimum, members and their number, where every part has them."""
        shared = ("support", "lmo", "members", "count")
        return capability in shared and all(part.offers(capability) for part in self.parts)

    def support(self, y: Tensor) -> Tensor:
        """The largest of the parts'."""
        return _reduced(torch.maximum, [part.support(y) for part in self.parts])

    def lmo(self, gradient: Tensor) -> Tensor:
        """The best of the parts' linear minima, for each unit."""
        vertices = [part.lmo(gradient) for part in self.parts]
        wide = widest(gradient)
        return self._best(gradient, vertices, [self.sum_units(wide * widest(vertex)) for vertex in vertices])

    def members(self, shape: Sequence[int]) -> Iterator[Tensor]:
        """Every choice of a member of some part for each unit; what is in several parts comes once."""
        choices = self._choices("list of members", shape)
        units = self.units(shape)
        every = itertools.product(range(len(choices)), repeat=units.numel())
        numbers = (torch.tensor(choice, dtype=torch.long).reshape(units) for choice in every)
        return (self._combined(chosen, choices, shape) for chosen in numbers)

    def count(self, shape: Sequence[int]) -> int:
        """The number of different members that one unit has, to the power of the number of units."""
        return int(len(self._choices("count of members", shape)) ** self.units(shape).numel())

    def units(self, shape: Sequence[int]) -> torch.Size:
        """How the units of a tensor of this shape are arranged."""
        return self.norm(torch.zeros(tuple(shape))).shape

    def _choices(self, what: str, shape: Sequence[int]) -> list[Tensor]:
        """All that one unit may be, in a tensor that holds a single one."""
        if not self.offers("members"):
            raise self._lacks(what, "it is not finite")
        self.check_shape(torch.Size(shape))
        single = self.single(shape)
        found: dict[tuple[float, ...], Tensor] = {}
        for part in self.parts:
            for member in part.members(single):
                found.setdefault(tuple(member.flatten().tolist()), member)
        return list(found.values())

    def single(self, shape: Sequence[int]) -> torch.Size:
        """The shape with 1 along every dimension that only counts units."""
        sizes = [1 if size == 0 else size for size in shape]
        for axis, size in enumerate(sizes):
            units = self.units(sizes).numel()
            sizes[axis] = 1
            if self.units(sizes).numel() == units:
                sizes[axis] = size
        return torch.Size(sizes)

    def _combined(self, numbers: Tensor, choices: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """For each unit the choice of its number."""
        member = choices[0].expand(tuple(shape)).clone()
        for number, choice in enumerate(choices):
            member = torch.where(self.spread(numbers == number, member), choice, member)
        return member


def _reduced(join: Callable[[Tensor, Tensor], Tensor], values: Sequence[Tensor]) -> Tensor:
    result = values[0]
    for value in values[1:]:
        result = join(result, value)
    return result


def unite(first: Set, second: Set) -> Set:
    """``first | second``: nested unions in one, equal parts once, lists of values and of candidates merged."""
    if not isinstance(second, Set):
        raise TypeError(f"| needs two sets, got {first!r} and {second!r}.")
    parts: list[Set] = []
    for part in (*_parts(first), *_parts(second)):
        for place, known in enumerate(parts):
            merged = _merged(known, part)
            if merged is not None:
                parts[place] = merged
                break
        else:
            parts.append(part)
    return parts[0] if len(parts) == 1 else Union(tuple(parts))


def _parts(set: Set) -> tuple[Set, ...]:
    return set.parts if isinstance(set, Union) else (set,)


def _merged(first: Set, second: Set) -> Set | None:
    """One set for both, where there is a simple one."""
    if first == second:
        return first
    if isinstance(first, FiniteSet) and isinstance(second, FiniteSet):
        return FiniteSet((*first.numbers, *second.numbers))
    if (
        isinstance(first, Candidates)
        and isinstance(second, Candidates)
        and first.stack.shape[1:] == second.stack.shape[1:]
    ):
        return Candidates([*first.stack, *second.stack.to(first.stack.device)])
    return None
