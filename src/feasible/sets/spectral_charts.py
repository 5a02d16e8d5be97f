"""Free coordinates for matrices with bounded eigenvalues or singular values."""

from __future__ import annotations

import torch
from torch import Tensor

from feasible.sets.charts import Chart
from feasible.sets.matrix_charts import MatrixChart
from feasible.sets.precision import wide
from feasible.sets.set import Set
from feasible.sets.spectra import eigen, svd
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
        gram = root @ root.mT
        eye = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device)
        if self.width is not None:
            gram = self.width * torch.linalg.solve(eye + gram, gram)
        return (gram / 2 + gram.mT / 2 + self.min_eig * eye).to(latent.dtype)

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


class FoldChart(Chart):
    """``2 radius · Z (1 + ZᵀZ)⁻¹``: singular values s become ``2s/(1 + s²) ≤ 1``, with a fold at s = 1."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, latent: Tensor) -> Tensor:
        """The matrix at these coordinates."""
        is_tall = latent.shape[-2] >= latent.shape[-1]
        narrow = wide(latent) if is_tall else wide(latent).mT
        eye = torch.eye(narrow.shape[-1], dtype=narrow.dtype, device=narrow.device)
        folded: Tensor = torch.linalg.solve(eye + narrow.mT @ narrow, narrow.mT) * (2 * self.radius)
        return (folded.mT if is_tall else folded).to(latent.dtype)

    @torch.no_grad()
    def right_inverse(self, x: Tensor) -> Tensor:
        """The smaller of the two coordinates, kept a little away from the fold."""
        left, values, right = svd(wide(x) / self.radius)
        share = values.clamp_max(1 - FOLD)
        return ((left * (share / (1 + (1 - share * share).sqrt())).unsqueeze(-2)) @ right.mT).to(x.dtype)

    def relative_slope(self, latent: Tensor) -> Tensor:
        """The slope of the largest singular value of each matrix."""
        largest: Tensor = torch.linalg.matrix_norm(wide(latent.detach()), 2, keepdim=True)
        return ((1 - largest.square()).abs() / (1 + largest.square()).square()).expand_as(latent)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Shrink matrices that lie on the fold or far beyond it."""
        flat = wanted & (self.relative_slope(latent) < slope)
        largest: Tensor = torch.linalg.matrix_norm(wide(latent), 2, keepdim=True)
        inside = latent * ((1 - slope) / torch.where(largest > 0, largest, 1.0))
        latent.copy_(torch.where(flat.any(-1, keepdim=True).any(-2, keepdim=True), inside, latent))


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
        longest = (slope ** (-2 / 3) - 1) ** 0.5
        share = self._share(latent)
        latent.copy_(torch.where(wanted & (share > longest), latent * (longest / share), latent))


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


FOLD = 1e-3
"""How far below its bound the largest singular value starts: on the fold itself it would not move."""
