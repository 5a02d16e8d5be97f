"""Free coordinates for matrices with orthonormal columns or rows.

The coordinates have the shape of the matrix. Signs on the diagonal, which no gradient moves, say in which of
two mirror images it lies: a continuous path of orthogonal matrices cannot change its determinant.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from feasible.sets.matrix_charts import MatrixChart
from feasible.sets.polar import gram_error


class OrthonormalChart(MatrixChart):
    """What the charts share: wide matrices are transposed, the diagonal holds signs."""

    def forward(self, latent: Tensor) -> Tensor:
        """The matrix at these coordinates, orthonormal up to the last rounding."""
        if latent.shape[-2] < latent.shape[-1]:
            return self.forward(latent.mT).mT
        columns = self.columns(latent)
        found = columns.detach()
        return columns - found @ (gram_error(found) / 2)

    @torch.no_grad()
    def right_inverse(self, x: Tensor) -> Tensor:
        """Coordinates of a matrix with orthonormal columns or rows."""
        if x.shape[-2] < x.shape[-1]:
            return self.coordinates(x.mT).mT.contiguous()
        return self.coordinates(x)

    @abstractmethod
    def columns(self, latent: Tensor) -> Tensor:
        """Orthonormal columns at these coordinates."""

    @abstractmethod
    def coordinates(self, x: Tensor) -> Tensor:
        """What ``columns`` makes x from."""


class CayleyChart(OrthonormalChart):
    """``[1 − B; 2Y] (1 + B)⁻¹`` with ``B = YᵀY + K``, K skew: one solve as wide as the matrix.

    K is the skew matrix of the strict lower triangle, Y the rows below it.
    """

    def columns(self, latent: Tensor) -> Tensor:
        """Orthonormal columns at these coordinates."""
        width = latent.shape[-1]
        lower, below = latent[..., :width, :].tril(-1), latent[..., width:, :]
        eye = torch.eye(width, dtype=latent.dtype, device=latent.device)
        bent = below.mT @ below + lower - lower.mT
        tops = torch.cat([eye - bent, 2 * below], -2)
        columns: Tensor = torch.linalg.solve(eye + bent, tops, left=False)
        return columns * _signs(latent).unsqueeze(-2)

    def coordinates(self, x: Tensor) -> Tensor:
        """``Y = P₂ (1 + P₁)⁻¹`` and the skew part of ``(1 − P₁)(1 + P₁)⁻¹``, with signs that keep 1 + P₁ regular."""
        width = x.shape[-1]
        signs = _regular_signs(x[..., :width, :])
        signed = x * signs.unsqueeze(-2)
        eye = torch.eye(width, dtype=x.dtype, device=x.device)
        top = signed[..., :width, :]
        numerator = torch.cat([eye - top, signed[..., width:, :]], -2)
        found: Tensor = torch.linalg.solve(eye + top, numerator, left=False)
        bent = found[..., :width, :]
        skew = (bent - bent.mT) / 2
        return torch.cat([skew.tril(-1) + torch.diag_embed(signs), found[..., width:, :]], -2)


class HouseholderChart(OrthonormalChart):
    """A product of reflections, one a column; the strict lower trapezoid holds their normals."""

    def columns(self, latent: Tensor) -> Tensor:
        """Orthonormal columns at these coordinates."""
        normals = latent.tril(-1)
        lengths = 2 / (1 + normals.square().sum(-2))
        columns: Tensor = torch.linalg.householder_product(normals, lengths)
        return columns * _signs(latent).unsqueeze(-2)

    def coordinates(self, x: Tensor) -> Tensor:
        """The normals that LAPACK's QR factorisation uses."""
        packed, lengths = torch.geqrf(x)
        signs = torch.where(packed.diagonal(0, -2, -1) < 0, -1.0, 1.0).to(x)
        signs = torch.where(
            lengths == 0, -signs, signs
        )  # LAPACK skips such a column, ``columns`` reflects it
        coordinates = packed.tril(-1)
        coordinates.diagonal(0, -2, -1).copy_(signs)
        return coordinates


class ExponentialChart(OrthonormalChart):
    """``base · exp(A)`` with skew A from the lower trapezoid; the base is the matrix that it started from."""

    base: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("base", None)

    def columns(self, latent: Tensor) -> Tensor:
        """Orthonormal columns at these coordinates."""
        height, width = latent.shape[-2:]
        spare = latent.new_zeros(*latent.shape[:-1], height - width)
        lower = torch.cat([latent.tril(-1), spare], -1)
        turned = torch.matrix_exp(lower - lower.mT)[..., :width]
        return turned if self.base is None else self.base.to(latent) @ turned

    def coordinates(self, x: Tensor) -> Tensor:
        """0, around a base whose first columns are x."""
        complete: Tensor = torch.linalg.qr(x, mode="complete").Q
        self.base = torch.cat([x, complete[..., x.shape[-1] :]], -1)
        return torch.zeros_like(x)


def _signs(latent: Tensor) -> Tensor:
    diagonal = latent.detach().diagonal(0, -2, -1)
    return torch.where(diagonal < 0, -1.0, 1.0).to(latent)


def _regular_signs(square: Tensor) -> Tensor:
    """Signs d that make ``1 + square · diag(d)`` regular: elimination with every pivot pushed away from 0."""
    rest = square.clone()
    signs = torch.ones_like(rest[..., 0, :])
    for index in range(square.shape[-1]):
        signs[..., index] = torch.where(rest[..., index, index] < 0, -1.0, 1.0)
        pivot = rest[..., index, index] + signs[..., index]
        row = rest[..., index, :] / pivot.unsqueeze(-1)
        rest = rest - rest[..., :, index].unsqueeze(-1) * row.unsqueeze(-2)
    return signs
