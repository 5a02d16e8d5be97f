"""Sets that constrain each entry by itself: ranges, fixed values, the value at the moment of binding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.sets.charts import HALF_LINE, INTERVAL, Chart, IntervalChart
from feasible.sets.units import Elementwise

__all__ = ["Box", "Equal", "Frozen", "NonNegative"]

Bound = float | Tensor | None


class Interval(Elementwise):
    """Entries between two bounds, either of which may be missing."""

    @property
    def bounds(self) -> tuple[Bound, Bound]:
        """Lower and upper bound; ``None`` where there is none."""
        raise NotImplementedError

    def project(self, x: Tensor) -> Tensor:
        """``min(max(x, lower), upper)``, entry by entry."""
        lower, upper = (_like(bound, x) for bound in self.bounds)
        if lower is None and upper is None:
            return x.clone()
        return torch.clamp(x, lower, upper)  # type: ignore[call-overload, no-any-return]

    def project_all_(self, tensors: Sequence[Tensor]) -> None:
        """One pass over each large tensor; many small ones in one fused call."""
        lower, upper = self.bounds
        if isinstance(lower, Tensor) or isinstance(upper, Tensor) or _few_and_large(tensors):
            for tensor in tensors:
                if lower is not None or upper is not None:
                    torch.clamp(tensor, _like(lower, tensor), _like(upper, tensor), out=tensor)  # type: ignore[call-overload]
            return
        if lower is not None:
            torch._foreach_clamp_min_(list(tensors), lower)
        if upper is not None:
            torch._foreach_clamp_max_(list(tensors), upper)

    def reduce_gradients_(self, points: Sequence[Tensor], gradients: Sequence[Tensor], t: float) -> None:
        """``clamp(g, (x − upper)/t, (x − lower)/t)``: the gradient mapping without its cancellation."""
        lower, upper = self.bounds
        if isinstance(lower, Tensor) or isinstance(upper, Tensor):
            for x, g in zip(points, gradients, strict=True):
                g.copy_(_reduced(x, g, lower, upper, t))
        elif lower is not None or upper is not None:
            _reduce_(points, gradients, lower, upper, t)

    @property
    def size(self) -> float:
        """The largest finite bound, or 1."""
        finite = [
            float(b.abs().max()) if isinstance(b, Tensor) else abs(b) for b in self.bounds if b is not None
        ]
        return max([b for b in finite if 0 < b < math.inf], default=1.0)

    def check_shape(self, shape: torch.Size) -> None:
        """Tensor bounds must broadcast to the shape without changing it."""
        for name, bound in zip(("lower", "upper"), self.bounds, strict=True):
            check_broadcast(f"{type(self).__name__}: {name}", bound, shape)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Uniform between two bounds, exponential from a single one, normal without any."""
        self.check_shape(torch.Size(shape))
        uniform = torch.rand(tuple(shape), generator=generator)
        lower, upper = (_like(bound, uniform) for bound in self.bounds)
        if lower is None and upper is None:
            return torch.randn(tuple(shape), generator=generator)
        if lower is None or upper is None:
            away = -torch.log1p(-uniform) * self.size
            return self.project(lower + away if lower is not None else upper - away)  # type: ignore[operator]
        return self.project(lower + (upper - lower) * uniform)

    # A half-infinite entry of a tensor bound has slack 1: a constant that no logarithm notices.
    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """``x − lower`` and ``upper − x``, for the bounds that exist."""
        lower, upper = (_like(bound, x) for bound in self.bounds)
        slacks = []
        if lower is not None:
            slacks.append(_finite_slack(x - lower, lower))
        if upper is not None:
            slacks.append(_finite_slack(upper - x, upper))
        return tuple(slacks)

    def offers(self, capability: str) -> bool:
        """Barrier, interior and charts need a bound; the linear minimum needs two finite ones."""
        lower, upper = self.bounds
        if capability in ("slack", "barrier", "interior", "chart"):
            return (lower is not None or upper is not None) and not self._is_point()
        if capability == "lmo":
            return _is_finite(lower) and _is_finite(upper)
        return super().offers(capability)

    def _is_point(self) -> bool:
        lower, upper = self.bounds
        if lower is None or upper is None:
            return False
        return bool((torch.as_tensor(lower) == torch.as_tensor(upper)).any())

    def barrier(self, x: Tensor) -> Tensor:
        """``−log(x − lower) − log(upper − x)``, entry by entry."""
        if not self.offers("barrier"):
            raise self._lacks("barrier", "it needs a bound, and room between two")
        return sum((log_barrier(slack) for slack in self.slack(x)), torch.zeros_like(x))

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """Entries moved to at least ``margin`` from each bound, or to the middle of a narrower range."""
        if not self.offers("interior"):
            raise self._lacks("interior", "it needs a bound, and room between two")
        lower, upper = (_like(bound, x) for bound in self.bounds)
        if lower is not None and upper is not None:
            half = torch.as_tensor(upper - lower, device=x.device, dtype=x.dtype) / 2
            room = torch.clamp(half, max=margin)
            return torch.minimum(torch.maximum(x, lower + room), upper - room)
        return torch.clamp(
            x,
            None if lower is None else _next_inside(lower, margin, x),
            None if upper is None else _next_inside(upper, -margin, x),
        )  # type: ignore[call-overload, no-any-return]

    def chart(self, kind: str | None = None) -> Chart:
        """Coordinates of the range.

        One bound: ``"abs"`` (default: its slope never fades), ``"softplus"``, ``"exp"``, ``"square"``,
        ``"relu"``. Two bounds: ``"sigmoid"`` (default), ``"tanh"``, ``"sine"``.
        """
        if not self.offers("chart"):
            raise self._lacks("chart", "it needs a bound, and room between two")
        lower, upper = (_chart_bound(bound) for bound in self.bounds)
        if any(bound is not None and not bool(bound.isfinite().all()) for bound in (lower, upper)):
            raise UnsupportedError(
                f"{self!r} mixes finite and infinite entries in one tensor bound, which no single chart serves.\n"
                "  Split it: one constraint for the bounded entries, with .where(mask)."
            )
        curves = INTERVAL if lower is not None and upper is not None else HALF_LINE
        kind = kind or next(iter(curves))
        if kind not in curves:
            raise ValueError(f"{self!r} has no chart {kind!r}. Choose one of: {', '.join(curves)}.")
        return IntervalChart(kind, lower, upper)

    def support(self, y: Tensor) -> Tensor:
        """``upper · y`` where y > 0, ``lower · y`` where y < 0, and 0 at 0."""
        lower, upper = (_like(bound, y) for bound in self.bounds)
        above = math.inf if upper is None else upper
        below = -math.inf if lower is None else lower
        return torch.where(y == 0, y, torch.where(y > 0, above * y, below * y))

    def lmo(self, gradient: Tensor) -> Tensor:
        """The lower bound where the gradient is positive, else the upper bound."""
        if not self.offers("lmo"):
            raise self._lacks("linear minimisation", "it is unbounded")
        lower, upper = (torch.as_tensor(_like(b, gradient)).to(gradient) for b in self.bounds)
        corner = torch.where(gradient > 0, lower, upper)
        return torch.where(gradient.isnan(), gradient, corner)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction, without what would lead out of the range."""
        lower, upper = (_like(bound, x) for bound in self.bounds)
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
            object.__setattr__(self, name, _checked_bound(name, getattr(self, name)))
        if self.lower is not None and self.upper is not None:
            lower, upper = torch.as_tensor(self.lower), torch.as_tensor(self.upper)
            try:
                crossed = lower.to(upper.device) > upper
            except RuntimeError:
                raise ValueError(
                    f"Box: lower has shape {tuple(lower.shape)} and upper {tuple(upper.shape)}, "
                    "which do not fit together."
                ) from None
            if bool(crossed.any()):
                raise ValueError(
                    f"Box is empty: lower must not exceed upper, got lower={_shown(lower, crossed)} "
                    f"and upper={_shown(upper, crossed)}. Swap them, or widen the range."
                )

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


class Fixed(Elementwise):
    """Entries that have one value each."""

    def _value(self) -> float | Tensor:
        raise NotImplementedError

    def check_shape(self, shape: torch.Size) -> None:
        """A tensor value must broadcast to the shape without changing it."""
        check_broadcast(f"{type(self).__name__}: value", self._value(), shape)

    def project(self, x: Tensor) -> Tensor:
        """The value, whatever x is; NaN stays NaN."""
        return torch.where(x.isnan(), x, torch.as_tensor(self._value(), device=x.device).to(x.dtype))

    def project_all_(self, tensors: Sequence[Tensor]) -> None:
        """Copy the value: what has drifted to NaN comes back too."""
        for tensor in tensors:
            value = self._value()
            if isinstance(value, Tensor):
                tensor.copy_(value)
            else:
                tensor.fill_(value)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """The only member."""
        self.check_shape(torch.Size(shape))
        return self.project(torch.zeros(tuple(shape)))

    def support(self, y: Tensor) -> Tensor:
        """``value · y``."""
        return torch.as_tensor(self._value(), device=y.device).to(y.dtype) * y

    def lmo(self, gradient: Tensor) -> Tensor:
        """The only member."""
        return self.project(gradient)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """0: there is nowhere to go."""
        return torch.zeros_like(direction)


@final
@dataclass(frozen=True, eq=False, repr=False)
class Equal(Fixed):
    """Entries equal to a value.

    ``project(x)`` is the value.

    Args:
        value: a finite number or a tensor that broadcasts to the weight.

    Raises:
        ValueError: the value is not finite.

    >>> Equal(2.0).project(torch.tensor([-3.0, 0.5]))
    tensor([2., 2.])
    """

    value: float | Tensor = 0.0

    def __post_init__(self) -> None:
        value = _checked_bound("value", self.value)
        if value is None or not bool(torch.as_tensor(value).isfinite().all()):
            raise ValueError(f"Equal: value must be finite, got {self.value!r}.")
        object.__setattr__(self, "value", value)

    def _value(self) -> float | Tensor:
        return self.value


@final
@dataclass(frozen=True, eq=False, repr=False)
class Frozen(Fixed):
    """Entries that stay as they were when the set was bound to a tensor.

    ``Frozen().bind(x)`` holds a copy of x; ``project`` returns it. A checkpoint's value wins over it.

    >>> Frozen().bind(torch.tensor([1.0, 2.0])).project(torch.zeros(2))
    tensor([1., 2.])
    """

    value: Tensor | None = None

    def bind(self, like: Tensor) -> Frozen:
        """Take the present value of ``like``; a value taken before is kept."""
        if self.value is None:
            return replace(self, value=like.detach().clone())
        self.check_shape(like.shape)
        return replace(self, value=self.value.to(like))

    def taken(self) -> dict[str, Tensor]:
        """The value."""
        return {} if self.value is None else {"value": self.value}

    def with_taken(self, taken: dict[str, Tensor]) -> Frozen:
        """The checkpoint's value."""
        return replace(self, value=taken["value"].detach().clone())

    def check_shape(self, shape: torch.Size) -> None:
        """Any shape fits until a value has been taken."""
        if self.value is not None:
            super().check_shape(shape)

    def project(self, x: Tensor) -> Tensor:
        """The value taken when the set was bound; x itself before that."""
        return x.clone() if self.value is None else super().project(x)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """The frozen value; anything before one has been taken."""
        if self.value is None:
            return torch.randn(tuple(shape), generator=generator)
        return super().sample(shape, generator)

    def _value(self) -> float | Tensor:
        if self.value is None:
            raise ValueError("Frozen() has no value yet: call bind(tensor), or give it to problem.constrain.")
        return self.value


