"""Points that are in at least one of several sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor

from feasible.sets.candidates import Candidates
from feasible.sets.discrete import FiniteSet
from feasible.sets.precision import widest
from feasible.sets.set import Set

__all__ = ["Union"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class Union(Set):
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
    def separable(self) -> bool:  # type: ignore[override]
        """Only if every part is."""
        return all(part.separable for part in self.parts)

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

    @property
    def size(self) -> float:
        """The largest of the parts' sizes."""
        return max(part.size for part in self.parts)

    def tolerance(self, dtype: torch.dtype) -> float:
        """The largest of the parts' tolerances."""
        return max(part.tolerance(dtype) for part in self.parts)

    def __repr__(self) -> str:
        return " | ".join(f"({part!r})" if " & " in repr(part) else repr(part) for part in self.parts)

    # -- binding -----------------------------------------------------------------------------------

    def check_shape(self, shape: torch.Size) -> None:
        """Every part must fit."""
        for part in self.parts:
            part.check_shape(shape)

    def bind(self, like: Tensor) -> Self:
        """Every part bound."""
        return self._with(parts=tuple(part.bind(like) for part in self.parts))

    def cast(self, like: Tensor) -> Self:
        """Every part cast."""
        return self._with(parts=tuple(part.cast(like) for part in self.parts))

    def taken(self) -> dict[str, Tensor]:
        """What the parts took, under their numbers."""
        return {
            f"{number}.{name}": tensor
            for number, part in enumerate(self.parts)
            for name, tensor in part.taken().items()
        }

    def with_taken(self, taken: dict[str, Tensor]) -> Self:
        """Each part with its own tensors."""
        return self._with(
            parts=tuple(
                part.with_taken({name: taken[f"{number}.{name}"] for name in part.taken()})
                for number, part in enumerate(self.parts)
            )
        )

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
        """Support function and linear minimum, where every part has them."""
        return capability in ("support", "lmo") and all(part.offers(capability) for part in self.parts)

    def support(self, y: Tensor) -> Tensor:
        """The largest of the parts'."""
        return _reduced(torch.maximum, [part.support(y) for part in self.parts])

    def lmo(self, gradient: Tensor) -> Tensor:
        """The best of the parts' linear minima, for each unit."""
        vertices = [part.lmo(gradient) for part in self.parts]
        wide = widest(gradient)
        return self._best(gradient, vertices, [self.sum_units(wide * widest(vertex)) for vertex in vertices])


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
