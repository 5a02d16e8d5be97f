"""Matrices with orthonormal columns or rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.sets.charts import Chart
from feasible.sets.matrices import Matrices, mirror, on_finite
from feasible.sets.nearest import NearestPoint, nearest_point
from feasible.sets.polar import frobenius, gram_error, polar_factor
from feasible.sets.precision import normal, roundoff, wide
from feasible.sets.simplex import check_kind
from feasible.sets.spectra import allowed_error, singular_curvature, singular_derivative, svd
from feasible.sets.spectral_values import singular_values
from feasible.sets.stiefel_charts import CayleyChart, ExponentialChart, HouseholderChart

__all__ = ["Stiefel"]

CHARTS: dict[str, type[CayleyChart | HouseholderChart | ExponentialChart]] = {
    "cayley": CayleyChart,
    "householder": HouseholderChart,
    "matrix_exp": ExponentialChart,
}


@final
@dataclass(frozen=True, eq=False, repr=False)
class Stiefel(Matrices, NearestPoint):
    """Matrices with orthonormal columns; with orthonormal rows where there are fewer rows than columns.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``pᵀp = 1`` (or ``ppᵀ = 1``): the polar factor of x.
    The set is not convex. Where x has not full rank, several points are nearest, and it takes the one that
    the singular value decomposition gives.

    >>> Stiefel().project(torch.tensor([[2.0, 0.0], [0.0, 0.5]]))
    tensor([[1., 0.],
            [0., 1.]])

    Source: Fan & Hoffman, *Some metric inequalities in the space of matrices* (1955); derivative: Kenney &
    Laub, *Polar decomposition and matrix sign function condition estimates* (1991).
    """

    convex = False

    def project(self, x: Tensor) -> Tensor:
        """The polar factor; differentiable where x has full rank."""
        return nearest_point(x, self)

    def solve(self, x: Tensor) -> tuple[Tensor, ...]:
        """The projection and x itself."""
        return on_finite(x, lambda safe: self._factor(safe, x))

    def _factor(self, safe: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        tall = _tall(safe, safe)
        error = gram_error(tall)
        member = _is_small(error, x.dtype)
        if not torch.compiler.is_compiling() and bool(member.all()):
            return x.clone(), safe
        point = _tall(polar_factor(tall, error), safe).to(x.dtype)
        return torch.where(member[..., None, None], x, point), safe

    def derivative(self, displacement: Tensor, *factors: Tensor) -> Tensor:
        """That of ``U f(σ) Vᵀ`` with f = 1; 0 in the directions in which x vanishes and the factor jumps."""
        return singular_derivative(displacement, *_spectrum(factors[0]))

    def curvature(self, first: Tensor, second: Tensor, *factors: Tensor) -> Tensor:
        """The same to second order."""
        return singular_curvature(first, second, *_spectrum(factors[0]))

    def is_member(self, x: Tensor) -> Tensor:
        """Whether the scalar products of the columns (or rows) are those of the unit matrix, up to rounding."""
        return _is_small(gram_error(_tall(wide(x.detach()), x)), x.dtype)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Uniform: the orthonormal factor of normal entries, with the signs that make it unique."""
        self.check_shape(torch.Size(shape))
        entries = normal(shape, generator)
        basis, triangle = torch.linalg.qr(_tall(entries, entries))
        sign = torch.where(triangle.diagonal(0, -2, -1) < 0, -1.0, 1.0)
        return self.project(_tall(basis * sign.unsqueeze(-2), entries))

    def chart(self, kind: str | None = None) -> Chart:
        """``"cayley"`` (default), ``"householder"`` or ``"matrix_exp"``."""
        check_kind(self, kind, tuple(CHARTS))
        return CHARTS[kind or "cayley"]()

    def support(self, y: Tensor) -> Tensor:
        """The sum of the singular values of y."""
        return singular_values(y).sum(-1).to(y.dtype)

    def lmo(self, gradient: Tensor) -> Tensor:
        """The polar factor of ``−gradient``."""
        return self.project(-gradient)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """``D − Q sym(Qᵀ D)``: what keeps the columns orthonormal to first order."""
        point, moved = _tall(wide(x), x), _tall(wide(direction), x)
        return _tall(moved - point @ mirror(point.mT @ moved), x).to(direction.dtype)

    needs_tangent = True

    def reduce_gradients_(self, points: Sequence[Tensor], gradients: Sequence[Tensor], t: float) -> None:
        """The gradients put onto the tangent space, which is flat and the same in both directions."""
        for x, g in zip(points, gradients, strict=True):
            g.copy_(self.tangent(x, g))


def _tall(x: Tensor, like: Tensor) -> Tensor:
    """Transposed where ``like`` has fewer rows than columns; its own inverse."""
    return x if like.shape[-2] >= like.shape[-1] else x.mT


def _is_small(error: Tensor, dtype: torch.dtype) -> Tensor:
    return frobenius(error) <= 2 * roundoff(dtype) * math.sqrt(error.shape[-1])


def _spectrum(x: Tensor) -> tuple[Tensor, ...]:
    left, values, right = svd(x)
    present = values > allowed_error(values, x.dtype).unsqueeze(-1)
    return left, right, torch.where(present, values, 0.0), present.to(values), torch.zeros_like(values)
