"""Some entries of every vector or matrix: what a mask picks is gathered, constrained, and put back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self, cast, final

import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.sets.algebra import Flatten, Where, check_mask, check_mask_fits
from feasible.sets.blocks import Axes, block, block_shape, put, take
from feasible.sets.charts import BlockChart, Chart
from feasible.sets.precision import normal, widest
from feasible.sets.rivals import Rivals
from feasible.sets.set import Set, short
from feasible.sets.units import Vectors
from feasible.sets.wrapping import Wrapping, operand

__all__: list[str] = []


def pick(set: Set, mask: Tensor) -> Set:
    """``set.where(mask)``: entry by entry where the set allows it, else on the block that the mask picks.

    What is no block may be one in a view: of a flattened tensor, or of the whole tensor as one vector.
    """
    check_mask(mask)
    if set.separable:
        return Where(set, mask)
    if isinstance(set, Picked):
        return pick(set.inner, _both(set.mask, mask))
    if block(mask) is None:
        if isinstance(set, Flatten) and -mask.dim() <= set.start_dim < mask.dim():
            return Flatten(pick(set.inner, mask.flatten(set.start_dim)), set.start_dim, tuple(mask.shape))
        if isinstance(set, Vectors) and set.dim is None:
            return Flatten(Picked(set, mask.flatten()), 0, tuple(mask.shape))
    return Picked(set, mask)


def _both(first: Tensor, second: Tensor) -> Tensor:
    try:
        return first.to(second.device) & second
    except RuntimeError:
        raise ValueError(
            f"where: masks of shapes {tuple(first.shape)} and {tuple(second.shape)} do not fit together."
        ) from None


@final
@dataclass(frozen=True, eq=False, repr=False)
class Picked(Wrapping):
    """A constraint on a block of the tensor; the other entries are free. Made by ``set.where(mask)``.

    The inner set sees only what is picked, as a smaller tensor: some entries of every vector, some rows and
    columns of every matrix, or some of the vectors.

    Args:
        inner: a set of vectors or matrices.
        mask: a bool tensor that broadcasts to the weight and picks a block: all combinations of some indices
            along each dimension.

    Raises:
        ValueError: the mask is not boolean, or picks nothing.
        UnsupportedError: the mask picks other entries in one vector or matrix than in another.

    >>> from feasible import Simplex
    >>> Simplex().where(torch.tensor([True, False, True])).project(torch.tensor([2.0, 7.0, 1.0]))
    tensor([1., 7., 0.])
    """

    inner: Set
    mask: Tensor
    axes: Axes = field(init=False, compare=False)
    """Where not all indices along a dimension are picked: the dimension, counted from the last, and those."""

    def __post_init__(self) -> None:
        check_mask(self.mask)
        if not bool(self.mask.any()):
            raise ValueError("where: the mask picks no entry. Leave the constraint out.")
        axes = block(self.mask)
        if axes is None:
            raise UnsupportedError(
                f"{self.inner!r}.where(mask) needs a mask that picks the same entries of every {self.inner.unit}:"
                " all combinations of some indices along each dimension, as in rows[:, None] & columns.\n"
                "  This one does not. Works with any mask: elementwise sets (Box, NonNegative, Equal, Frozen), "
                "and dim=None, which takes what is picked as one vector."
            )
        object.__setattr__(self, "mask", self.mask.detach().clone())
        object.__setattr__(self, "axes", axes)

    def __repr__(self) -> str:
        return f"{operand(self.inner)}.where({short(self.mask)})"

    # -- binding -----------------------------------------------------------------------------------

    def check_shape(self, shape: torch.Size) -> None:
        """The mask must broadcast to the shape, and the inner set must fit what is picked."""
        check_mask_fits(self.mask, shape)
        try:
            self.inner.check_shape(block_shape(shape, self.axes))
        except ValueError as error:
            raise ValueError(f"{error}\n  Inside .where(mask) a set sees only what the mask picks.") from None

    def bind(self, like: Tensor) -> Self:
        """Mask and indices on the device of ``like``, the inner set bound to what they pick."""
        self.check_shape(like.shape)
        moved = self._on(like.device)
        return moved._with(inner=self.inner.bind(take(like, moved.axes)))

    def cast(self, like: Tensor) -> Self:
        """As ``bind``, unchecked."""
        moved = self._on(like.device)
        return moved._with(inner=self.inner.cast(take(like, moved.axes)))

    def _on(self, device: torch.device) -> Self:
        axes = tuple((axis, index.to(device)) for axis, index in self.axes)
        return self._with(mask=self.mask.to(device), axes=axes)

    # -- the set -----------------------------------------------------------------------------------

    def project(self, x: Tensor) -> Tensor:
        """The inner projection of what is picked."""
        return put(x, self.axes, self.inner.project(take(x, self.axes)))

    def is_member(self, x: Tensor) -> Tensor:
        """Whether the picked part of each unit is in the inner set; units without one are."""
        part = take(x, self.axes)
        outside = ~self.inner.spread(self.inner.is_member(part), part)
        return self.norm(put(x.isnan(), self.axes, outside).to(part.dtype)) == 0

    def norm(self, displacement: Tensor) -> Tensor:
        """As the inner set, of whole units: free entries are part of theirs."""
        return self.inner.norm(displacement)

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        """As the inner set, over whole units."""
        return self.inner.spread(values, x)

    def sum_units(self, entries: Tensor) -> Tensor:
        """As the inner set, of whole units."""
        return self.inner.sum_units(entries)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Random members of the inner set, and normal numbers where entries are free."""
        self.check_shape(torch.Size(shape))
        free = normal(shape, generator) * self.size
        return put(free, self.axes, self.inner.sample(block_shape(shape, self.axes), generator))

    def reduce_gradients_(self, points: Sequence[Tensor], gradients: Sequence[Tensor], t: float) -> None:
        """The inner gradient mapping of what is picked."""
        parts = [take(g, self.axes).clone() for g in gradients]
        self.inner.reduce_gradients_([take(x, self.axes) for x in points], parts, t)
        for g, part in zip(gradients, parts, strict=True):
            g.copy_(put(g, self.axes, part))

    # -- what only some sets have ------------------------------------------------------------------

    def offers(self, capability: str) -> bool:
        """As the inner set, but free entries are unbounded."""
        if capability == "relaxation" and not self.relaxes_in_place:
            return False
        return capability not in ("lmo", "members", "count") and self.inner.offers(capability)

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """The inner slack; 1, a constant, where there is nothing to obey."""
        return tuple(self._completed(slack, x, 1.0) for slack in self.inner.slack(take(x, self.axes)))

    def barrier(self, x: Tensor) -> Tensor:
        """The inner barrier of what is picked; 0 for the other units."""
        return self._completed(self.inner.barrier(take(x, self.axes)), x, 0.0)

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """The inner interior of what is picked."""
        return put(x, self.axes, self.inner.interior(take(x, self.axes), margin))

    def chart(self, kind: str | None = None) -> Chart:
        """The inner chart of what is picked."""
        return BlockChart(cast(Chart, self.inner.chart(kind)), self.axes)

    def rivals(self, x: Tensor) -> Rivals:
        """The inner members of what is picked; free entries are where they may be."""
        found = self.inner.rivals(take(x, self.axes))
        free = torch.zeros_like(x, dtype=found.slopes.dtype)
        residual, slopes = (put(free, self.axes, part) for part in (found.residual, found.slopes))
        return Rivals(residual, found.others, self._completed(found.logs, x, 0.0), slopes)

    def spacing(self, shape: Sequence[int]) -> float:
        """As the inner set, of what is picked."""
        return self.inner.spacing(block_shape(shape, self.axes))

    def relaxation(self) -> Chart:
        """The inner relaxation of what is picked."""
        if not self.offers("relaxation"):
            raise self._lacks("relaxation", "the inner set has none with coordinates of the weight's shape")
        return BlockChart(cast(Chart, self.inner.relaxation()), self.axes)

    def support(self, y: Tensor) -> Tensor:
        """The inner support function; +inf where a free entry is asked for more than 0."""
        part = take(y, self.axes)
        asked = self.norm(put(y, self.axes, torch.zeros_like(part)))
        total = self.norm(y)
        unbounded = torch.where(total.isnan(), total, math.inf)
        return torch.where(asked == 0, self._completed(self.inner.support(part), y, 0.0), unbounded)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The inner tangent of what is picked, the direction itself elsewhere."""
        part = self.inner.tangent(take(x, self.axes), take(direction, self.axes))
        return put(direction, self.axes, part)

    def _completed(self, values: Tensor, x: Tensor, free: float) -> Tensor:
        """Values of picked entries or units, with ``free`` for the others."""
        part = take(x, self.axes)
        if values.shape == part.shape:
            return put(torch.full_like(x, free, dtype=values.dtype), self.axes, values)
        units = self.sum_units(x.detach())
        if values.shape == units.shape or values.shape != self.inner.sum_units(part.detach()).shape:
            return values
        number = self._numbers(units, x).reshape(-1)
        completed = torch.full_like(units, free, dtype=values.dtype).reshape(-1)
        return completed.index_copy(0, number, values.reshape(-1)).reshape(units.shape)

    def _numbers(self, units: Tensor, x: Tensor) -> Tensor:
        """For each picked unit its place among all of them."""
        numbers = widest(torch.arange(units.numel(), device=x.device)).reshape(units.shape)
        repeated = take(self.spread(numbers, x), self.axes)
        count = self.inner.sum_units(torch.ones_like(repeated))
        return (self.inner.sum_units(repeated) / count).round().long()
