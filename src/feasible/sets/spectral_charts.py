"""Free coordinates for matrices with bounded eigenvalues or singular values."""

from __future__ import annotations

import torch
from torch import Tensor

from feasible.sets.charts import Chart
from feasible.sets.matrix_charts import MatrixChart
from feasible.sets.precision import wide
from feasible.sets.set import Set
from feasible.sets.spectra import eigen, from_singular, svd
from feasible.sets.spectral_values import singular_values


class GramChart(Chart):
    """``min_eig + Z Zᵀ``, or ``min_eig + (max_eig − min_eig) · Z Zᵀ (1 + Z Zᵀ)⁻¹`` below a bound."""

    def __init__(self, kind: str, min_eig: float, max_eig: float | None) -> None:
        super().__init__()
        self.kind = kind
        self.min_eig = min_eig
        self.width = None if max_eig is None else max_eig - min_eig

    def _root(self, latent: Tensor) -> Tensor:
        return latent.tril() if self.kind == "cholesky" else latent

    def forward(self, latent: Tensor) -> Tensor:
        """The matrix whose shifted (and bent) root the coordinates are."""
        root = self._root(wide(latent))
        eye = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device).expand_as(root)
        if self.width is None:
            matrix = root @ root.mT + self.min_eig * eye
        else:
            # Z Zᵀ (1 + Z Zᵀ)⁻¹ = T Tᵀ for the upper half T of an orthonormal factor of [Z; 1]: small where Z is.
            above: Tensor = torch.linalg.qr(torch.cat([root, eye], -2)).Q[..., : root.shape[-1], :]
            matrix = self.min_eig * eye + self.width * (above @ above.mT)
        return (matrix / 2 + matrix.mT / 2).to(latent.dtype)

    @torch.no_grad()
    def right_inverse(self, x: Tensor) -> Tensor:
        """A root of the matrix; eigenvalues at a bound move inside by a ten-thousandth of the largest."""
        values, vectors = eigen(wide(x) / 2 + wide(x).mT / 2)
        above = values - self.min_eig
        if self.width is not None:
            share = (above / self.width).clamp(FLOOR, 1 - 1e-2)
            above = share / (1 - share)
        else:
            largest = above.amax(-1, keepdim=True) if above.shape[-1] else above
            above = torch.maximum(above, FLOOR * torch.where(largest > 0, largest, 1.0))
        if self.kind == "cholesky":
            triangle: Tensor = torch.linalg.qr((vectors * above.sqrt().unsqueeze(-2)).mT).R
            sign = torch.where(triangle.diagonal(0, -2, -1) < 0, -1.0, 1.0)
            return (triangle * sign.unsqueeze(-1)).mT.contiguous().to(x.dtype)
        return ((vectors * above.sqrt().unsqueeze(-2)) @ vectors.mT).to(x.dtype)

    def relative_slope(self, latent: Tensor) -> Tensor:
        """How long the column of a coordinate is, up to 1: a vanished column no longer moves the matrix."""
        length: Tensor = torch.linalg.vector_norm(wide(self._root(latent.detach())), dim=-2, keepdim=True)
        return length.clamp_max(1.0).expand_as(latent)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Give vanished columns a diagonal entry."""
        flat = wanted & (self.relative_slope(latent) < slope)
        diagonal = latent.diagonal(0, -2, -1)
        lifted = torch.where(diagonal < 0, -slope, slope).to(latent)
        diagonal.copy_(torch.where(flat.any(-2), lifted, diagonal))

    def extra_repr(self) -> str:
        """Which coordinates count."""
        return self.kind


FLOOR = 1e-4
"""Share of the largest eigenvalue that replaces a vanished one: a root of 0 would be stuck there."""


class ContractionChart(Chart):
    """``radius · Z R⁻¹`` with ``RᵀR = 1 + ZᵀZ``: singular values s become ``s/√(1 + s²)``; the open ball."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, latent: Tensor) -> Tensor:
        """The upper part of the orthonormal factor of ``[Z; 1]``."""
        work = wide(latent)
        eye = torch.eye(work.shape[-1], dtype=work.dtype, device=work.device).expand(*work.shape[:-2], -1, -1)
        factors = torch.linalg.qr(torch.cat([work, eye], -2))
        basis: Tensor = factors.Q[..., : work.shape[-2], :]
        signs = torch.where(factors.R.detach().diagonal(0, -2, -1) < 0, -1.0, 1.0).to(work)
        return (self.radius * basis * signs.unsqueeze(-2)).to(latent.dtype)

    @torch.no_grad()
    def right_inverse(self, x: Tensor) -> Tensor:
        """``X R`` with ``R⁻ᵀR⁻¹ = 1 − XᵀX``; singular values at the bound move inside by a hundredth."""
        left, values, right = svd(wide(x) / self.radius)
        inside = from_singular(left, values.clamp_max(0.99), right)
        eye = torch.eye(x.shape[-1], dtype=inside.dtype, device=inside.device)
        lower: Tensor = torch.linalg.cholesky(eye - inside.mT @ inside)
        latent: Tensor = torch.linalg.solve_triangular(lower.mT, inside, upper=True, left=False)
        return latent.to(x.dtype)

    def _longest(self, latent: Tensor) -> Tensor:
        values = singular_values(latent.detach())
        longest = values.amax(-1) if values.shape[-1] else values.sum(-1)
        return longest[..., None, None]

    def relative_slope(self, latent: Tensor) -> Tensor:
        """The slope ``(1 + s²)^(−3/2)`` of the largest singular value of each matrix."""
        return ((1 + self._longest(latent).square()) ** -1.5).expand_as(latent)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Shrink matrices that lie too far out."""
        shorten_(latent, wanted, self._longest(latent), slope)


class NuclearChart(Chart):
    """``radius · Z / √(radius² + ‖Z‖²)`` with the sum of the singular values as norm: the open ball."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius

    def _share(self, x: Tensor) -> Tensor:
        return (singular_values(x).sum(-1) / self.radius)[..., None, None]

    def forward(self, latent: Tensor) -> Tensor:
        """The matrix at these coordinates."""
        return (wide(latent) / torch.sqrt(1 + self._share(latent).square())).to(latent.dtype)

    def right_inverse(self, x: Tensor) -> Tensor:
        """``x / √(1 − ‖x‖²/radius²)``; matrices at the boundary move inside by a hundredth."""
        share = self._share(x)
        inside = torch.where(share > 0.99, 0.99 / share, 1.0)
        return (wide(x) * inside / torch.sqrt(1 - (share * inside).square())).to(x.dtype)

    def relative_slope(self, latent: Tensor) -> Tensor:
        """The radial slope of each matrix."""
        return ((1 + self._share(latent.detach()).square()) ** -1.5).expand_as(latent)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Shorten matrices that lie too far out."""
        shorten_(latent, wanted, self._share(latent), slope)


class ProjectionChart(MatrixChart):
    """The nearest member: as smooth as the projection is."""

    def __init__(self, set: Set) -> None:
        super().__init__()
        self.set = set

    def forward(self, latent: Tensor) -> Tensor:
        """The nearest member."""
        return self.set.project(latent)

    def right_inverse(self, x: Tensor) -> Tensor:
        """The members are their own coordinates."""
        return x


def shorten_(latent: Tensor, wanted: Tensor, length: Tensor, slope: float) -> None:
    """Shorten the wanted coordinates to where ``(1 + length²)^(−3/2)`` is the slope."""
    longest = (slope ** (-2 / 3) - 1) ** 0.5
    latent.copy_(torch.where(wanted & (length > longest), latent * (longest / length), latent))
