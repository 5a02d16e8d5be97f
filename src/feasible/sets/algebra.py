"""Sets made of sets: some entries only, a flattened view, an intersection."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast, final

import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.sets.charts import Chart, FlattenChart, WhereChart
from feasible.sets.dykstra import dykstra
from feasible.sets.elementwise import Bound, Box, Interval, check_broadcast
from feasible.sets.set import Set, short

__all__ = ["Flatten", "Intersection", "Where"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class Where(Set):
    """A constraint on the entries that a mask picks; the others are free. Made by ``set.where(mask)``.

    ``project(x)`` projects the picked entries and returns the others with the same bits.

    Args:
        inner: an elementwise set.
        mask: a bool tensor that broadcasts to the weight.

    Raises:
        ValueError: the mask is not boolean.
        UnsupportedError: ``inner`` is not an elementwise set.

    >>> Box(0, 1).where(torch.tensor([True, False])).project(torch.tensor([-3.0, -3.0]))
    tensor([ 0., -3.])
    """

    inner: Set
    mask: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.mask, Tensor) or self.mask.dtype != torch.bool:
            got = f"a tensor of {self.mask.dtype}" if isinstance(self.mask, Tensor) else repr(self.mask)
            raise ValueError(f"where: mask must be a bool tensor, got {got}. Compare first, as in mask != 0.")
        if not self.inner.separable:
            raise UnsupportedError(
                f"{self.inner!r}.where(mask) has no meaning entry by entry: its unit is the {self.inner.unit}.\n"
                "  Works with: elementwise sets (Box, NonNegative, Equal, Frozen)."
            )
        object.__setattr__(self, "mask", self.mask.detach().clone())

    @property
    def convex(self) -> bool:  # type: ignore[override]
        """As the inner set."""
        return self.inner.convex

    @property
    def discrete(self) -> bool:  # type: ignore[override]
        """As the inner set."""
        return self.inner.discrete

    separable = True
    exact = True

    @property
    def unit(self) -> str:
        """One entry."""
        return self.inner.unit

    @property
    def size(self) -> float:
        """As the inner set."""
        return self.inner.size

    def check_shape(self, shape: torch.Size) -> None:
        """The mask must broadcast to the shape, and the inner set must fit."""
        check_broadcast("where: mask", self.mask, shape)
        self.inner.check_shape(shape)

    def bind(self, like: Tensor) -> Where:
        """Mask and inner set on the device of ``like``."""
        self.check_shape(like.shape)
        return replace(self, inner=self.inner.bind(like), mask=self.mask.to(like.device))

    def __repr__(self) -> str:
        return f"{self.inner!r}.where({short(self.mask)})"

    def _mask(self, x: Tensor) -> Tensor:
        return self.mask if self.mask.device == x.device else self.mask.to(x.device)

    def taken(self) -> dict[str, Tensor]:
        """As the inner set."""
        return self.inner.taken()

    def with_taken(self, taken: dict[str, Tensor]) -> Set:
        """As the inner set."""
        return replace(self, inner=self.inner.with_taken(taken))

    def project(self, x: Tensor) -> Tensor:
        """The inner projection on the picked entries."""
        return torch.where(self._mask(x), self.inner.project(x), x)

    def project_all_(self, tensors: Sequence[Tensor]) -> None:
        """The inner projection on a copy, taken over for the picked entries."""
        for tensor in tensors:
            projected = tensor.clone()
            self.inner.project_all_([projected])
            torch.where(self._mask(tensor), projected, tensor, out=tensor)

    def norm(self, displacement: Tensor) -> Tensor:
        """As the inner set."""
        return self.inner.norm(displacement)

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        """As the inner set."""
        return self.inner.spread(values, x)

    def sum_units(self, entries: Tensor) -> Tensor:
        """As the inner set."""
        return self.inner.sum_units(entries)

    def offers(self, capability: str) -> bool:
        """Barrier, chart, tangent and support as the inner set; free entries are unbounded."""
        return capability in (
            "slack",
            "barrier",
            "interior",
            "chart",
            "tangent",
            "support",
        ) and self.inner.offers(capability)

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """The inner slack; 1, a constant, for the free entries."""
        return tuple(
            torch.where(self._mask(x), slack, torch.ones_like(slack))
            for slack in self.inner.slack(self._safe(x))
        )

    def barrier(self, x: Tensor) -> Tensor:
        """The inner barrier on the picked entries."""
        inner = self.inner.barrier(self._safe(x))
        return torch.where(self._mask(x), inner, torch.zeros_like(inner))

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """The inner interior on the picked entries."""
        return torch.where(self._mask(x), self.inner.interior(x, margin), x)

    def support(self, y: Tensor) -> Tensor:
        """The inner support function; +inf where a free entry is asked for more than 0."""
        free = torch.where(y == 0, y, torch.full_like(y, math.inf))
        return torch.where(self._mask(y), self.inner.support(y), free)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The inner tangent on the picked entries, the direction itself elsewhere."""
        return torch.where(self._mask(x), self.inner.tangent(x, direction), direction)

    def chart(self, kind: str | None = None) -> Chart:
        """The inner chart on the picked entries."""
        return WhereChart(cast(Chart, self.inner.chart(kind)), self.mask)

    def _safe(self, x: Tensor) -> Tensor:
        """Free entries replaced by members, so that no barrier sees them."""
        return torch.where(self._mask(x), x, self.inner.project(x).detach())


