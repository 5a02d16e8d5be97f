"""Ranges: sets that constrain each entry by itself, between two bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self, final

import torch
from torch import Tensor

from feasible.sets.bounds import (
    Bound,
    as_seen_by,
    check_broadcast,
    check_order,
    checked_bound,
    clamp,
    clamp_all_,
    exactly,
    few_and_large,
    finite_slack,
    inner_bounds,
    is_finite,
    reduce_,
    reduced,
    with_infinities,
)
from feasible.sets.charts import HALF_LINE, INTERVAL, Chart, IntervalChart
from feasible.sets.precision import normal, uniform
from feasible.sets.units import Elementwise

__all__ = ["Box", "NonNegative"]


class Interval(Elementwise):
    """Entries between two bounds, either of which may be missing."""

    @property
    def bounds(self) -> tuple[Bound, Bound]:
        """Lower and upper bound; ``None`` where there is none."""
        raise NotImplementedError

    def project(self, x: Tensor) -> Tensor:
        """``min(max(x, lower), upper)``, entry by entry."""
        return clamp(x, *self.bounds)

    def project_all_(self, tensors: Sequence[Tensor]) -> None:
        """One pass over each large tensor; many small ones in one fused call."""
        lower, upper = self.bounds
        if isinstance(lower, Tensor) or isinstance(upper, Tensor) or few_and_large(tensors):
            for tensor in tensors:
                clamp(tensor, lower, upper, out=tensor)
        else:
            clamp_all_(tensors, lower, upper)

    def reduce_gradients_(self, points: Sequence[Tensor], gradients: Sequence[Tensor], t: float) -> None:
        """``clamp(g, (x − upper)/t, (x − lower)/t)``: the gradient mapping without its cancellation."""
        lower, upper = self.bounds
        if isinstance(lower, Tensor) or isinstance(upper, Tensor):
            for x, g in zip(points, gradients, strict=True):
                g.copy_(reduced(x, g, lower, upper, t))
        elif lower is not None or upper is not None:
            reduce_(points, gradients, lower, upper, t)

    @property
    def size(self) -> float:
        """The largest finite bound, or 1."""
        bounds = [exactly(bound).abs() for bound in self.bounds if bound is not None]
        finite = [bound[bound.isfinite()] for bound in bounds if bound.numel()]
        return max((float(bound.max()) for bound in finite if bound.numel()), default=0.0) or 1.0

    def check_shape(self, shape: torch.Size) -> None:
        """Tensor bounds must broadcast to the shape without changing it."""
        for name, bound in zip(("lower", "upper"), self.bounds, strict=True):
            check_broadcast(f"{type(self).__name__}: {name}", bound, shape)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Uniform between two bounds, exponential from a single one, normal without any."""
        self.check_shape(torch.Size(shape))
        share = uniform(shape, generator)
        away = -torch.log1p(-share) * self.size
        lower, upper = (exactly(bound).to(share) for bound in with_infinities(self.bounds))
        above, below = lower + away, upper - away
        one_sided = torch.where(
            lower.isfinite(), above, torch.where(upper.isfinite(), below, normal(shape, generator))
        )
        between = torch.lerp(lower, upper, share)
        return self.project(torch.where(lower.isfinite() & upper.isfinite(), between, one_sided))

    # A half-infinite entry of a tensor bound has slack 1: a constant that no logarithm notices.
    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """``x − lower`` and ``upper − x``, for the bounds that exist."""
        if not self.offers("slack"):
            raise self._lacks("slack functions", "it needs a bound, and room between two")
        lower, upper = (as_seen_by(bound, x) for bound in self.bounds)
        slacks = []
        if lower is not None:
            slacks.append(finite_slack(x - lower, lower))
        if upper is not None:
            slacks.append(finite_slack(upper - x, upper))
        return tuple(slacks)

    def offers(self, capability: str) -> bool:
        """Barrier, interior and charts need a bound; the linear minimum needs two finite ones."""
        lower, upper = self.bounds
        if capability == "chart" and not all(bound is None or is_finite(bound) for bound in self.bounds):
            return False
        if capability in ("slack", "barrier", "interior", "chart"):
            return (lower is not None or upper is not None) and not self._is_point
        if capability == "lmo":
            return is_finite(lower) and is_finite(upper)
        return super().offers(capability)

    @cached_property
    def _is_point(self) -> bool:
        lower, upper = self.bounds
        return lower is not None and upper is not None and bool((exactly(lower) == exactly(upper)).any())

    def barrier(self, x: Tensor) -> Tensor:
        """``−log(x − lower) − log(upper − x)``, entry by entry."""
        if not self.offers("barrier"):
            raise self._lacks("barrier", "it needs a bound, and room between two")
        return sum((log_barrier(slack) for slack in self.slack(x)), torch.zeros_like(x))

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """Entries moved to at least ``margin`` from each bound, or to the middle of a narrower range."""
        if not self.offers("interior"):
            raise self._lacks("interior", "it needs a bound, and room between two")
        return clamp(x, *inner_bounds(*self.bounds, margin, x))

    def chart(self, kind: str | None = None) -> Chart:
        """Coordinates of the range.

        One bound: ``"abs"`` (default: its slope never fades), ``"softplus"``, ``"exp"``, ``"square"``,
        ``"relu"``. Two bounds: ``"sigmoid"`` (default), ``"tanh"``, ``"sine"``.
        """
        if not self.offers("chart"):
            raise self._lacks(
                "chart", "it needs room between finite bounds; .where(mask) leaves entries without any"
            )
        lower, upper = (None if bound is None else exactly(bound) for bound in self.bounds)
        curves = INTERVAL if lower is not None and upper is not None else HALF_LINE
        kind = kind or next(iter(curves))
        if kind not in curves:
            raise ValueError(f"{self!r} has no chart {kind!r}. Choose one of: {', '.join(curves)}.")
        return IntervalChart(kind, lower, upper)

    def support(self, y: Tensor) -> Tensor:
        """``upper · y`` where y > 0, ``lower · y`` where y < 0, and 0 at 0."""
        lower, upper = (exactly(bound).to(y) for bound in with_infinities(self.bounds))
        some = torch.where(y == 0, torch.ones_like(y), y)  # 0 · inf would be NaN
        return torch.where(y == 0, torch.zeros_like(y), torch.where(some > 0, upper, lower) * some)

    def lmo(self, gradient: Tensor) -> Tensor:
        """The lower bound where the gradient is positive, else the upper bound."""
        if not self.offers("lmo"):
            raise self._lacks("linear minimisation", "it is unbounded")
        lower, upper = (exactly(bound).to(gradient) for bound in with_infinities(self.bounds))
        corner = torch.where(gradient > 0, lower, upper)
        return torch.where(gradient.isnan(), gradient, corner)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction, without what would lead out of the range."""
        lower, upper = (as_seen_by(bound, x) for bound in self.bounds)
        if lower is not None:
            direction = torch.where((x <= lower) & (direction < 0), torch.zeros_like(direction), direction)
        if upper is not None:
            direction = torch.where((x >= upper) & (direction > 0), torch.zeros_like(direction), direction)
        return direction


@final
@dataclass(frozen=True, eq=False, repr=False)
class Box(Interval):
    """Entries in a range.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``lower ≤ p ≤ upper``: ``min(max(x, lower), upper)``.

    Args:
        lower: a number, a tensor that broadcasts to the weight, or ``None`` for no bound.
        upper: the same.

    Raises:
        ValueError: a bound is NaN, or ``lower > upper`` somewhere.

    >>> Box(-1, 1).project(torch.tensor([-3.0, 0.5, 2.0]))
    tensor([-1.0000,  0.5000,  1.0000])
    """

    lower: Bound = None
    upper: Bound = None

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            object.__setattr__(self, name, checked_bound(name, getattr(self, name)))
        if self.lower is None or self.upper is None:
            return
        if isinstance(self.lower, Tensor) != isinstance(self.upper, Tensor):
            object.__setattr__(self, "lower", exactly(self.lower))
            object.__setattr__(self, "upper", exactly(self.upper))
        check_order(exactly(self.lower), exactly(self.upper))

    @classmethod
    def example(cls) -> Self:
        """From −1 to 1."""
        return cls(-1.0, 1.0)

    @property
    def bounds(self) -> tuple[Bound, Bound]:
        """Lower and upper bound."""
        return self.lower, self.upper


@final
@dataclass(frozen=True, eq=False, repr=False)
class NonNegative(Interval):
    """Entries ≥ 0.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``p ≥ 0``: ``max(x, 0)``.

    >>> NonNegative().project(torch.tensor([-3.0, 0.5]))
    tensor([0.0000, 0.5000])
    """

    @property
    def bounds(self) -> tuple[Bound, Bound]:
        """0 and nothing."""
        return 0.0, None


def log_barrier(slack: Tensor) -> Tensor:
    """``−log(slack)``, +inf where the slack is not positive, NaN where it is NaN."""
    inside = torch.where(slack <= 0, torch.ones_like(slack), slack)
    return torch.where(slack <= 0, torch.full_like(slack, math.inf), -torch.log(inside))