def log_barrier(slack: Tensor) -> Tensor:
    """``−log(slack)``, +inf where the slack is not positive, NaN where it is NaN."""
    inside = torch.where(slack <= 0, torch.ones_like(slack), slack)
    return torch.where(slack <= 0, torch.full_like(slack, math.inf), -torch.log(inside))


def check_broadcast(what: str, value: Bound, shape: torch.Size) -> None:
    """Raise unless ``value`` broadcasts to ``shape`` without enlarging it."""
    if not isinstance(value, Tensor):
        return
    try:
        fits = torch.broadcast_shapes(value.shape, shape) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{what} has shape {tuple(value.shape)}, which does not broadcast to the tensor's shape {tuple(shape)}.\n"
            f"  Give a number, or a tensor of shape {tuple(shape)}."
        )


def _checked_bound(name: str, bound: Bound) -> Bound:
    if bound is None:
        return None
    if isinstance(bound, Tensor):
        bound = bound.detach().clone()
        if not bound.is_floating_point():
            bound = bound.to(torch.get_default_dtype())
    else:
        try:
            bound = float(bound)
        except (TypeError, ValueError):
            raise ValueError(f"{name} must be a number, a tensor or None, got {bound!r}.") from None
    numbers = torch.as_tensor(bound)
    if bool(numbers.isnan().any()):
        raise ValueError(f"{name} must not be NaN, got {bound!r}.")
    empty = {"lower": math.inf, "upper": -math.inf}.get(name)
    if empty is not None and bool((numbers == empty).any()):
        raise ValueError(f"Box is empty: {name} must not be {empty}.")
    if not isinstance(bound, Tensor) and math.isinf(bound) and name in ("lower", "upper"):
        return None
    return bound


