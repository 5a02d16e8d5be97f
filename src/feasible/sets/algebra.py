"""Sets made of one set: some entries only, a flattened view."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, cast, final

import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.sets.bounds import check_broadcast
from feasible.sets.charts import Chart, FlattenChart, WhereChart
from feasible.sets.rivals import Rivals
from feasible.sets.set import Set, short
from feasible.sets.wrapping import Wrapping, operand

__all__ = ["Flatten", "Where"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class Where(Wrapping):
    """A constraint on the entries that a mask picks; the others are free. Made by ``set.where(mask)``.

    ``project(x)`` projects the picked entries and returns the others with the same bits.

    Args:
        inner: an elementwise set.
        mask: a bool tensor that broadcasts to the weight.

    Raises:
        ValueError: the mask is not boolean.
        UnsupportedError: ``inner`` is not an elementwise set.

    >>> from feasible import Box
    >>> Box(0, 1).where(torch.tensor([True, False])).project(torch.tensor([-3.0, -3.0]))
    tensor([ 0., -3.])
    """

    inner: Set
    mask: Tensor

    def __post_init__(self) -> None:
        check_mask(self.mask)
        if not self.inner.separable:
            raise UnsupportedError(
                f"{self.inner!r}.where(mask) has no meaning entry by entry: its unit is the {self.inner.unit}.\n"
                "  Works with: elementwise sets (Box, NonNegative, Equal, Frozen)."
            )
        object.__setattr__(self, "mask", self.mask.detach().clone())

    @classmethod
    def example(cls) -> Set:
        """One of two entries."""
        from feasible.sets.elementwise import NonNegative

        return NonNegative().where(torch.tensor([True, False]))

    def check_shape(self, shape: torch.Size) -> None:
        """The mask must broadcast to the shape, and the inner set must fit."""
        check_mask_fits(self.mask, shape)
        self.inner.check_shape(shape)

    def bind(self, like: Tensor) -> Self:
        """Mask and inner set on the device of ``like``."""
        self.check_shape(like.shape)
        return self._with(inner=self.inner.bind(like), mask=self.mask.to(like.device))

    def cast(self, like: Tensor) -> Self:
        """As ``bind``, unchecked."""
        return self._with(inner=self.inner.cast(like), mask=self.mask.to(like.device))

    def __repr__(self) -> str:
        return f"{operand(self.inner)}.where({short(self.mask)})"

    def _mask(self, x: Tensor) -> Tensor:
        return self.mask if self.mask.device == x.device else self.mask.to(x.device)

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
            "relaxation",
            "rivals",
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
        free = torch.where((y == 0) | y.isnan(), y, torch.full_like(y, math.inf))
        return torch.where(self._mask(y), self.inner.support(y), free)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The inner tangent on the picked entries, the direction itself elsewhere."""
        return torch.where(self._mask(x), self.inner.tangent(x, direction), direction)

    def chart(self, kind: str | None = None) -> Chart:
        """The inner chart on the picked entries."""
        return WhereChart(cast(Chart, self.inner.chart(kind)), self.mask)

    def rivals(self, x: Tensor) -> Rivals:
        """The inner members on the picked entries; free entries are where they may be."""
        found, mask = self.inner.rivals(self._safe(x)), self._mask(x)
        residual, logs, slopes = (
            torch.where(mask, part, 0.0) for part in (found.residual, found.logs, found.slopes)
        )
        return Rivals(residual, found.others, logs, slopes)

    def spacing(self, shape: Sequence[int]) -> float:
        """As the inner set."""
        return self.inner.spacing(shape)

    def relaxation(self) -> Chart:
        """The inner relaxation on the picked entries."""
        return WhereChart(cast(Chart, self.inner.relaxation()), self.mask)

    def _safe(self, x: Tensor) -> Tensor:
        """Free entries replaced by members, so that no barrier sees them."""
        return torch.where(self._mask(x), x, self.inner.project(x).detach())


