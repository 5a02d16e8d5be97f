"""Symmetric matrices with bounded eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.sets.matrices import SquareMatrices, mirror, on_finite
from feasible.sets.nearest import NearestPoint, nearest_point
from feasible.sets.precision import normal, uniform
from feasible.sets.simplex import check_kind, finite_number
from feasible.sets.spectra import allowed_error, eigen, eigen_curvature, eigen_derivative, from_eigen
from feasible.sets.spectral_charts import GramChart
from feasible.sets.spectral_values import eigenvalues, minus_log_det

__all__ = ["PSD"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class PSD(SquareMatrices, NearestPoint):
    """Symmetric matrices with eigenvalues in a range; by default the positive semidefinite ones.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``p = pᵀ`` and ``min_eig ≤ λ(p) ≤ max_eig``: the
    symmetric part of x with its eigenvalues clipped.

    Args:
        min_eig: the smallest eigenvalue allowed; > 0 keeps the matrices positive definite.
        max_eig: the largest eigenvalue allowed; ``None`` for no bound.

    Raises:
        ValueError: a bound is not finite, or ``min_eig > max_eig``.

    >>> PSD().project(torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
    tensor([[1., 0.],
            [0., 0.]])

    Source: Higham, *Computing a nearest symmetric positive semidefinite matrix* (1988).
    """

    min_eig: float = 0.0
    max_eig: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "min_eig", finite_number("PSD", "min_eig", self.min_eig))
        if self.max_eig is None:
            return
        object.__setattr__(self, "max_eig", finite_number("PSD", "max_eig", self.max_eig))
        if self.min_eig > self.max_eig:
            raise ValueError(
                f"PSD is empty: min_eig must be ≤ max_eig, got {self.min_eig:g} > {self.max_eig:g}."
            )

    @property
    def size(self) -> float:
        """The larger of the two bounds' magnitudes, or 1."""
        return max(abs(self.min_eig), abs(self.max_eig or 0.0)) or 1.0

    def project(self, x: Tensor) -> Tensor:
        """``U clip(λ) Uᵀ``; differentiable, also where eigenvalues repeat."""
        return nearest_point(x, self)

    def solve(self, x: Tensor) -> tuple[Tensor, ...]:
        """The projection, eigenvectors and the clipped spectrum."""
        return on_finite(x, lambda safe: self._clip(safe, x))

    def _clip(self, safe: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        values, vectors = eigen(mirror(safe))
        clipped = values.clamp(self.min_eig, self.max_eig)
        member = self._allows(values, x)[..., None, None]
        point = torch.where(member, x, from_eigen(vectors, clipped).to(x.dtype))
        return point, vectors, values, clipped, (values == clipped).to(values)

    def derivative(self, displacement: Tensor, *factors: Tensor) -> Tensor:
        """``U (Γ ∘ Uᵀ D U) Uᵀ`` with the divided differences Γ of the clipping."""
        return eigen_derivative(displacement, *factors)

    def curvature(self, first: Tensor, second: Tensor, *factors: Tensor) -> Tensor:
        """The same with second divided differences."""
        return eigen_curvature(first, second, *factors)

    def _allows(self, values: Tensor, x: Tensor) -> Tensor:
        allowed = allowed_error(values, x.dtype).unsqueeze(-1)
        inside = values >= self.min_eig - allowed
        if self.max_eig is not None:
            inside = inside & (values <= self.max_eig + allowed)
        return inside.all(-1) & (x == x.mT).all(-1).all(-1)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each matrix is symmetric, with its eigenvalues in the range up to rounding."""
        return self._allows(eigenvalues(x), x)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """``min_eig + G Gᵀ/n`` of normal entries; between two bounds uniform eigenvalues, random eigenvectors."""
        self.check_shape(torch.Size(shape))
        entries = normal(shape, generator)
        if self.max_eig is None:
            square = mirror(entries @ entries.mT) / max(shape[-1], 1)
            return self.project(square + self.min_eig * torch.eye(shape[-1], device=entries.device))
        values = self.min_eig + (self.max_eig - self.min_eig) * uniform(shape[:-1], generator)
        return self.project(from_eigen(torch.linalg.qr(entries).Q, values))

    def offers(self, capability: str) -> bool:
        """Equal bounds leave a point without interior or chart; a linear minimum needs an upper bound."""
        if capability in ("slack", "barrier", "interior", "chart"):
            return self.max_eig is None or self.min_eig < self.max_eig
        if capability == "lmo":
            return self.max_eig is not None
        return super().offers(capability)

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """Each eigenvalue less ``min_eig``, and ``max_eig`` less each: Σ log of them all is concave."""
        if not self.offers("slack"):
            raise self._lacks("slack functions", "it is a single point")
        values = eigenvalues(x).to(x.dtype)
        above = (values - self.min_eig).unbind(-1)
        return above if self.max_eig is None else (*above, *(self.max_eig - values).unbind(-1))

    def barrier(self, x: Tensor) -> Tensor:
        """``−log det(x − min_eig)``, and ``−log det(max_eig − x)``, per matrix."""
        if not self.offers("barrier"):
            raise self._lacks("barrier", "it is a single point")
        eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        height = minus_log_det(mirror(x) - self.min_eig * eye)
        return height if self.max_eig is None else height + minus_log_det(self.max_eig * eye - mirror(x))

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """Eigenvalues moved to at least ``margin`` from each bound, or to the middle of a narrower range."""
        if not self.offers("interior"):
            raise self._lacks("interior", "it is a single point")
        return on_finite(x, lambda safe: (self._move_inside(safe, x, margin),))[0]

    def _move_inside(self, safe: Tensor, x: Tensor, margin: float) -> Tensor:
        values, vectors = eigen(mirror(safe))
        # However small the margin, some slack must survive rounding.
        clipped = values.clamp(self.min_eig, self.max_eig)
        room = (2 * allowed_error(clipped, x.dtype)).clamp_min(margin).unsqueeze(-1)
        least = self.min_eig + room
        moved = torch.maximum(values, least)
        if self.max_eig is not None:
            most = self.max_eig - room
            middle = (self.min_eig + self.max_eig) / 2
            moved = torch.where(least > most, middle, torch.minimum(moved, most))
        inside = ((moved == values).all(-1) & (x == x.mT).all(-1).all(-1))[..., None, None]
        return torch.where(inside, x, from_eigen(vectors, moved).to(x.dtype))

    def chart(self, kind: str | None = None) -> GramChart:
        """``"square"``: ``min_eig + Z Zᵀ`` (default); ``"cholesky"``: Z is a lower triangle.

        With an upper bound the eigenvalues of ``Z Zᵀ`` are bent into the range by ``s/(1 + s)``.
        """
        if not self.offers("chart"):
            raise self._lacks("chart", "it is a single point")
        check_kind(self, kind, ("square", "cholesky"))
        return GramChart(kind or "square", self.min_eig, self.max_eig)

    def support(self, y: Tensor) -> Tensor:
        """``Σ max(min_eig · μ, max_eig · μ)`` over the eigenvalues μ of the symmetric part of y."""
        values = eigenvalues(y)
        low = self.min_eig * values
        if self.max_eig is not None:
            return torch.maximum(low, self.max_eig * values).sum(-1).to(y.dtype)
        allowed = math.sqrt(torch.finfo(y.dtype).eps) * self.norm(
            y.detach()
        )  # y comes out of rounded arithmetic
        unbounded = values > allowed.unsqueeze(-1)
        return torch.where(unbounded, math.inf, low).sum(-1).to(y.dtype)

    def lmo(self, gradient: Tensor) -> Tensor:
        """Eigenvectors of the gradient, with the lower bound where its eigenvalue is positive, else the upper."""
        if not self.offers("lmo"):
            raise self._lacks("linear minimisation", "it is unbounded")
        return on_finite(gradient, lambda safe: (self._corner(safe).to(gradient.dtype),))[0]

    def _corner(self, gradient: Tensor) -> Tensor:
        values, vectors = eigen(mirror(gradient))
        assert self.max_eig is not None
        most = torch.full_like(values, self.max_eig)
        return from_eigen(vectors, most.masked_fill(values > 0, self.min_eig))

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The symmetric part, without what pushes eigenvalues out that are at a bound."""
        if self.min_eig == self.max_eig:
            return torch.zeros_like(direction)
        return on_finite(x, lambda safe: (self._turn(safe, direction, x.dtype),))[0]

    def _turn(self, x: Tensor, direction: Tensor, dtype: torch.dtype) -> Tensor:
        values, vectors = eigen(mirror(x))
        allowed = allowed_error(values, dtype).unsqueeze(-1)
        seen = mirror(vectors.mT @ mirror(direction.to(x)) @ vectors)
        seen = seen + _positive_part(_block(-seen, values <= self.min_eig + allowed))
        if self.max_eig is not None:
            seen = seen - _positive_part(_block(seen, values >= self.max_eig - allowed))
        return mirror(vectors @ seen @ vectors.mT).to(direction.dtype)


def _block(x: Tensor, rows: Tensor) -> Tensor:
    return torch.where(rows.unsqueeze(-1) & rows.unsqueeze(-2), x, torch.zeros_like(x))


def _positive_part(x: Tensor) -> Tensor:
    values, vectors = eigen(x)
    return from_eigen(vectors, values.clamp_min(0))