def _like(bound: Bound, x: Tensor) -> Bound:
    return bound.to(x) if isinstance(bound, Tensor) else bound


def _is_finite(bound: Bound) -> bool:
    return bound is not None and bool(torch.as_tensor(bound).isfinite().all())


def _finite_slack(slack: Tensor, bound: Bound) -> Tensor:
    if isinstance(bound, Tensor):
        return torch.where(bound.isinf(), torch.ones_like(slack), slack)
    return slack


def _next_inside(bound: float | Tensor, margin: float, x: Tensor) -> float | Tensor:
    """``bound + margin``, at least one representable number inside the bound."""
    at = torch.as_tensor(bound, dtype=x.dtype, device=x.device)
    moved = torch.where(at.isinf(), at, at + margin)
    step = torch.nextafter(at, torch.full_like(at, math.copysign(math.inf, margin)))
    inside = torch.maximum(moved, step) if margin > 0 else torch.minimum(moved, step)
    return inside if isinstance(bound, Tensor) else float(inside)


def _chart_bound(bound: Bound) -> Tensor | None:
    return (
        None
        if bound is None
        else torch.as_tensor(bound, dtype=None if isinstance(bound, Tensor) else torch.float64)
    )


def _shown(bound: Tensor, crossed: Tensor) -> str:
    return f"{bound.expand(crossed.shape)[crossed][0].item():g}"


