"""Linear equations: the affine subspace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor

from feasible.sets.charts import Chart
from feasible.sets.linear import (
    LinearVectors,
    RowSpace,
    check_system,
    check_vectors,
    finite_tensor,
    row_space,
    without_noise,
)
from feasible.sets.precision import roundoff, wide
from feasible.sets.simplex import check_kind
from feasible.sets.units import along, keep_members, precise_norm

__all__ = ["Affine"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class Affine(LinearVectors[RowSpace]):
    """Vectors that satisfy linear equations.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``A p = b`` along ``dim``: ``x − A⁺(A x − b)``. The rows of
    A are made orthonormal once, when the set is made; redundant rows do no harm.

    Args:
        A: a matrix (m, n) with one row for each equation; n is the length of the weight's vectors.
        b: the right-hand sides (m,), or (…, m) with one for each vector of the batch.
        dim: the dimension that holds one vector; all others are batches. ``None``: the whole tensor.

    Raises:
        ValueError: shapes do not fit, entries are not finite, or the equations contradict each other.

    >>> Affine(torch.tensor([[1.0, 1.0]]), torch.tensor([1.0])).project(torch.tensor([1.0, 3.0]))
    tensor([-0.5000,  1.5000])

    Source: Golub & Van Loan, *Matrix Computations*, section 5.5.
    """

    A: Tensor
    b: Tensor
    dim: int | None = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        A, b = finite_tensor("Affine", "A", self.A), finite_tensor("Affine", "b", self.b)
        check_system("Affine", ("A", "b"), A, b)
        self._derive(row_space("Affine", A, b), A=A, b=b)

    @classmethod
    def example(cls) -> Self:
        """Two numbers whose sum is 1."""
        return cls(torch.ones(1, 2), torch.ones(1))

    @property
    def size(self) -> float:
        """Largest distance of a subspace from 0, or 1."""
        norms = torch.linalg.vector_norm(self.derived.coordinates, dim=-1)
        return (float(norms.max()) if norms.numel() else 0.0) or 1.0

    def check_shape(self, shape: torch.Size) -> None:
        """The vectors must be as long as the rows of A, and their batch must take that of b."""
        super().check_shape(shape)
        check_vectors(self, "columns of A", self.A.shape[1], self.b.shape[:-1], shape)

    def _gap(self, rows: Tensor) -> Tensor:
        """What is missing in the equations with orthonormal rows."""
        return rows @ self.derived.basis.to(rows) - self.derived.coordinates.to(rows)

    def project(self, x: Tensor) -> Tensor:
        """``x − A⁺(A x − b)``; members keep their bits."""
        return along(self.dim, x, self._project_rows)

    def _project_rows(self, x: Tensor) -> Tensor:
        projected = wide(x)
        for _ in range(2):  # between large numbers the first step loses digits; the second brings them back
            projected = projected - self._gap(projected) @ self.derived.basis.to(projected).mT
        nearest_to_0 = self.derived.coordinates.to(projected) @ self.derived.basis.to(projected).mT
        projected = without_noise(projected, nearest_to_0, x)
        return keep_members(self._is_member_row(x).unsqueeze(-1), x, projected.to(x.dtype))

    def _is_member_row(self, x: Tensor) -> Tensor:
        rows = wide(x.detach())
        size = precise_norm(rows, -1) + precise_norm(self.derived.coordinates.to(rows), -1)
        return precise_norm(self._gap(rows), -1) <= roundoff(x.dtype) * (size + torch.finfo(x.dtype).tiny)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each vector satisfies the equations, up to rounding."""
        return self._is_member_row(self.rows(x))

    def reduce_gradients_(self, points: Sequence[Tensor], gradients: Sequence[Tensor], t: float) -> None:
        """The gradients along the subspace: the mapping of an affine set does not depend on x or t."""
        for g in gradients:
            g.copy_(self.tangent(g, g))

    def chart(self, kind: str | None = None) -> Chart:
        """``"projection"``: free coordinates, projected; members keep their values."""
        check_kind(self, kind, ("projection",))
        return AffineChart(self)

    def support(self, y: Tensor) -> Tensor:
        """``⟨y, x⟩``, the same for all members x, where y is a combination of the rows of A; else +inf."""
        rows = wide(self.rows(y))
        basis = self.derived.basis.to(rows)
        height = rows @ basis
        beside = precise_norm(rows - height @ basis.mT, -1)
        # y itself comes out of rounded arithmetic.
        allowed = math.sqrt(torch.finfo(y.dtype).eps) * precise_norm(rows, -1)
        value = (height * self.derived.coordinates.to(rows)).sum(-1)
        value = torch.where(beside <= allowed, value, torch.full_like(value, math.inf))
        return torch.where(beside.isnan(), beside, value).to(y.dtype)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction without what would change ``A x``."""

        def along_subspace(rows: Tensor) -> Tensor:
            moves = wide(rows)
            basis = self.derived.basis.to(moves)
            for _ in range(2):
                moves = moves - moves @ basis @ basis.mT
            return moves.to(rows.dtype)

        return along(self.dim, direction, along_subspace)


class AffineChart(Chart):
    """Free coordinates, projected onto the subspace."""

    def __init__(self, affine: Affine) -> None:
        super().__init__()
        self.affine = affine

    def forward(self, latent: Tensor) -> Tensor:
        """The nearest members."""
        return self.affine.project(latent)

    def right_inverse(self, x: Tensor) -> Tensor:
        """The members are their own coordinates."""
        return x

    def relative_slope(self, latent: Tensor) -> Tensor:
        """1: the map is affine and never saturates."""
        return torch.ones_like(latent)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Nothing to lift."""