@final
@dataclass(frozen=True, eq=False, repr=False)
class Flatten(Set):
    """A constraint on ``x.flatten(start_dim)``. Made by ``set.flatten(start_dim)``.

    Args:
        inner: the set of the flattened tensors.
        start_dim: first dimension to flatten; 1 makes a convolution kernel one row a filter.

    >>> L2Ball(1.0).flatten(1).project(torch.ones(1, 2, 2))
    tensor([[[0.5000, 0.5000],
             [0.5000, 0.5000]]])
    """

    inner: Set
    start_dim: int = 0

    @property
    def convex(self) -> bool:  # type: ignore[override]
        """As the inner set."""
        return self.inner.convex

    @property
    def discrete(self) -> bool:  # type: ignore[override]
        """As the inner set."""
        return self.inner.discrete

    @property
    def separable(self) -> bool:  # type: ignore[override]
        """As the inner set."""
        return self.inner.separable

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """As the inner set."""
        return self.inner.exact

    @property
    def unit(self) -> str:
        """As the inner set, of the flattened tensor."""
        return self.inner.unit if self.inner.separable else f"{self.inner.unit} of flatten({self.start_dim})"

    @property
    def size(self) -> float:
        """As the inner set."""
        return self.inner.size

    def __repr__(self) -> str:
        return f"{self.inner!r}.flatten({self.start_dim})"

    def _flat(self, x: Tensor) -> Tensor:
        return x.flatten(self.start_dim) if x.dim() else x.reshape(1)

    def check_shape(self, shape: torch.Size) -> None:
        """The inner set must fit the flattened shape."""
        if shape and not -len(shape) <= self.start_dim < len(shape):
            raise ValueError(
                f"flatten({self.start_dim}) needs a tensor with that dimension, but its shape is {tuple(shape)}."
            )
        self.inner.check_shape(self._flat(torch.empty(shape, device="meta")).shape)

    def bind(self, like: Tensor) -> Flatten:
        """The inner set bound to the flattened tensor."""
        self.check_shape(like.shape)
        return replace(self, inner=self.inner.bind(self._flat(like)))

    def _through(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return function(self._flat(x)).reshape(x.shape)

    def taken(self) -> dict[str, Tensor]:
        """As the inner set."""
        return self.inner.taken()

    def with_taken(self, taken: dict[str, Tensor]) -> Set:
        """As the inner set."""
        return replace(self, inner=self.inner.with_taken(taken))

    def project(self, x: Tensor) -> Tensor:
        """The inner projection on the flattened view."""
        return self._through(self.inner.project, x)

    def is_member(self, x: Tensor) -> Tensor:
        """As the inner set; elementwise sets answer in the shape of x."""
        member = self.inner.is_member(self._flat(x))
        return member.reshape(x.shape) if self.inner.separable else member

    def norm(self, displacement: Tensor) -> Tensor:
        """As the inner set; elementwise sets answer in the shape of x."""
        norm = self.inner.norm(self._flat(displacement))
        return norm.reshape(displacement.shape) if self.inner.separable else norm

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        """As the inner set, in the shape of x."""
        flat = self._flat(x)
        return self.inner.spread(
            values.reshape(flat.shape) if self.inner.separable else values, flat
        ).reshape(x.shape)

    def sum_units(self, entries: Tensor) -> Tensor:
        """As the inner set."""
        return self._per_unit(self.inner.sum_units(self._flat(entries)), entries)

    def tolerance(self, dtype: torch.dtype) -> float:
        """As the inner set."""
        return self.inner.tolerance(dtype)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Random members of the inner set, in the given shape."""
        self.check_shape(torch.Size(shape))
        flat = self._flat(torch.empty(tuple(shape), device="meta")).shape
        return self.inner.sample(flat, generator).reshape(tuple(shape))

    def offers(self, capability: str) -> bool:
        """As the inner set."""
        return self.inner.offers(capability)

    def _per_unit(self, value: Tensor, x: Tensor) -> Tensor:
        return value.reshape(x.shape) if value.shape == self._flat(x).shape else value

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """The inner slack."""
        return tuple(self._per_unit(slack, x) for slack in self.inner.slack(self._flat(x)))

    def barrier(self, x: Tensor) -> Tensor:
        """The inner barrier."""
        return self._per_unit(self.inner.barrier(self._flat(x)), x)

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """The inner interior."""
        return self._through(lambda flat: self.inner.interior(flat, margin), x)

    def support(self, y: Tensor) -> Tensor:
        """The inner support function."""
        return self._per_unit(self.inner.support(self._flat(y)), y)

    def lmo(self, gradient: Tensor) -> Tensor:
        """The inner linear minimum."""
        return self._through(self.inner.lmo, gradient)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The inner tangent direction."""
        return self._through(lambda flat: self.inner.tangent(flat, self._flat(direction)), x)

    def chart(self, kind: str | None = None) -> Chart:
        """The inner chart."""
        return FlattenChart(cast(Chart, self.inner.chart(kind)), self.start_dim)


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

    def bind(self, like: Tensor) -> Intersection:
        """Every part bound; an empty intersection is found here."""
        bound = replace(self, parts=tuple(part.bind(like) for part in self.parts))
        found = dykstra(like.detach(), [part.project for part in bound.parts], bound._all_contain)
        if not found.converged and bool(like.isfinite().all()):
            raise ValueError(
                f"{self!r} looks empty for a tensor of shape {tuple(like.shape)}: after {found.iterations} rounds "
                f"the nearest points of the parts are still {found.gap:.2g} apart.\n"
                "  Loosen one of the parts."
            )
        return bound

    def __repr__(self) -> str:
        return " & ".join(map(repr, self.parts))

    def _all_contain(self, x: Tensor) -> Tensor:
        """For each entry: is it in a unit that every part contains?"""
        contained = torch.ones_like(x, dtype=torch.bool)
        for part in self.parts:
            contained = contained & part.spread(part.is_member(x), x)
        return contained

    def project(self, x: Tensor) -> Tensor:
        """Nearest common point; units that every part contains keep their bits."""
        member = self.spread(self.is_member(x), x)
        nan = self.spread(self.norm(x.detach()).isnan(), x)
        searched = torch.where(nan, torch.zeros_like(x), x)
        projected = dykstra(searched, [part.project for part in self.parts], self._all_contain).point
        return torch.where(member, x, torch.where(nan, torch.full_like(x, math.nan), projected))

    def is_member(self, x: Tensor) -> Tensor:
        """Whether every part contains the unit, each up to its own rounding."""
        outside = (~self._all_contain(x)).to(x.dtype if x.is_floating_point() else torch.float32)
        return self.norm(outside) == 0

    def norm(self, displacement: Tensor) -> Tensor:
        """As the coarsest part, else of the whole tensor."""
        part = self._coarsest
        return torch.linalg.vector_norm(displacement) if part is None else part.norm(displacement)

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
        return entries.sum() if part is None else part.sum_units(entries)

    def barrier(self, x: Tensor) -> Tensor:
        """The sum of the parts' barriers, per unit."""
        barriers = [(part, part.barrier(x)) for part in self.parts]
        return sum(
            (
                value
                if part.unit == self.unit
                else self.sum_units(value)
                if part.unit == "entry"
                else value.sum()
                for part, value in barriers
            ),
            torch.zeros_like(self.norm(x)),
        )


def intersect(first: Set, second: Set) -> Set:
    """``first & second``: one range where both are ranges, else an ``Intersection`` of all parts."""
    if not isinstance(second, Set):
        raise TypeError(f"& needs two sets, got {first!r} and {second!r}.")
    if first == second:
        return first
    if isinstance(first, Interval) and isinstance(second, Interval):
        lower = _tighter(first.bounds[0], second.bounds[0], torch.maximum)
        upper = _tighter(first.bounds[1], second.bounds[1], torch.minimum)
        return Box(lower, upper)
    parts = [
        part for set in (first, second) for part in (set.parts if isinstance(set, Intersection) else (set,))
    ]
    return Intersection(tuple(parts))


def _tighter(a: Bound, b: Bound, choose: Callable[[Tensor, Tensor], Tensor]) -> Bound:
    if a is None or b is None:
        return b if a is None else a
    chosen = choose(torch.as_tensor(a), torch.as_tensor(b))
    return chosen if isinstance(a, Tensor) or isinstance(b, Tensor) else float(chosen)