def _reduced(x: Tensor, g: Tensor, lower: Bound, upper: Bound, t: float) -> Tensor:
    if lower is not None:
        g = torch.minimum(g, (x - _like(lower, x)) / t)
    if upper is not None:
        g = torch.maximum(g, (x - _like(upper, x)) / t)
    return g


def _reduce_(
    points: Sequence[Tensor], gradients: Sequence[Tensor], lower: float | None, upper: float | None, t: float
) -> None:
    """As ``_reduced``, in place and in few passes; large weights in pieces that fit a cache."""
    like = points[0]
    # c + x/t with a constant c is one pass over x.
    below = None if upper is None else torch.tensor(-upper / t, dtype=like.dtype)
    above = None if lower is None else torch.tensor(-lower / t, dtype=like.dtype)
    least = most = like.new_empty(0)
    for x, g in _pieces(points, gradients):
        if most.shape != x.shape:
            least, most = torch.empty_like(x), torch.empty_like(x)
        if below is None:
            torch.minimum(g, torch.add(above, x, alpha=1 / t, out=most), out=g)
        elif above is None:
            torch.maximum(g, torch.add(below, x, alpha=1 / t, out=least), out=g)
        else:
            torch.add(below, x, alpha=1 / t, out=least)
            torch.add(above, x, alpha=1 / t, out=most)
            torch.clamp(g, least, most, out=g)


def _pieces(points: Sequence[Tensor], gradients: Sequence[Tensor]) -> Iterable[tuple[Tensor, Tensor]]:
    """Weights with their gradients; large ones in flat pieces."""
    for x, g in zip(points, gradients, strict=True):
        if x.numel() <= 2 * _PIECE or not (x.is_contiguous() and g.is_contiguous()):
            yield x, g
        else:
            yield from zip(x.view(-1).split(_PIECE), g.view(-1).split(_PIECE), strict=True)


_PIECE = 32_768
"""Entries of a large weight that are worked on at a time."""
_LARGE = 65_536
"""From this size on, one ``clamp_`` pass over memory beats two fused ones."""


def _few_and_large(tensors: Sequence[Tensor]) -> bool:
    # A look at the first few decides: counting them all would cost as much as projecting one.
    return len(tensors) < 4 or max(tensor.numel() for tensor in tensors[:4]) > _LARGE