@final
@dataclass(frozen=True, eq=False, repr=False)
class Flatten(Wrapping):
    """A constraint on ``x.flatten(start_dim)``. Made by ``set.flatten(start_dim)``.

    Args:
        inner: the set of the flattened tensors.
        start_dim: first dimension to flatten; 1 makes a convolution kernel one row a filter.

    >>> from feasible import L2Ball
    >>> L2Ball(1.0).flatten(1).project(torch.ones(1, 2, 2))
    tensor([[[0.5000, 0.5000],
             [0.5000, 0.5000]]])
    """

    inner: Set
    start_dim: int = 0
    only: tuple[int, ...] | None = None
    """The only shape that fits, where the inner set holds a flattened mask; ``None``: any."""

    @classmethod
    def example(cls) -> Set:
        """A ball for each row."""
        from feasible.sets.balls import L2Ball

        return L2Ball(1.0).flatten(1)

    @property
    def unit(self) -> str:
        """As the inner set, of the flattened tensor."""
        if self.inner.separable:
            return self.inner.unit
        is_matrix = self.start_dim == -2 and self.inner.unit == "vector along -1"
        return "matrix" if is_matrix else f"{self.inner.unit} of flatten({self.start_dim})"

    def __repr__(self) -> str:
        return f"{operand(self.inner)}.flatten({self.start_dim})"

    def _flat(self, x: Tensor) -> Tensor:
        return x.flatten(self.start_dim) if x.dim() else x.reshape(1)

    def check_shape(self, shape: torch.Size) -> None:
        """The inner set must fit the flattened shape."""
        if self.only is not None and self.only != tuple(shape):
            raise ValueError(
                f"where: mask has shape {self.only}, but the tensor has shape {tuple(shape)}.\n"
                "  A mask that picks no block of it must have its full shape."
            )
        if shape and not -len(shape) <= self.start_dim < len(shape):
            raise ValueError(
                f"flatten({self.start_dim}) needs a tensor with that dimension, but its shape is {tuple(shape)}."
            )
        self.inner.check_shape(self._flat_shape(shape))

    def bind(self, like: Tensor) -> Self:
        """The inner set bound to the flattened tensor."""
        self.check_shape(like.shape)
        return self._with(inner=self.inner.bind(self._flat(like)))

    def cast(self, like: Tensor) -> Self:
        """As ``bind``, unchecked."""
        return self._with(inner=self.inner.cast(self._flat(like)))

    def _through(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return function(self._flat(x)).reshape(x.shape)

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

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Random members of the inner set, in the given shape."""
        self.check_shape(torch.Size(shape))
        flat = self._flat_shape(shape)
        return self.inner.sample(flat, generator).reshape(tuple(shape))

    def offers(self, capability: str) -> bool:
        """As the inner set; a relaxation where its coordinates have the weight's shape."""
        return self.inner.offers(capability) and (capability != "relaxation" or self.relaxes_in_place)

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

    def reduce_gradients_(self, points: Sequence[Tensor], gradients: Sequence[Tensor], t: float) -> None:
        """The inner gradient mapping on the flattened views."""
        for x, g in zip(points, gradients, strict=True):
            flat = self._flat(g)
            self.inner.reduce_gradients_([self._flat(x)], [flat], t)
            g.copy_(flat.reshape(g.shape))

    def members(self, shape: Sequence[int]) -> Iterator[Tensor]:
        """The inner members, in the given shape."""
        return (member.reshape(tuple(shape)) for member in self.inner.members(self._flat_shape(shape)))

    def count(self, shape: Sequence[int]) -> int:
        """As the inner set, of the flattened shape."""
        return self.inner.count(self._flat_shape(shape))

    def _flat_shape(self, shape: Sequence[int]) -> torch.Size:
        return self._flat(torch.empty(tuple(shape), device="meta")).shape

    def lmo(self, gradient: Tensor) -> Tensor:
        """The inner linear minimum."""
        return self._through(self.inner.lmo, gradient)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The inner tangent direction."""
        return self._through(lambda flat: self.inner.tangent(flat, self._flat(direction)), x)

    def chart(self, kind: str | None = None) -> Chart:
        """The inner chart."""
        return FlattenChart(cast(Chart, self.inner.chart(kind)), self.start_dim)

    def rivals(self, x: Tensor) -> Rivals:
        """The inner members, in the shape of x."""
        found = self.inner.rivals(self._flat(x))
        residual, slopes = (part.reshape(x.shape) for part in (found.residual, found.slopes))
        return Rivals(residual, found.others, self._per_unit(found.logs, x), slopes)

    def spacing(self, shape: Sequence[int]) -> float:
        """As the inner set, of the flattened shape."""
        return self.inner.spacing(self._flat_shape(shape))

    def relaxation(self) -> Chart:
        """The inner relaxation."""
        if not self.offers("relaxation"):
            raise self._lacks("relaxation", "the inner set has none with coordinates of the weight's shape")
        return FlattenChart(cast(Chart, self.inner.relaxation()), self.start_dim)


def check_mask(mask: object) -> None:
    """Raise unless it is a bool tensor."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = f"a tensor of {mask.dtype}" if isinstance(mask, Tensor) else repr(mask)
        raise ValueError(f"where: mask must be a bool tensor, got {got}. Compare first, as in mask != 0.")


def check_mask_fits(mask: Tensor, shape: torch.Size) -> None:
    """Raise unless the mask broadcasts to the shape."""
    check_broadcast("where: mask", mask, shape, "a bool tensor")
