"""Convex cones of vectors: the second-order cone and the cone of ordered vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.sets.charts import HALF_LINE, Chart
from feasible.sets.cone_charts import STEPS, MonotoneChart, SecondOrderConeChart
from feasible.sets.elementwise import log_barrier
from feasible.sets.pooling import pool_violators
from feasible.sets.precision import normal, roundoff, wide, widest
from feasible.sets.simplex import check_kind
from feasible.sets.units import Vectors, along, is_differentiated, precise_norm

__all__ = ["Monotone", "SecondOrderCone"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class SecondOrderCone(Vectors):
    """Vectors whose last entry bounds the norm of the others.

    ``project((z, t))`` is ``argmin_p ½‖p − (z, t)‖²`` subject to ``‖p_z‖ ≤ p_t`` along ``dim``: the vector itself
    inside, 0 where ``‖z‖ ≤ −t``, and ``(‖z‖ + t)/2 · (z/‖z‖, 1)`` between.

    Args:
        dim: the dimension that holds one vector; all others are batches. ``None``: the whole tensor.

    Raises:
        ValueError: the vectors have no entries.

    >>> SecondOrderCone().project(torch.tensor([[3.0, 4.0, 0.0], [1.0, 0.0, 2.0], [1.0, 0.0, -2.0]]))
    tensor([[1.5000, 2.0000, 2.5000],
            [1.0000, 0.0000, 2.0000],
            [0.0000, 0.0000, 0.0000]])

    Source: Bauschke, *Projection algorithms and monotone operators* (1996), theorem 3.3.6.
    """

    dim: int | None = -1

    def check_shape(self, shape: torch.Size) -> None:
        """A vector needs a last entry."""
        super().check_shape(shape)
        if self.has_empty_vectors(shape):
            raise ValueError(f"{self!r} needs vectors with at least one entry, got shape {tuple(shape)}.")

    def project(self, x: Tensor) -> Tensor:
        """Nearest point; members keep their bits."""
        return along(self.dim, x, self._project_rows)

    def _project_rows(self, x: Tensor) -> Tensor:
        norm, last = _norm_and_last(x)
        height = (norm + last) / 2
        unit = widest(x[..., :-1]) / _divisor(norm)
        shortened = torch.cat([unit * height, height], dim=-1)
        shortened = torch.where(norm <= -last, torch.zeros_like(shortened), shortened)
        # An infinite vector has no direction.
        shortened = torch.where(norm.isfinite(), shortened, torch.full_like(shortened, math.nan))
        return torch.where(self._is_inside(norm, last, x.dtype), x, shortened.to(x.dtype))

    def _is_inside(self, norm: Tensor, last: Tensor, dtype: torch.dtype) -> Tensor:
        return norm <= last + roundoff(dtype) * (last.clamp_min(0) + torch.finfo(dtype).tiny)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether the last entry is at least the norm of the others, up to rounding."""
        norm, last = _norm_and_last(self.rows(x))
        return self._is_inside(norm, last, x.dtype).squeeze(-1)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Normal vectors with a last entry beyond the norm of the others."""
        self.check_shape(torch.Size(shape))
        drawn = normal(shape, generator)
        rows = self.rows(drawn)
        norm = torch.linalg.vector_norm(rows[..., :-1], dim=-1, keepdim=True)
        return self.project(
            self.from_rows(torch.cat([rows[..., :-1], norm + rows[..., -1:].abs()], -1), drawn)
        )

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """``(t − ‖z‖)/√2``: the distance to the boundary."""
        return (self._room(self.rows(x)).to(x.dtype),)

    def _room(self, rows: Tensor) -> Tensor:
        """Distance to the boundary; near ``z = 0``, where it bends too sharply, z counts as constant."""
        norm, last = _norm_and_last(rows.detach())
        is_tip = norm < 1e-100
        bent, last = _norm_and_last(
            torch.where(is_tip, torch.cat([torch.ones_like(rows[..., :-1]), rows[..., -1:]], -1), rows)
        )
        return ((last - torch.where(is_tip, norm, bent)) / math.sqrt(2)).squeeze(-1)

    def barrier(self, x: Tensor) -> Tensor:
        """``−log`` of the distance to the boundary, per vector."""
        return log_barrier(self.slack(x)[0])

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """Nearest vectors that are ``margin`` away from the boundary: the cone, moved up."""

        def moved(rows: Tensor) -> Tensor:
            exact = widest(rows)
            enough = _least_room(rows).clamp_min(math.sqrt(2) * margin)
            shift = torch.cat([torch.zeros_like(exact[..., :-1]), enough], dim=-1)
            inside = (self._project_rows(exact - shift) + shift).to(rows.dtype)
            return torch.where(math.sqrt(2) * self._room(rows).unsqueeze(-1) >= enough, rows, inside)

        return along(self.dim, x, moved)

    def chart(self, kind: str | None = None) -> Chart:
        """``(z, ‖z‖ + φ(s))`` with ``"abs"`` (default), ``"softplus"``, ``"exp"``, ``"square"`` or ``"relu"`` as φ."""
        check_kind(self, kind, tuple(HALF_LINE))
        return SecondOrderConeChart(kind or next(iter(HALF_LINE)), self.dim)

    def support(self, y: Tensor) -> Tensor:
        """0 where −y is in the cone, else +inf."""
        return _polar(self.is_member(-y), self.rows(y))

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction inside, its projection at the tip, no outward part on the boundary."""
        rows, moves = self.rows(x), widest(self.rows(direction))
        norm, last = _norm_and_last(rows)
        normal = torch.cat([widest(rows[..., :-1]) / _divisor(norm), -torch.ones_like(norm)], -1) / math.sqrt(
            2
        )
        outward = (normal * moves).sum(-1, keepdim=True).clamp_min(0)
        on_boundary = torch.where(last == 0, self._project_rows(moves), moves - outward * normal)
        is_inside = norm < last * (1 - roundoff(x.dtype))
        return self.from_rows(torch.where(is_inside, moves, on_boundary), x).to(direction.dtype)


