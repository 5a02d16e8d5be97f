"""Linear inequalities and equations: the polyhedron."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self, final

import torch
from torch import Tensor

from feasible.sets.active_set import nearest_under_inequalities, solve_active
from feasible.sets.elementwise import log_barrier
from feasible.sets.linear import (
    LinearVectors,
    RowSpace,
    check_system,
    check_vectors,
    finite_tensor,
    precision_of,
    row_space,
    without_noise,
)
from feasible.sets.precision import roundoff, wide, widest
from feasible.sets.units import along, is_differentiated, keep_members, precise_norm

__all__ = ["Polyhedron"]


class Conditions(NamedTuple):
    """Equations with orthonormal rows; inequalities along their subspace, with rows of length 1."""

    basis: Tensor
    coordinates: Tensor
    """``basisᵀ p = coordinates``."""
    normals: Tensor
    offsets: Tensor
    """``normals p ≤ offsets``."""
    rounding: float
    """Relative error with which they are known."""
    reach: float = 1.0
    """Largest distance of a polyhedron of the batch from 0."""
    has_interior: bool = False

    def nearest(self, rows: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Nearest points under the inequalities, which of them are active, and whether there are such points."""
        offsets = offsets.to(rows).expand(*rows.shape[:-1], -1)
        points, active, feasible = nearest_under_inequalities(
            rows.reshape(-1, rows.shape[-1]) if rows.numel() else rows.new_zeros(0, rows.shape[-1]),
            self.normals.to(rows),
            offsets.reshape(-1, offsets.shape[-1])
            if offsets.numel()
            else offsets.new_zeros(0, offsets.shape[-1]),
            self.rounding,
        )
        return points.reshape(rows.shape), active.reshape(offsets.shape), feasible.reshape(rows.shape[:-1])

    def onto_subspace(self, rows: Tensor) -> Tensor:
        """Nearest points that satisfy the equations."""
        basis, coordinates = self.basis.to(rows), self.coordinates.to(rows)
        for _ in range(2):
            rows = rows - (rows @ basis - coordinates) @ basis.mT
        return rows

    @property
    def contain_zero(self) -> Tensor:
        """Whether 0 satisfies them, for each polyhedron of the batch."""
        return (self.offsets >= 0).all(-1, keepdim=True) & (self.coordinates == 0).all(-1, keepdim=True)

    def along_face(self, rows: Tensor, active: Tensor) -> Tensor:
        """Vectors without what would lead off the active inequalities."""
        normals = self.normals.to(rows)
        gram = normals @ normals.mT
        flags = active.reshape(-1, active.shape[-1])
        for _ in range(2):
            heights = (rows @ normals.mT).reshape(flags.shape)
            outwards = solve_active(gram, flags, heights, min(normals.shape)) @ normals
            rows = rows - outwards.reshape(rows.shape)
        return rows


