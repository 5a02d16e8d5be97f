"""Bounds of ranges: numbers, tensors or nothing, and the arithmetic that ranges do with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

Bound = float | Tensor | None


def checked_bound(name: str, bound: Bound) -> Bound:
    """A finite number, ``None``, or a tensor of its own; raise where no entry could obey it."""
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
    entries = exactly(bound)
    if bool(entries.isnan().any()):
        raise ValueError(f"{name} must not be NaN, got {bound!r}.")
    empty = {"lower": math.inf, "upper": -math.inf}.get(name)
    if empty is not None and bool((entries == empty).any()):
        raise ValueError(f"Box is empty: {name} must not be {empty}.")
    if not isinstance(bound, Tensor) and math.isinf(bound) and name in ("lower", "upper"):
        return None
    return bound


def check_order(lower: Tensor, upper: Tensor) -> None:
    """Raise where a lower bound lies above its upper bound."""
    try:
        crossed = lower.to(upper.device) > upper
    except RuntimeError:
        raise ValueError(
            f"Box: lower has shape {tuple(lower.shape)} and upper {tuple(upper.shape)}, which do not fit together."
        ) from None
    if bool(crossed.any()):
        raise ValueError(
            f"Box is empty: lower must not exceed upper, got lower={_shown(lower, crossed)} "
            f"and upper={_shown(upper, crossed)}. Swap them, or widen the range."
        )


def _shown(bound: Tensor, crossed: Tensor) -> str:
    return f"{bound.expand(crossed.shape)[crossed][0].item():g}"


def check_broadcast(
    what: str, value: Bound, shape: torch.Size, wanted: str = "a number, or a tensor"
) -> None:
    """Raise unless ``value`` broadcasts to ``shape`` without enlarging it."""
    if not isinstance(value, Tensor):
        return
    try:
        fits = torch.broadcast_shapes(value.shape, shape) == shape  # type: ignore[no-untyped-call]
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{what} has shape {tuple(value.shape)}, which does not broadcast to the tensor's shape {tuple(shape)}.\n"
            f"  Give {wanted} of shape {tuple(shape)}."
        )


def exactly(bound: float | Tensor) -> Tensor:
    """A bound as a tensor that holds it exactly."""
    return bound if isinstance(bound, Tensor) else torch.tensor(bound, dtype=torch.float64)


def with_infinities(bounds: tuple[Bound, Bound]) -> tuple[float | Tensor, float | Tensor]:
    """Bounds with −∞ and +∞ in the place of ``None``."""
    lower, upper = bounds
    return -math.inf if lower is None else lower, math.inf if upper is None else upper


def as_seen_by(bound: Bound, x: Tensor) -> Bound:
    """A bound as it is compared with ``x``; a number beyond its range is infinite there."""
    return bound.to(x) if isinstance(bound, Tensor) else _number_seen_by(bound, x)


def _number_seen_by(bound: float | None, x: Tensor) -> float | None:
    if bound is None or not x.is_floating_point() or abs(bound) <= torch.finfo(x.dtype).max:
        return bound
    return math.copysign(math.inf, bound)


def is_finite(bound: Bound) -> bool:
    """Whether there is a bound for every entry."""
    return bound is not None and bool(exactly(bound).isfinite().all())


def clamp(x: Tensor, lower: Bound, upper: Bound, out: Tensor | None = None) -> Tensor:
    """``min(max(x, lower), upper)``."""
    if lower is None and upper is None:
        return x.clone() if out is None else out
    bounds: Any = (as_seen_by(lower, x), as_seen_by(upper, x))
    return torch.clamp(x, *bounds, out=out)


def clamp_all_(tensors: Sequence[Tensor], lower: float | None, upper: float | None) -> None:
    """Clamp several tensors of one dtype in place, in one fused call for each bound."""
    least, most = (_number_seen_by(bound, tensors[0]) for bound in (lower, upper))
    if least is not None:
        torch._foreach_clamp_min_(list(tensors), least)
    if most is not None:
        torch._foreach_clamp_max_(list(tensors), most)


def inner_bounds(lower: Bound, upper: Bound, margin: float, x: Tensor) -> tuple[Bound, Bound]:
    """Both bounds moved inwards by ``margin``, or to their middle where there is less room."""
    least = None if lower is None else _next_inside(lower, margin, x)
    most = None if upper is None else _next_inside(upper, -margin, x)
    if least is None or most is None or lower is None or upper is None:
        return least, most
    middle = lower / 2 + upper / 2
    if isinstance(least, Tensor) or isinstance(most, Tensor):
        narrow = torch.as_tensor(least > most)
        return torch.where(narrow, exactly(middle).to(x), least), torch.where(
            narrow, exactly(middle).to(x), most
        )
    return (middle, middle) if least > most else (least, most)


def _next_inside(bound: float | Tensor, margin: float, x: Tensor) -> float | Tensor:
    """``bound + margin``, at least one representable number inside the bound."""
    # A number stays on the CPU: reading it back costs no synchronisation there.
    at = bound.to(x) if isinstance(bound, Tensor) else torch.tensor(bound, dtype=x.dtype)
    inwards = math.copysign(math.inf, margin)
    next_number = torch.nextafter(at, torch.full_like(at, inwards))
    choose = torch.maximum if inwards > 0 else torch.minimum
    inside = torch.where(at.isinf(), at, choose(at + margin, next_number))
    return inside if isinstance(bound, Tensor) else float(inside)


def finite_slack(slack: Tensor, bound: Bound) -> Tensor:
    """The slack to a bound; 1 where the bound is infinite."""
    if isinstance(bound, Tensor):
        return torch.where(bound.isinf() & ~slack.isnan(), torch.ones_like(slack), slack)
    return slack


def reduced(x: Tensor, g: Tensor, lower: Bound, upper: Bound, t: float) -> Tensor:
    """``clamp(g, (x − upper)/t, (x − lower)/t)``."""
    if lower is not None:
        g = torch.minimum(g, (x - exactly(lower).to(x)) / t)
    if upper is not None:
        g = torch.maximum(g, (x - exactly(upper).to(x)) / t)
    return g


def reduce_(
    points: Sequence[Tensor], gradients: Sequence[Tensor], lower: float | None, upper: float | None, t: float
) -> None:
    """As ``reduced``, in place and in few passes; large weights in pieces that fit a cache."""
    if not points:
        return
    # c + x/t with a constant c is one pass over x, and exact at a bound where t is a power of two.
    constants = [
        None if bound is None else torch.tensor(-bound / t, dtype=points[0].dtype) for bound in (upper, lower)
    ]
    scratch = [points[0].new_empty(0)] * 2
    for x, g in _pieces(points, gradients):
        if scratch[0].shape != x.shape:
            scratch = [torch.empty_like(x), torch.empty_like(x)]
        least, most = (
            None if constant is None else torch.add(constant, x, alpha=1 / t, out=room)
            for constant, room in zip(constants, scratch, strict=True)
        )
        torch.clamp(g, least, most, out=g)


def _pieces(points: Sequence[Tensor], gradients: Sequence[Tensor]) -> Iterable[tuple[Tensor, Tensor]]:
    """Weights with their gradients; large ones in flat pieces."""
    for x, g in zip(points, gradients, strict=True):
        if x.numel() <= 2 * _PIECE or not (x.is_contiguous() and g.is_contiguous()):
            yield x, g
        else:
            yield from zip(torch.split(x.view(-1), _PIECE), torch.split(g.view(-1), _PIECE), strict=True)


_PIECE = 262_144
"""Entries of a large weight that are worked on at a time."""
_LARGE = 65_536
"""From this size on, one ``clamp_`` pass over memory beats two fused ones."""


def few_and_large(tensors: Sequence[Tensor]) -> bool:
    """Whether a loop over the tensors is the faster way."""
    # A look at the first few decides: counting them all would cost as much as projecting one.
    return len(tensors) < 4 or max(tensor.numel() for tensor in tensors[:4]) > _LARGE
