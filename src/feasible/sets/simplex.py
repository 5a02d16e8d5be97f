"""Vectors with a prescribed sum: the hyperplane and the simplex."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.sets.charts import Chart, SoftmaxChart, StickBreakingChart, SumChart
from feasible.sets.precision import roundoff, uniform, wide
from feasible.sets.units import Vectors, along, is_differentiated, is_plain_cpu, keep_members, shift_to_sum

__all__ = ["Simplex", "SumTo"]

CHARTS = {"softmax": SoftmaxChart, "stick-breaking": StickBreakingChart}


@final
@dataclass(frozen=True, eq=False, repr=False)
class SumTo(Vectors):
    """Vectors with a fixed sum.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``Σ p = total`` along ``dim``: ``x − (Σx − total)/n``.

    Args:
        total: the sum.
        dim: the dimension that holds one vector; all others are batches. ``None``: the whole tensor.

    Raises:
        ValueError: ``total`` is not finite, or the vectors have no entries.

    >>> SumTo(1.0).project(torch.tensor([1.0, 3.0]))
    tensor([-0.5000,  1.5000])
    """

    total: float
    dim: int | None = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "total", finite_number("SumTo", "total", self.total))

    @property
    def size(self) -> float:
        """|total|, or 1."""
        return abs(self.total) or 1.0

    def check_shape(self, shape: torch.Size) -> None:
        """An empty vector has the sum 0."""
        super().check_shape(shape)
        if self.total != 0 and self.has_empty_vectors(shape):
            raise ValueError(f"{self!r} is empty: a vector without entries cannot sum to {self.total:g}.")

    def project(self, x: Tensor) -> Tensor:
        """``x`` with the same amount taken from every entry."""
        return along(self.dim, x, self._project_rows)

    def _project_rows(self, x: Tensor) -> Tensor:
        projected = shift_to_sum(wide(x), self.total).to(x.dtype)
        return keep_members(self._is_member_row(x).unsqueeze(-1), x, projected)

    def _is_member_row(self, x: Tensor) -> Tensor:
        # Relative to the entries alone: what rounding does to their sum has no other scale, until they underflow.
        work = wide(x.detach())
        smallest = torch.finfo(x.dtype).tiny * torch.finfo(x.dtype).eps
        allowed = roundoff(x.dtype) * work.abs().sum(-1) + x.shape[-1] * smallest
        return (work.sum(-1) - self.total).abs() <= allowed

    def reduce_gradients_(self, points: Sequence[Tensor], gradients: Sequence[Tensor], t: float) -> None:
        """The gradients without their mean: the mapping of an affine set does not depend on x or t."""
        for g in gradients:
            g.copy_(self.tangent(g, g))

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each vector has the sum, up to the rounding of adding it up."""
        return self._is_member_row(self.rows(x))

    def support(self, y: Tensor) -> Tensor:
        """``total · mean(y)`` where all entries of y are equal, else +inf."""
        rows = self.rows(y)
        mean = wide(rows).mean(-1)
        spread = (rows - mean.unsqueeze(-1)).abs().amax(-1) if rows.shape[-1] else mean
        allowed = math.sqrt(torch.finfo(y.dtype).eps) * mean.abs()  # y itself comes out of rounded arithmetic
        value = torch.where(spread <= allowed, self.total * mean, torch.full_like(mean, math.inf))
        return torch.where(mean.isnan(), mean, value).to(y.dtype)

    def chart(self, kind: str | None = None) -> Chart:
        """``"mean"``: free coordinates with their mean put right; members keep their values."""
        check_kind(self, kind, ("mean",))
        return SumChart(self.total, self.dim)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction without its mean."""
        return along(self.dim, direction, lambda rows: shift_to_sum(wide(rows), 0.0).to(rows.dtype))


@final
@dataclass(frozen=True, eq=False, repr=False)
class Simplex(Vectors):
    """Non-negative vectors with a fixed sum.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``p ≥ 0`` and ``Σ p = total`` along ``dim``:
    ``max(x − τ, 0)`` with the threshold τ that makes the sum right.

    Args:
        total: the sum, > 0.
        dim: the dimension that holds one vector; all others are batches. ``None``: the whole tensor.

    Raises:
        ValueError: ``total`` is not positive and finite, or the vectors have no entries.

    >>> Simplex().project(torch.tensor([0.5, 0.5, 2.0]))
    tensor([0., 0., 1.])

    Source: Condat, *Fast projection onto the simplex and the l1 ball*, Math. Program. 158 (2016).
    """

    total: float = 1.0
    dim: int | None = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        total = finite_number("Simplex", "total", self.total)
        if total <= 0:
            raise ValueError(f"Simplex: total must be positive, got {total:g}. For total 0 use Equal(0).")
        object.__setattr__(self, "total", total)

    @property
    def size(self) -> float:
        """The sum."""
        return self.total

    def check_shape(self, shape: torch.Size) -> None:
        """A vector without entries has no positive sum."""
        super().check_shape(shape)
        if self.has_empty_vectors(shape):
            raise ValueError(f"{self!r} is empty: a vector without entries cannot sum to {self.total:g}.")

    def project(self, x: Tensor) -> Tensor:
        """``max(x − τ, 0)``; differentiable with the derivative ``v − mean(v)`` over the positive entries."""
        return along(self.dim, x, self._project_rows)

    def _project_rows(self, x: Tensor) -> Tensor:
        if x.numel() == 0:
            return x.clone()
        work = wide(x)
        projected = _above_threshold(work.detach(), self.total)
        if is_differentiated(x):
            active = projected > 0
            kept = torch.where(active, work, torch.zeros_like(work))
            count = active.sum(-1, keepdim=True)
            movement = torch.where(active, work - kept.sum(-1, keepdim=True) / count, torch.zeros_like(work))
            projected = projected + (movement - movement.detach())
        return keep_members(self._is_member_row(x).unsqueeze(-1), x, projected.to(x.dtype))

    def _is_member_row(self, x: Tensor) -> Tensor:
        x = x.detach()
        excess = (wide(x).sum(-1) - self.total).abs()
        return (excess <= self.tolerance(x.dtype)) & (x.amin(-1) >= 0)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each vector is non-negative and has the sum up to rounding."""
        return self._is_member_row(self.rows(x))

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Uniform on the simplex: normalised exponential variables."""
        self.check_shape(torch.Size(shape))
        away = -torch.log1p(-uniform(shape, generator))
        sums = away.sum() if self.dim is None else away.sum(self.dim, keepdim=True)
        return self.project(away * (self.total / sums))

    def support(self, y: Tensor) -> Tensor:
        """``total · max(y)``."""
        return self.total * (y.max() if self.dim is None else y.amax(self.dim))

    def lmo(self, gradient: Tensor) -> Tensor:
        """The whole sum on the entry with the smallest gradient (the first of several)."""
        return along(self.dim, gradient, self._vertex)

    def _vertex(self, gradient: Tensor) -> Tensor:
        vertex = torch.zeros_like(gradient).scatter(-1, gradient.argmin(-1, keepdim=True), self.total)
        return torch.where(
            gradient.isnan().any(-1, keepdim=True), torch.full_like(gradient, math.nan), vertex
        )

    def chart(self, kind: str | None = None) -> Chart:
        """``"softmax"`` (default): ``total · softmax(z)``; ``"stick-breaking"``: shares of what is left."""
        check_kind(self, kind, tuple(CHARTS))
        return CHARTS[kind or "softmax"](self.total, self.dim)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """Nearest direction that sums to 0 and is ≥ 0 where x is 0."""
        columns = _tangent_rows(wide(self.rows(x)), wide(self.rows(direction)))
        return self.from_rows(columns, x).to(direction.dtype)


def _above_threshold(x: Tensor, total: float) -> Tensor:
    """``max(x − τ, 0)`` for each row, to a few units in the last place of each entry."""
    top = x.amax(-1, keepdim=True)
    # Rows far from 0 lose no digits when their largest entry is subtracted, rows near 0 might.
    y = x - torch.where(top.abs() < 2 * total, torch.zeros_like(top), top)
    above = y - threshold(y, total)
    for _ in range(2):  # τ is off by its own rounding; what is above it tells by how much
        positive = above.clamp_min(0)
        above.sub_((positive.sum(-1, keepdim=True) - total) / _count(positive).clamp_min(1))
    return above.clamp_min_(0)


def _count(positive: Tensor) -> Tensor:
    """How many entries of each row are above 0; adding signs is the fastest way to count them."""
    return positive.sign().sum(-1, keepdim=True)


def threshold(y: Tensor, total: float) -> Tensor:
    """τ with ``Σ max(y − τ, 0) = total`` for each row of ``y``; shape (…, 1).

    Newton's method on the convex piecewise linear function, started below the root, climbs to it in
    finitely many steps. Where reading "has it settled?" back would cost a synchronisation, or cannot
    be traced, the sorted rows give τ directly.
    """
    if is_plain_cpu(y):
        tau = _newton_threshold(y, total)
        if tau is not None:
            return tau
    return _sorted_threshold(y, total)


def _newton_threshold(y: Tensor, total: float, steps: int = 30) -> Tensor | None:
    tau = torch.maximum((y.sum(-1, keepdim=True) - total) / y.shape[-1], y.amax(-1, keepdim=True) - total)
    excess = torch.empty_like(y)
    previous: Tensor | None = None
    for _ in range(steps):
        torch.sub(y, tau, out=excess).clamp_min_(0)
        count = _count(excess)
        tau = tau + (excess.sum(-1, keepdim=True) - total) / count
        if previous is not None and torch.equal(count, previous):
            return tau
        previous = count
    return None


def _sorted_threshold(y: Tensor, total: float) -> Tensor:
    ordered = y.sort(dim=-1, descending=True).values
    ranks = torch.arange(1, y.shape[-1] + 1, device=y.device, dtype=y.dtype)
    candidates = (ordered.cumsum(-1) - total) / ranks
    size = (ordered > candidates).sum(-1, keepdim=True).clamp_min(1)
    tau = candidates.gather(-1, size - 1)
    return torch.where(y.isnan().any(-1, keepdim=True), torch.full_like(tau, math.nan), tau)


def _tangent_rows(x: Tensor, direction: Tensor) -> Tensor:
    """Free entries lose the same amount μ; entries at 0 keep what is left of theirs above μ."""
    free = x > 0
    at_zero = torch.where(free, torch.full_like(direction, -math.inf), direction)
    ordered = at_zero.sort(dim=-1, descending=True).values
    base = torch.where(free, direction, torch.zeros_like(direction)).sum(-1, keepdim=True)
    count = free.sum(-1, keepdim=True)
    ranks = torch.arange(1, x.shape[-1] + 1, device=x.device)
    finite = torch.where(ordered.isinf(), torch.zeros_like(ordered), ordered)
    candidates = (base + finite.cumsum(-1)) / (count + ranks)
    size = (ordered > candidates).sum(-1, keepdim=True)
    without = base / count.clamp_min(1)
    mu = torch.where(size > 0, candidates.gather(-1, (size - 1).clamp_min(0)), without)
    moved = direction - mu
    return torch.where(free, moved, moved.clamp_min(0))


def finite_number(owner: str, name: str, value: object) -> float:
    """A finite float, or a ``ValueError`` that says what came."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{owner}: {name} must be a number, got {value!r}.") from None
    if not math.isfinite(number):
        raise ValueError(f"{owner}: {name} must be finite, got {number}.")
    return number


def check_kind(owner: object, kind: str | None, known: tuple[str, ...]) -> None:
    """Raise where a set has no chart of this kind."""
    if kind is not None and kind not in known:
        raise ValueError(f"{owner!r} has no chart {kind!r}. Choose one of: {', '.join(known)}.")