@final
@dataclass(frozen=True, eq=False, repr=False)
class Polyhedron(LinearVectors[Conditions]):
    """Vectors that satisfy linear inequalities, and equations if there are any.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``G p ≤ h`` and ``A p = b`` along ``dim``, by a dual
    active-set method for all vectors at once, in float64. Its derivative is the projection onto the face where
    the nearest point lies.

    Args:
        G: a matrix (m, n) with one row for each inequality; n is the length of the weight's vectors.
        h: the right-hand sides (m,), or (…, m) with one for each vector of the batch.
        A: a matrix (k, n) with one row for each equation.
        b: its right-hand sides (k,) or (…, k).
        dim: the dimension that holds one vector; all others are batches. ``None``: the whole tensor.

    Raises:
        ValueError: shapes do not fit, entries are not finite, or no vector satisfies all conditions.

    >>> triangle = Polyhedron(G=[[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]], h=[0.0, 0.0, 1.0])
    >>> triangle.project(torch.tensor([[2.0, 2.0], [-1.0, 0.5], [0.2, 0.2]]))
    tensor([[0.5000, 0.5000],
            [0.0000, 0.5000],
            [0.2000, 0.2000]])

    Source: Goldfarb & Idnani, *A numerically stable dual method for solving strictly convex quadratic programs*,
    Math. Program. 27 (1983).
    """

    G: Tensor
    h: Tensor
    A: Tensor | None = None
    b: Tensor | None = None
    dim: int | None = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        G, h = finite_tensor("Polyhedron", "G", self.G), finite_tensor("Polyhedron", "h", self.h)
        check_system("Polyhedron", ("G", "h"), G, h)
        if (self.A is None) != (self.b is None):
            raise ValueError("Polyhedron: A and b come together; one of them is missing.")
        A = G.new_zeros(0, G.shape[1]) if self.A is None else finite_tensor("Polyhedron", "A", self.A)
        b = G.new_zeros(0) if self.b is None else finite_tensor("Polyhedron", "b", self.b)
        check_system("Polyhedron", ("A", "b"), A, b)
        if A.shape[1] != G.shape[1]:
            raise ValueError(
                f"Polyhedron: G has {G.shape[1]} columns and A has {A.shape[1]}; both need n of them."
            )
        rounding = 8 * precision_of(G, h, A, b)
        equations = row_space("Polyhedron", A, b)
        conditions = Conditions(*equations, *_within(equations, widest(G), widest(h)), rounding)
        given = {"G": G, "h": h} if self.A is None else {"G": G, "h": h, "A": A, "b": b}
        self._derive(_explored(conditions), **given)

    @property
    def size(self) -> float:
        """Largest distance of a polyhedron from 0, or 1."""
        return self.derived.reach or 1.0

    @classmethod
    def example(cls) -> Self:
        """Two numbers of at most 1."""
        return cls(torch.eye(2), torch.ones(2))

    def check_shape(self, shape: torch.Size) -> None:
        """The vectors must be as long as the rows of G, and their batch must take those of h and b."""
        super().check_shape(shape)
        check_vectors(self, "columns of G", self.G.shape[1], self.derived.offsets.shape[:-1], shape)

    # -- projection --------------------------------------------------------------------------------

    def project(self, x: Tensor) -> Tensor:
        """Nearest point; members keep their bits. Differentiable: the face where it lies is linear."""
        return along(self.dim, x, self._project_rows)

    def _project_rows(self, x: Tensor) -> Tensor:
        if x.numel() == 0:
            return x.clone()
        conditions = self.derived
        start = conditions.onto_subspace(widest(x))
        nearest, active, _ = conditions.nearest(start.detach(), conditions.offsets)
        # Between large numbers the first search loses digits; a second from its end brings them back.
        projected, _, _ = conditions.nearest(conditions.onto_subspace(nearest), conditions.offsets)
        zero = torch.zeros_like(projected)
        projected = torch.where(conditions.contain_zero, without_noise(projected, zero, start), projected)
        if is_differentiated(x):
            movement = conditions.along_face(start, active)
            projected = projected + (movement - movement.detach())
        return keep_members(self._is_member_row(x).unsqueeze(-1), x, projected.to(x.dtype))

    def _is_member_row(self, x: Tensor) -> Tensor:
        conditions, rows = self.derived, widest(x.detach())
        coordinates = conditions.coordinates.to(rows)
        gap = precise_norm(rows @ conditions.basis.to(rows) - coordinates, -1)
        size = precise_norm(rows, -1) + precise_norm(coordinates, -1) + torch.finfo(x.dtype).tiny
        is_on_subspace = gap <= roundoff(x.dtype) * size
        return is_on_subspace & (self._room(rows) >= -self._rounding(rows, x.dtype)).all(-1)

    def _rounding(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """How far off rounding may put each vector from each inequality."""
        size = precise_norm(rows, -1, keepdim=True) + torch.finfo(dtype).tiny
        return roundoff(dtype) * (size + self.derived.offsets.to(rows).abs())

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each vector satisfies all conditions, up to rounding."""
        return self._is_member_row(self.rows(x))

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction, without what leads out of the inequalities that are active at x."""
        rows, moves = widest(self.rows(x)), widest(self.rows(direction))
        basis = self.derived.basis.to(moves)
        is_active = self._room(rows) <= self._rounding(rows, x.dtype)
        cone = torch.where(is_active, 0.0, math.inf)
        inside, _, _ = self.derived.nearest(moves - moves @ basis @ basis.mT, cone)
        return self.from_rows(inside, x).to(direction.dtype)

    # -- interior ----------------------------------------------------------------------------------

    def _room(self, rows: Tensor) -> Tensor:
        return self.derived.offsets.to(rows) - rows @ self.derived.normals.to(rows).mT

    def offers(self, capability: str) -> bool:
        """Slack functions need a point with room to all sides."""
        if capability in ("slack", "barrier", "interior"):
            return self.derived.has_interior
        return super().offers(capability)

    def _needs_room(self, what: str) -> None:
        if not self.derived.has_interior:
            raise self._lacks(what, "no point has room in every direction")

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """Distance to the boundary of each inequality, one after the other."""
        self._needs_room("slack functions")
        return self._room(wide(self.rows(x))).to(x.dtype).unbind(-1)

    def barrier(self, x: Tensor) -> Tensor:
        """``−Σ log`` of the distances to all boundaries, per vector."""
        self._needs_room("barrier")
        return log_barrier(self._room(wide(self.rows(x)))).sum(-1).to(x.dtype)

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """Nearest point at least ``margin`` from each boundary, or as far as any point is."""
        self._needs_room("interior")
        rows = widest(self.rows(x))
        least = 16 * roundoff(x.dtype) * (precise_norm(rows, -1, keepdim=True) + self.size)
        margins, offsets = least.clamp_min(margin), self.derived.offsets.to(rows)
        moved, _, feasible = self.derived.nearest(rows, offsets - margins)
        if not bool(feasible.all()):
            margins = torch.minimum(margins, self._most_room.to(rows))
            moved, _, _ = self.derived.nearest(rows, offsets - margins)
        has_room = (self._room(rows) >= margins).all(-1, keepdim=True)
        return self.from_rows(torch.where(has_room, self.rows(x), moved.to(x.dtype)), x)

    @cached_property
    def _most_room(self) -> Tensor:
        """Radius of the largest ball inside each polyhedron of the batch; +inf where there is no largest."""
        offsets = self.derived.offsets
        start = offsets.new_zeros(*offsets.shape[:-1], self.G.shape[1])

        def fits(radius: Tensor) -> Tensor:
            return self.derived.nearest(start, offsets - radius)[2].unsqueeze(-1)

        below = torch.full_like(offsets[..., :1], 0.0)
        above = torch.full_like(below, 1e6 * self.size)
        is_bounded = ~fits(above)
        for _ in range(64):
            middle = (below + above) / 2
            room = fits(middle)
            below, above = torch.where(room, middle, below), torch.where(room, above, middle)
        return torch.where(is_bounded, below, math.inf)


def _explored(conditions: Conditions) -> Conditions:
    """The conditions with what is known of their members; raise where there are none."""
    origin = conditions.onto_subspace(
        conditions.normals.new_zeros(*conditions.offsets.shape[:-1], conditions.basis.shape[0])
    )
    nearest, active, feasible = conditions.nearest(origin, conditions.offsets)
    if not bool(feasible.all()):
        place = (~feasible).nonzero()[0].tolist()
        rows = active[tuple(place)].nonzero().squeeze(-1).tolist()
        where = f" for the right-hand sides {place}" if place else ""
        also = " and the equations" if conditions.basis.shape[1] else ""
        raise ValueError(
            f"Polyhedron is empty{where}: no vector satisfies rows {rows} of G x ≤ h{also} at once.\n"
            "  Loosen one of them."
        )
    reach = float(torch.linalg.vector_norm(nearest, dim=-1).max()) if nearest.numel() else 0.0
    margin = 1e-6 * (reach or 1.0)
    has_room = conditions.basis.shape[1] == 0 and bool(
        conditions.nearest(origin, conditions.offsets - margin)[2].all()
    )
    return conditions._replace(reach=reach, has_interior=has_room)


def _within(equations: RowSpace, G: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """``G p ≤ h`` for members p of the subspace, with rows of length 1 that lie along it."""
    basis, coordinates = equations
    length = torch.linalg.vector_norm(G, dim=1)
    length = torch.where(length == 0, torch.ones_like(length), length)
    rows, offsets = G / length.unsqueeze(1), h / length
    offsets = offsets - coordinates @ (rows @ basis).mT
    for _ in range(2):
        rows = rows - rows @ basis @ basis.mT
    left = torch.linalg.vector_norm(rows, dim=1)
    is_constant = left < 1e-10
    left = torch.where(is_constant, torch.ones_like(left), left)
    rows = torch.where(is_constant.unsqueeze(1), torch.zeros_like(rows), rows / left.unsqueeze(1))
    return rows, offsets / left
