"""The weights as one vector, and what their sets mean for it: bounds, coupled blocks, curved surfaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from feasible.sets import Intersection, Set


class Block(NamedTuple):
    """A weight's place in the vector, and its set."""

    place: slice
    shape: torch.Size
    set: Set

    def apply_(self, function: Callable[..., Tensor], x: Tensor, *others: Tensor) -> None:
        """Replace the block of ``x`` by a function of it and of the blocks of other vectors."""
        views = [vector[self.place].view(self.shape) for vector in (x, *others)]
        x[self.place] = function(*views).reshape(-1)


def is_curved(set: Set) -> bool:
    """Whether it is a smooth surface with tangent planes: neither convex nor discrete."""
    return not set.convex and not set.discrete and set.needs_tangent and set.offers("tangent")


class Region:
    """Where a vector of weights may be.

    Args:
        parameters: the weights, in the order of the vector.
        sets: the set of each, bound to it; ``None`` for a free weight.
        dtype: of the vector.
    """

    def __init__(self, parameters: Sequence[Tensor], sets: Sequence[Set | None], dtype: torch.dtype) -> None:
        self.coupled: list[Block] = []
        self.curved: list[Block] = []
        self.lower: Tensor | None = None
        self.upper: Tensor | None = None
        total = sum(parameter.numel() for parameter in parameters)
        start = 0
        for parameter, set in zip(parameters, sets, strict=True):
            place = slice(start, start + parameter.numel())
            start = place.stop
            if set is None or parameter.numel() == 0:
                continue
            if set.convex and set.separable:
                self._bound(place, bounds_of(set.cast(parameter), parameter), total, dtype)
            else:
                like = parameter.detach().to(dtype)
                block = Block(place, parameter.shape, set.cast(like))
                (self.curved if is_curved(set) else self.coupled).append(block)

    def _bound(self, place: slice, bounds: tuple[Tensor, Tensor], total: int, dtype: torch.dtype) -> None:
        lower, upper = bounds
        if self.lower is None and bool((lower != -math.inf).any()):
            self.lower = torch.full((total,), -math.inf, dtype=dtype, device=lower.device)
        if self.upper is None and bool((upper != math.inf).any()):
            self.upper = torch.full((total,), math.inf, dtype=dtype, device=lower.device)
        if self.lower is not None:
            self.lower[place] = lower.reshape(-1).to(dtype)
        if self.upper is not None:
            self.upper[place] = upper.reshape(-1).to(dtype)

    @property
    def is_bounded(self) -> bool:
        """Whether some entry has a bound."""
        return self.lower is not None or self.upper is not None

    def clamp(self, x: Tensor) -> Tensor:
        """A copy of x between the bounds."""
        if not self.is_bounded:
            return x.clone()
        return torch.clamp(x, self.lower, self.upper)

    def project(self, x: Tensor) -> Tensor:
        """Nearest point; for a curved block this is the way back onto the surface."""
        x = self.clamp(x)
        for block in (*self.coupled, *self.curved):
            block.apply_(block.set.project, x)
        return x

    def project_linearised(self, p: Tensor, x: Tensor) -> Tensor:
        """As ``project``, but with the tangent plane at x in the place of each surface: a convex set."""
        p = self.clamp(p)
        for block in self.coupled:
            block.apply_(block.set.project, p)
        for block in self.curved:
            block.apply_(lambda q, y, set=block.set: y + set.tangent(y, q - y), p, x)
        return p

    def tangent(self, x: Tensor, v: Tensor) -> Tensor:
        """``v`` without what leads off a surface at x; all other entries as they are."""
        if not self.curved:
            return v
        v = v.clone()
        for block in self.curved:
            block.apply_(lambda w, y, set=block.set: set.tangent(y, w), v, x)
        return v

    def stationarity(self, x: Tensor, g: Tensor) -> float:
        """``max |x − P(x − g)|``: zero exactly where x is stationary; g is tangent to surfaces already."""
        if not x.numel():
            return 0.0
        if not (self.is_bounded or self.coupled):
            return float(g.abs().max())
        return float((x - self.project_linearised(x - g, x)).abs().max())

    def pressed(self, x: Tensor, g: Tensor, near: float) -> Tensor | None:
        """A mask of the entries that are no farther than ``near`` from a bound and drawn beyond it by ``−g``.

        ``None`` where there are no bounds.
        """
        if self.lower is None and self.upper is None:
            return None
        below = above = None
        if self.lower is not None:
            below = (x <= self.lower + near).logical_and_(g > 0)
        if self.upper is not None:
            above = (x >= self.upper - near).logical_and_(g < 0)
        if below is None or above is None:
            return below if above is None else above
        return below.logical_or_(above)


def bounds_of(set: Set, like: Tensor) -> tuple[Tensor, Tensor]:
    """The range of every entry under a separable convex set: what ∓∞ are projected to."""
    if isinstance(set, Intersection):
        lowers, uppers = zip(*(bounds_of(part, like) for part in set.parts), strict=True)
        return reduce(torch.maximum, lowers), reduce(torch.minimum, uppers)
    ends = (torch.full_like(like.detach(), end) for end in (-math.inf, math.inf))
    lower, upper = (set.project(end) for end in ends)
    return lower, upper
