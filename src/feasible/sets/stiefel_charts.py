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
from feasible.sets.precision import wide, widest
from feasible.sets.spectra import from_singular, svd


class OrthonormalChart(MatrixChart):
    """What the charts share: wide matrices are transposed, the diagonal holds signs."""

    def forward(self, latent: Tensor) -> Tensor:
        """The matrix at these coordinates, orthonormal up to the last rounding."""
        if latent.shape[-2] < latent.shape[-1]:
            return self.forward(latent.mT).mT
        # What lies below the square enters squared: in single precision large entries would drown the rest.
        is_square = latent.shape[-2] == latent.shape[-1]
        columns = self.columns(wide(latent) if is_square else widest(latent))
        found = columns.detach()
        for _ in range(2):  # rounding in a long way round the group adds up: back to the nearest
            found = found - found @ (gram_error(found) / 2)
        signed = (columns + (found - columns.detach())) * _signs(latent).unsqueeze(-2)
        return signed.to(latent.dtype)

    @torch.no_grad()
    def right_inverse(self, x: Tensor) -> Tensor:
        """Coordinates of a matrix with orthonormal columns or rows."""
        if x.shape[-2] < x.shape[-1]:
            return self.right_inverse(x.mT).mT.contiguous()
        latent, signs = self.coordinates(wide(x))
        latent = latent.tril(-1)
        latent.diagonal(0, -2, -1).copy_(signs)
        return latent.to(x.dtype)

    @abstractmethod
    def columns(self, latent: Tensor) -> Tensor:
        """Orthonormal columns from the strict lower trapezoid of the coordinates."""

    @abstractmethod
    def coordinates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What ``columns`` makes x from, but for the signs of its columns, and those."""


class CayleyChart(OrthonormalChart):
    """``[1 − B; 2Y] (1 + B)⁻¹`` with ``B = YᵀY + K``, K skew: one solve as wide as the matrix.

    K is the skew matrix of the strict lower triangle, Y the rows below it.
    """

    def columns(self, latent: Tensor) -> Tensor:
        """Orthonormal columns at these coordinates."""
        skew, below = _split(latent)
        return _cayley(below.mT @ below + skew, below)

    def coordinates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``Y = P₂ (1 + P₁)⁻¹`` and the skew part of ``(1 − P₁)(1 + P₁)⁻¹``."""
        width = x.shape[-1]
        signs = _regular_signs(x[..., :width, :])
        signed = x * signs.unsqueeze(-2)
        eye, top, bottom = _eye(x), signed[..., :width, :], signed[..., width:, :]
        found: Tensor = torch.linalg.solve(eye + top, torch.cat([eye - top, bottom], -2), left=False)
        bent = found[..., :width, :]
        return torch.cat([(bent - bent.mT) / 2, found[..., width:, :]], -2), signs


class ExponentialChart(OrthonormalChart):
    """``[1 − YᵀY; 2Y] (1 + YᵀY)⁻¹ exp(K)``, K and Y as for ``CayleyChart``; square matrices: ``exp(K)``."""

    def columns(self, latent: Tensor) -> Tensor:
        """Orthonormal columns at these coordinates."""
        skew, below = _split(latent)
        turned: Tensor = torch.linalg.matrix_exp(skew)
        return turned if below.shape[-2] == 0 else _cayley(below.mT @ below, below) @ turned

    def coordinates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """K from the polar factor of the top, ``P₁ = C exp(K)``, and ``Y = P₂ exp(K)ᵀ (1 + C)⁻¹``."""
        top, bottom = x[..., : x.shape[-1], :], x[..., x.shape[-1] :, :]
        left, values, right = svd(top)
        turn = left @ right.mT
        signs = _regular_signs(turn)
        scale = from_singular(left, 1 / (1 + values), left)
        below = bottom @ turn.mT @ scale
        return torch.cat([_logarithm(turn * signs.unsqueeze(-2)), below], -2), signs


class HouseholderChart(OrthonormalChart):
    """A product of reflections, one a column; the strict lower trapezoid holds their normals."""

    def columns(self, latent: Tensor) -> Tensor:
        """Orthonormal columns at these coordinates."""
        normals = latent.tril(-1)
        lengths = 2 / (1 + normals.square().sum(-2))
        columns: Tensor = torch.linalg.householder_product(normals, lengths)
        return columns

    def coordinates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The normals that LAPACK's QR factorisation uses, and the signs that it leaves."""
        packed, lengths = torch.geqrf(x)
        signs = torch.where(packed.diagonal(0, -2, -1) < 0, -1.0, 1.0).to(x)
        # LAPACK skips a column without a normal, ``columns`` reflects it.
        return packed, torch.where(lengths == 0, -signs, signs)


def _signs(latent: Tensor) -> Tensor:
    diagonal = latent.detach().diagonal(0, -2, -1)
    return torch.where(diagonal < 0, -1.0, 1.0).to(latent)


def _split(latent: Tensor) -> tuple[Tensor, Tensor]:
    """The skew matrix of the strict lower triangle, and the rows below it."""
    width = latent.shape[-1]
    lower = latent[..., :width, :].tril(-1)
    return lower - lower.mT, latent[..., width:, :]


def _cayley(bent: Tensor, below: Tensor) -> Tensor:
    """``[1 − bent; 2 below] (1 + bent)⁻¹``."""
    eye = _eye(bent)
    columns: Tensor = torch.linalg.solve(eye + bent, torch.cat([eye - bent, 2 * below], -2), left=False)
    return columns


def _eye(like: Tensor) -> Tensor:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def _logarithm(orthogonal: Tensor) -> Tensor:
    """The skew matrix K with ``exp(K)`` equal to an orthogonal matrix without the eigenvalue −1.

    ``B = (1 − Q)(1 + Q)⁻¹`` is skew with eigenvalues −ih, and ``log Q = −2 atan(B)`` has 2i·atan(h).
    """
    eye = _eye(orthogonal)
    skew: Tensor = torch.linalg.solve(eye + orthogonal, eye - orthogonal)
    heights, vectors = torch.linalg.eigh(1j * (skew - skew.mT) / 2)
    turned = (vectors * (2j * torch.atan(heights)).unsqueeze(-2)) @ vectors.mH
    result: Tensor = turned.real
    return result


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