@final
@dataclass(frozen=True, eq=False, repr=False)
class Monotone(Vectors):
    """Vectors whose entries never decrease (or never increase).

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``p_0 ≤ p_1 ≤ …`` along ``dim``: isotonic regression, in
    which neighbours that violate the order share their mean.

    Args:
        increasing: ``False``: the entries never increase.
        dim: the dimension that holds one vector; all others are batches. ``None``: the whole tensor.

    >>> Monotone().project(torch.tensor([1.0, 3.0, 2.0, 4.0]))
    tensor([1.0000, 2.5000, 2.5000, 4.0000])

    Source: Best & Chakravarti, *Active set algorithms for isotonic regression*, Math. Program. 47 (1990).
    """

    increasing: bool = True
    dim: int | None = -1
    exact = True

    def _upwards(self, values: Tensor) -> Tensor:
        return values if self.increasing else -values

    def project(self, x: Tensor) -> Tensor:
        """Isotonic regression; differentiable: each block moves by the mean of its entries' movements."""
        return along(self.dim, x, self._project_rows)

    def _project_rows(self, x: Tensor) -> Tensor:
        work = self._upwards(widest(x))
        pooled = _pooled(work.detach())  # members come back with their bits: nothing in them is pooled
        if is_differentiated(x):
            movement = _block_means(work, pooled)
            pooled = pooled + (movement - movement.detach())
        return self._upwards(pooled).to(x.dtype)

    def _is_member_row(self, x: Tensor) -> Tensor:
        rows = self._upwards(x.detach())
        ordered = (rows[..., :-1] <= rows[..., 1:]).all(-1)
        return ordered & ~rows[..., :1].isnan().any(-1)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether the entries of each vector are in order."""
        return self._is_member_row(self.rows(x))

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """The gaps between neighbours over √2 (the distance to where they vanish), one after the other."""
        return self._gaps(x).to(x.dtype).unbind(-1)

    def _gaps(self, x: Tensor) -> Tensor:
        return self._upwards(wide(self.rows(x))).diff(dim=-1) / math.sqrt(2)

    def barrier(self, x: Tensor) -> Tensor:
        """``−Σ log`` of the gaps between neighbours over √2, per vector."""
        return log_barrier(self._gaps(x)).sum(-1).to(x.dtype)

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """Nearest vectors with gaps of at least ``√2 · margin``: the nearest to x without such steps, and the steps."""

        def moved(rows: Tensor) -> Tensor:
            exact = widest(rows)
            gap = _least_room(rows).clamp_min(math.sqrt(2) * margin)
            steps = self._upwards(gap * torch.arange(rows.shape[-1], device=rows.device))
            inside = (self._project_rows(exact - steps) + steps).to(rows.dtype)
            has_room = (self._upwards(exact).diff(dim=-1) >= gap).all(-1, keepdim=True)
            return torch.where(has_room, rows, inside)

        return x.clone() if x.numel() == 0 else along(self.dim, x, moved)

    def chart(self, kind: str | None = None) -> Chart:
        """A first entry and steps φ ≥ 0: ``"abs"`` (default), ``"softplus"``, ``"exp"`` or ``"square"``."""
        check_kind(self, kind, STEPS)
        return MonotoneChart(kind or STEPS[0], self.increasing, self.dim)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction, in order within each stretch of equal entries."""
        rows, moves = self.rows(x), self._upwards(widest(self.rows(direction)))
        is_start = torch.ones_like(rows, dtype=torch.bool)
        is_start[..., 1:] = rows[..., 1:] != rows[..., :-1]
        return self.from_rows(self._upwards(_pooled(moves, is_start)), x).to(direction.dtype)


def _pooled(x: Tensor, is_start: Tensor | None = None) -> Tensor:
    shape = (-1, x.shape[-1]) if x.numel() else (0, 1)
    starts = None if is_start is None else is_start.reshape(shape)
    pooled: Tensor = pool_violators(x.reshape(shape), starts)
    return pooled.reshape(x.shape)


def _block_means(x: Tensor, pooled: Tensor) -> Tensor:
    """Means of x over the stretches in which ``pooled`` is constant."""
    begins = torch.cat([torch.zeros_like(pooled[..., :1]), pooled.diff(dim=-1)], dim=-1) != 0
    blocks = begins.cumsum(-1)
    sums = torch.zeros_like(x).scatter_add(-1, blocks, x)
    counts = torch.zeros_like(pooled).scatter_add(-1, blocks, torch.ones_like(pooled))
    return (sums / counts.clamp_min(1)).gather(-1, blocks)


def _norm_and_last(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Norm of all entries but the last, and the last, in float64."""
    return precise_norm(rows[..., :-1], -1, keepdim=True), widest(rows[..., -1:])


def _least_room(rows: Tensor) -> Tensor:
    """A gap that survives rounding to the dtype of the rows."""
    largest = widest(rows).abs().nan_to_num(0).amax(-1, keepdim=True)
    return 4 * roundoff(rows.dtype) * largest.clamp_min(1)


def _divisor(norm: Tensor) -> Tensor:
    return torch.where(norm == 0, torch.ones_like(norm), norm)


def _polar(is_polar: Tensor, rows: Tensor) -> Tensor:
    """Support function of a cone: 0 on its polar cone, else +inf."""
    value = (0 * rows).sum(-1)
    return torch.where(is_polar | value.isnan(), value, torch.full_like(value, math.inf))
