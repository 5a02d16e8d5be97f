"""One linear inequality: the half space."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, final

import torch
from torch import Tensor

from feasible.sets.charts import HALF_LINE, Chart
from feasible.sets.elementwise import log_barrier
from feasible.sets.linear import LinearVectors, check_vectors, finite_tensor, without_noise
from feasible.sets.precision import roundoff, wide, widest
from feasible.sets.simplex import check_kind, finite_number
from feasible.sets.units import along, precise_norm

__all__ = ["HalfSpace"]


class UnitInequality(NamedTuple):
    """The same inequality with a normal of length 1, whose excess is the distance."""

    direction: Tensor
    level: float


@final
@dataclass(frozen=True, eq=False, repr=False)
class HalfSpace(LinearVectors[UnitInequality]):
    """Vectors that satisfy one linear inequality.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``⟨normal, p⟩ ≤ offset`` along ``dim``:
    ``x − max(⟨normal, x⟩ − offset, 0) · normal/‖normal‖²``.

    Args:
        normal: a vector as long as the vectors of the weight; with ``dim=None`` in any shape.
        offset: a number.
        dim: the dimension that holds one vector; all others are batches. ``None``: the whole tensor.

    Raises:
        ValueError: ``normal`` is zero, not finite or of the wrong length, or ``offset`` is not finite.

    >>> HalfSpace(torch.tensor([3.0, 4.0]), 5.0).project(torch.tensor([[6.0, 8.0], [0.5, 0.25]]))
    tensor([[0.6000, 0.8000],
            [0.5000, 0.2500]])
    """

    normal: Tensor
    offset: float
    dim: int | None = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        normal = finite_tensor("HalfSpace", "normal", self.normal)
        offset = finite_number("HalfSpace", "offset", self.offset)
        if normal.dim() != 1 and self.dim is not None:
            raise ValueError(
                f"HalfSpace: normal must be a vector, got shape {tuple(normal.shape)}.\n"
                "  A normal in the shape of the whole weight goes with dim=None."
            )
        largest = float(normal.abs().max()) if normal.numel() else 0.0
        if largest == 0:
            raise ValueError("HalfSpace: normal must not be zero; what should the inequality say?")
        exact = widest(normal).reshape(-1)
        length = largest * float(torch.linalg.vector_norm(exact / largest))
        self._derive(UnitInequality(exact / length, offset / length), normal=normal, offset=offset)

    @classmethod
    def example(cls) -> Self:
        """Two numbers whose sum is at most 1."""
        return cls(torch.ones(2), 1.0)

    @property
    def size(self) -> float:
        """Distance of the boundary from 0, or 1."""
        return abs(self.derived.level) or 1.0

    def check_shape(self, shape: torch.Size) -> None:
        """The vectors must be as long as the normal."""
        super().check_shape(shape)
        check_vectors(self, "normal", self.normal.numel(), torch.Size(), shape)

    def room(self, rows: Tensor) -> Tensor:
        """Signed distance to the boundary, positive inside."""
        return self.derived.level - (rows * self.derived.direction.to(rows)).sum(-1)

    def project(self, x: Tensor) -> Tensor:
        """``x`` without its excess along the normal; vectors inside keep their bits."""
        return along(self.dim, x, self._project_rows)

    def _project_rows(self, x: Tensor) -> Tensor:
        projected = self._moved_to(wide(x), self.derived.level).to(x.dtype)
        return torch.where(self._is_member_row(x).unsqueeze(-1), x, projected)

    def _moved_to(self, rows: Tensor, level: float) -> Tensor:
        direction = self.derived.direction.to(rows)
        moved = rows
        for _ in range(2):  # between large numbers the first step loses digits; the second brings them back
            excess = (moved * direction).sum(-1, keepdim=True) - level
            moved = moved - excess.clamp_min(0) * direction
        return without_noise(moved, level * direction, rows)

    def _is_member_row(self, x: Tensor) -> Tensor:
        rows = wide(x.detach())
        size = (rows * self.derived.direction.to(rows)).abs().sum(-1) + abs(self.derived.level)
        return -self.room(rows) <= roundoff(x.dtype) * (size + torch.finfo(x.dtype).tiny)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each vector satisfies the inequality, up to the rounding of its terms."""
        return self._is_member_row(self.rows(x))

    def reduce_gradients_(self, points: Sequence[Tensor], gradients: Sequence[Tensor], t: float) -> None:
        """Gradients without what would lead out within a step of t: the mapping without its cancellation."""
        for x, g in zip(points, gradients, strict=True):
            rows, slopes = wide(self.rows(x)), wide(self.rows(g))
            direction = self.derived.direction.to(slopes)
            room = self.room(rows).clamp_min(0) / t
            excess = (-(slopes * direction).sum(-1) - room).clamp_min(0)
            g.copy_(self.from_rows(slopes + excess.unsqueeze(-1) * direction, g))

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """``(offset − ⟨normal, x⟩)/‖normal‖``: the distance to the boundary."""
        return (self.room(wide(self.rows(x))).to(x.dtype),)

    def barrier(self, x: Tensor) -> Tensor:
        """``−log`` of the distance to the boundary, per vector."""
        return log_barrier(self.slack(x)[0])

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """Nearest vectors that are ``margin`` away from the boundary."""
        margin = max(margin, 2 * roundoff(x.dtype) * self.size)

        def moved(rows: Tensor) -> Tensor:
            enough = self.room(wide(rows)).unsqueeze(-1) >= margin
            return torch.where(
                enough, rows, self._moved_to(wide(rows), self.derived.level - margin).to(rows.dtype)
            )

        return along(self.dim, x, moved)

    def chart(self, kind: str | None = None) -> Chart:
        """``x`` with its distance s to the boundary bent to φ(s) ≥ 0.

        ``"abs"`` (default: a reflection, its slope never fades), ``"softplus"``, ``"exp"``, ``"square"``, ``"relu"``.
        """
        check_kind(self, kind, tuple(HALF_LINE))
        return HalfSpaceChart(self, kind or next(iter(HALF_LINE)))

    def support(self, y: Tensor) -> Tensor:
        """``c · offset`` where ``y = c · normal`` with ``c ≥ 0``, else +inf."""
        rows = wide(self.rows(y))
        direction = self.derived.direction.to(rows)
        height = (rows * direction).sum(-1)
        beside = precise_norm(rows - height.unsqueeze(-1) * direction, -1)
        size = precise_norm(rows, -1)
        # y itself comes out of rounded arithmetic.
        is_normal = (beside <= math.sqrt(torch.finfo(y.dtype).eps) * size) & (height >= 0)
        value = torch.where(is_normal, self.derived.level * height, torch.full_like(height, math.inf))
        return torch.where(height.isnan(), height, value).to(y.dtype)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction, without what leads outwards at the boundary."""
        rows, moves = wide(self.rows(x)), wide(self.rows(direction))
        normal = self.derived.direction.to(moves)
        size = (rows * self.derived.direction.to(rows)).abs().sum(-1) + abs(self.derived.level)
        at_boundary = self.room(rows) <= roundoff(x.dtype) * size
        outward = torch.where(at_boundary, (moves * normal).sum(-1).clamp_min(0), torch.zeros_like(size))
        return self.from_rows(moves - outward.unsqueeze(-1) * normal, x).to(direction.dtype)


class HalfSpaceChart(Chart):
    """``z + (s − φ(s)) u``: z with its signed distance s to the boundary replaced by φ(s) ≥ 0."""

    def __init__(self, half_space: HalfSpace, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.half_space = half_space

    def _rows(self, x: Tensor, height: Callable[[Tensor], Tensor]) -> Tensor:
        def bent(rows: Tensor) -> Tensor:
            work = wide(rows)
            room = self.half_space.room(work).unsqueeze(-1)
            return (work + (room - height(room)) * self.half_space.derived.direction.to(work)).to(rows.dtype)

        return along(self.half_space.dim, x, bent)

    def forward(self, latent: Tensor) -> Tensor:
        """The vectors at these coordinates."""
        return self._rows(latent, HALF_LINE[self.kind].forward)

    def right_inverse(self, x: Tensor) -> Tensor:
        """The coordinates of these vectors; those at a boundary that the curve never reaches move inside."""
        curve = HALF_LINE[self.kind]
        return self._rows(x, lambda s: curve.inverse(s.clamp_min(curve.floor)))

    def relative_slope(self, latent: Tensor) -> Tensor:
        """The slope of φ at each vector's distance, the same for all its entries."""

        def slope(rows: Tensor) -> Tensor:
            room = self.half_space.room(rows).unsqueeze(-1)
            with torch.enable_grad():
                at = room.detach().clone().requires_grad_()
                (slope,) = torch.autograd.grad(HALF_LINE[self.kind].forward(at).sum(), at)
            return slope.abs().expand_as(rows)

        return along(self.half_space.dim, latent.detach(), slope)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Lift distances at which the curve is flat."""
        lift = HALF_LINE[self.kind].lift
        lifted = self._rows(latent, lambda s: lift(s, slope))
        latent.copy_(torch.where(wanted, lifted, latent))
