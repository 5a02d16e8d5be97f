"""Linear inequalities and equations: the polyhedron."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self, final

import torch
from torch import Tensor

from feasible.sets.active_set import nearest_under_inequalities, solve_active
from feasible.sets.elementwise import log_barrier
from feasible.sets.linear import check_system, check_vectors, finite_tensor, precision_of, row_space
from feasible.sets.precision import roundoff, wide, widest
from feasible.sets.units import Vectors, along, is_differentiated, keep_members

__all__ = ["Polyhedron"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class Polyhedron(Vectors):
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
    >>> triangle.project(torch.tensor([[2.0, 1.0], [-1.0, 0.5], [0.2, 0.2]]))
    tensor([[1.0000, 0.0000],
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
    # Equations with orthonormal rows, basisᵀ p = coordinates; inequalities within their subspace, with unit rows.
    basis: Tensor = field(init=False, repr=False, compare=False)
    coordinates: Tensor = field(init=False, repr=False, compare=False)
    normals: Tensor = field(init=False, repr=False, compare=False)
    offsets: Tensor = field(init=False, repr=False, compare=False)
    reach: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
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
        basis, coordinates = row_space("Polyhedron", A, b)
        normals, offsets = _within(basis, coordinates, widest(G), widest(h))
        derived = {"basis": basis, "coordinates": coordinates, "normals": normals, "offsets": offsets}
        given = {"G": G, "h": h} if self.A is None else {"G": G, "h": h, "A": A, "b": b}
        for name, value in {**given, **derived}.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "reach", self._find_members())

    def _find_members(self) -> float:
        """Largest distance of a polyhedron of the batch from 0; raise where one is empty."""
        origin = (self.coordinates @ self.basis.mT).expand(*self.offsets.shape[:-1], -1)
        nearest, active, feasible = self._search(origin, self.offsets)
        if not bool(feasible.all()):
            place = (~feasible).nonzero()[0].tolist()
            rows = active[tuple(place)].nonzero().squeeze(-1).tolist()
            where = f" for the right-hand sides {place}" if place else ""
            also = "" if self.A is None else " and the equations"
            raise ValueError(
                f"Polyhedron is empty{where}: no vector satisfies rows {rows} of G x ≤ h{also} at once.\n"
                "  Loosen one of them."
            )
        return float(torch.linalg.vector_norm(nearest, dim=-1).max()) if nearest.numel() else 0.0

    @cached_property
    def _rounding(self) -> float:
        """Relative error with which the conditions are known."""
        return 8 * precision_of(*(value for value in (self.G, self.h, self.A, self.b) if value is not None))

    def cast(self, like: Tensor) -> Self:
        """On the device of ``like``, in float64: the search needs it."""
        return super().cast(widest(like))

    @property
    def size(self) -> float:
        """Largest distance of a polyhedron from 0, or 1."""
        return self.reach or 1.0

    def check_shape(self, shape: torch.Size) -> None:
        """The vectors must be as long as the rows of G, and their batch must take those of h and b."""
        super().check_shape(shape)
        check_vectors(self, "columns of G", self.G.shape[1], self.offsets.shape[:-1], shape)

    # -- projection --------------------------------------------------------------------------------

    def _search(self, rows: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Nearest points, active inequalities and feasibility, in the batch shape of ``rows``."""
        batch = rows.shape[:-1]
        offsets = offsets.to(rows).expand(*batch, -1)
        points, active, feasible = nearest_under_inequalities(
            rows.reshape(-1, rows.shape[-1]),
            self.normals.to(rows),
            offsets.reshape(-1, offsets.shape[-1]),
            self._rounding,
        )
        return points.reshape(rows.shape), active.reshape(offsets.shape), feasible.reshape(batch)

    def project(self, x: Tensor) -> Tensor:
        """Nearest point; members keep their bits. Differentiable: the face where it lies is linear."""
        return along(self.dim, x, self._project_rows)

    def _project_rows(self, x: Tensor) -> Tensor:
        if x.numel() == 0:
            return x.clone()
        start = self._onto_subspace(widest(x))
        nearest, active, _ = self._search(start.detach(), self.offsets)
        # Between large numbers the first search loses digits; a second from its end brings them back.
        projected, _, _ = self._search(self._onto_subspace(nearest), self.offsets)
        if is_differentiated(x):
            movement = self._along_face(start, active)
            projected = projected + (movement - movement.detach())
        return keep_members(self._is_member_row(x).unsqueeze(-1), x, projected.to(x.dtype))

    def _onto_subspace(self, rows: Tensor) -> Tensor:
        basis, coordinates = self.basis.to(rows), self.coordinates.to(rows)
        for _ in range(2):
            rows = rows - (rows @ basis - coordinates) @ basis.mT
        return rows

    def _along_face(self, rows: Tensor, active: Tensor) -> Tensor:
        """Vectors without what would lead off the active inequalities."""
        normals = self.normals.to(rows)
        gram = normals @ normals.mT
        flags = active.reshape(-1, active.shape[-1])
        for _ in range(2):
            heights = (rows @ normals.mT).reshape(flags.shape)
            outwards = solve_active(gram, flags, heights, min(normals.shape)) @ normals
            rows = rows - outwards.reshape(rows.shape)
        return rows

    def _is_member_row(self, x: Tensor) -> Tensor:
        rows = widest(x.detach())
        G, h = self.G.to(rows), self.h.to(rows)
        sizes = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
        allowed = roundoff(x.dtype) * (sizes * torch.linalg.vector_norm(G, dim=-1) + h.abs())
        obeys: Tensor = (rows @ G.mT - h <= allowed).all(-1)
        gap = torch.linalg.vector_norm(rows @ self.basis.to(rows) - self.coordinates.to(rows), dim=-1)
        reach = sizes.squeeze(-1) + torch.linalg.vector_norm(self.coordinates.to(rows), dim=-1)
        is_on_subspace: Tensor = gap <= roundoff(x.dtype) * reach
        return obeys & is_on_subspace

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each vector satisfies all conditions, up to rounding."""
        return self._is_member_row(self.rows(x))

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction, without what leads out of the inequalities that are active at x."""
        rows, moves = widest(self.rows(x)), widest(self.rows(direction))
        basis = self.basis.to(moves)
        room = self._room(rows)
        sizes = torch.linalg.vector_norm(rows, dim=-1, keepdim=True) + self.offsets.to(rows).abs()
        cone = torch.where(room <= roundoff(x.dtype) * sizes, 0.0, math.inf)
        inside, _, _ = self._search(moves - moves @ basis @ basis.mT, cone)
        return self.from_rows(inside, x).to(direction.dtype)

    # -- interior ----------------------------------------------------------------------------------

    def _room(self, rows: Tensor) -> Tensor:
        return self.offsets.to(rows) - rows @ self.normals.to(rows).mT

    @cached_property
    def _has_interior(self) -> bool:
        if self.A is not None and self.basis.shape[1]:
            return False
        start = self.normals.new_zeros(*self.offsets.shape[:-1], self.G.shape[1])
        return bool(self._search(start, self.offsets - 1e-6 * self.size)[2].all())

    def offers(self, capability: str) -> bool:
        """Slack functions need a point with room to all sides."""
        if capability in ("slack", "barrier", "interior"):
            return self._has_interior
        return super().offers(capability)

    def _needs_room(self, what: str) -> None:
        if not self._has_interior:
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
        """Nearest point at least ``margin`` from each boundary; half of that, or half again, where none is."""
        self._needs_room("interior")
        rows = widest(self.rows(x))
        margins = torch.full_like(rows[..., :1], max(margin, 4 * roundoff(x.dtype) * self.size))
        for _ in range(64):
            moved, _, feasible = self._search(rows, self.offsets.to(rows) - margins)
            if bool(feasible.all()):
                break
            margins = torch.where(feasible.unsqueeze(-1), margins, margins / 2)
        return self.from_rows(moved, x).to(x.dtype)


def _within(basis: Tensor, coordinates: Tensor, G: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """``G p ≤ h`` for members p of the subspace, with rows of length 1 that lie along it."""
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
