"""Free coordinates for sets of matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from feasible.sets.charts import Chart


class MatrixChart(Chart):
    """A chart without flat regions: every coordinate keeps its influence."""

    def relative_slope(self, latent: Tensor) -> Tensor:
        """1 everywhere."""
        return torch.ones_like(latent)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Nothing to lift."""


class MirrorChart(MatrixChart):
    """Symmetric or skew-symmetric matrices from the mean of both triangles, or from the lower one."""

    def __init__(self, kind: str, sign: int) -> None:
        super().__init__()
        self.kind = kind
        self.sign = sign

    def forward(self, latent: Tensor) -> Tensor:
        """The mirrored matrix."""
        if self.kind == "mean":
            return latent / 2 + self.sign * (latent.mT / 2)
        lower = latent.tril(-1)
        mirrored = lower + self.sign * lower.mT
        return mirrored + torch.diag_embed(latent.diagonal(0, -2, -1)) if self.sign > 0 else mirrored

    def right_inverse(self, x: Tensor) -> Tensor:
        """The members are their own coordinates."""
        return x

    def extra_repr(self) -> str:
        """Which coordinates count."""
        return self.kind


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
        root = self._root(latent)
        gram = root @ root.mT
        eye = torch.eye(latent.shape[-1], dtype=latent.dtype, device=latent.device)
        if self.width is not None:
            gram = self.width * torch.linalg.solve(eye + gram, gram)
        return gram / 2 + gram.mT / 2 + self.min_eig * eye

    @torch.no_grad()
    def right_inverse(self, x: Tensor) -> Tensor:
        """A root of the matrix; eigenvalues at a bound move inside by a ten-thousandth of the largest."""
        values, vectors = _eigh(x / 2 + x.mT / 2)
        above = values - self.min_eig
        if self.width is not None:
            share = (above / self.width).clamp(FLOOR, 1 - 1e-2)
            above = share / (1 - share)
        else:
            largest = above.amax(-1, keepdim=True) if above.shape[-1] else above
            above = torch.maximum(above, FLOOR * torch.where(largest > 0, largest, 1.0))
        if self.kind == "cholesky":
            triangle: Tensor = torch.linalg.qr((vectors * above.sqrt().unsqueeze(-2)).mT).R
            sign = torch.where(triangle.diagonal(0, -2, -1) < 0, -1.0, 1.0).to(x)
            return (triangle * sign.unsqueeze(-1)).mT.contiguous()
        return (vectors * above.sqrt().unsqueeze(-2)) @ vectors.mT

    def relative_slope(self, latent: Tensor) -> Tensor:
        """How long the column of a coordinate is, up to 1: a vanished column no longer moves the matrix."""
        length: Tensor = torch.linalg.vector_norm(self._root(latent.detach()), dim=-2, keepdim=True)
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
        narrow = latent if latent.shape[-2] >= latent.shape[-1] else latent.mT
        eye = torch.eye(narrow.shape[-1], dtype=latent.dtype, device=latent.device)
        folded: Tensor = torch.linalg.solve(eye + narrow.mT @ narrow, narrow.mT) * (2 * self.radius)
        return folded.mT if narrow is latent else folded

    @torch.no_grad()
    def right_inverse(self, x: Tensor) -> Tensor:
        """The smaller of the two coordinates, kept a little away from the fold."""
        left, values, right = _svd(x / self.radius)
        share = values.clamp_max(1 - FOLD)
        return (left * (share / (1 + (1 - share * share).sqrt())).unsqueeze(-2)) @ right

    def relative_slope(self, latent: Tensor) -> Tensor:
        """The slope of the largest singular value of each matrix."""
        largest: Tensor = torch.linalg.matrix_norm(latent.detach(), 2, keepdim=True)
        return ((1 - largest.square()).abs() / (1 + largest.square()).square()).expand_as(latent)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Shrink matrices that lie on the fold or far beyond it."""
        flat = wanted & (self.relative_slope(latent) < slope)
        largest: Tensor = torch.linalg.matrix_norm(latent, 2, keepdim=True)
        inside = latent * ((1 - slope) / torch.where(largest > 0, largest, 1.0))
        latent.copy_(torch.where(flat.any(-1, keepdim=True).any(-2, keepdim=True), inside, latent))


class NuclearChart(Chart):
    """``radius · Z / √(radius² + ‖Z‖²)`` with the sum of the singular values as norm: the open ball."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius

    def _share(self, x: Tensor) -> Tensor:
        total: Tensor = torch.linalg.svdvals(x).sum(-1)
        return (total / self.radius)[..., None, None]

    def forward(self, latent: Tensor) -> Tensor:
        """The matrix at these coordinates."""
        return latent / torch.sqrt(1 + self._share(latent).square())

    def right_inverse(self, x: Tensor) -> Tensor:
        """``x / √(1 − ‖x‖²/radius²)``; matrices at the boundary move inside by a hundredth."""
        share = self._share(x)
        inside = torch.where(share > 0.99, 0.99 / share, 1.0)
        return x * inside / torch.sqrt(1 - (share * inside).square())

    def relative_slope(self, latent: Tensor) -> Tensor:
        """The radial slope of each matrix."""
        return ((1 + self._share(latent.detach()).square()) ** -1.5).expand_as(latent)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Shorten matrices that lie too far out."""
        longest = (slope ** (-2 / 3) - 1) ** 0.5
        share = self._share(latent)
        latent.copy_(torch.where(wanted & (share > longest), latent * (longest / share), latent))


class FactorChart(MatrixChart):
    """``Aᵀ B``, with the coordinates ``[A, B]`` of shape ``rank × (rows + columns)``."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.rows: int | None = None

    def forward(self, latent: Tensor) -> Tensor:
        """The product of the factors."""
        if self.rows is None:
            raise RuntimeError("FactorChart learns the number of rows from right_inverse: call that first.")
        return latent[..., : self.rows].mT @ latent[..., self.rows :]

    @torch.no_grad()
    def right_inverse(self, x: Tensor) -> Tensor:
        """Balanced factors; where x has a lower rank, the spare rows of A are small and not 0, so that B moves."""
        self.rows = x.shape[-2]
        left, values, right = _svd(x)
        rank = min(self.rank, values.shape[-1])
        root = values[..., :rank].sqrt()
        largest = root.amax(-1, keepdim=True) if rank else root
        spare = root <= 1e-3 * largest
        first = torch.where(spare, 1e-1 * torch.where(largest > 0, largest, 1.0), root)
        # What a spare row of A gains, B loses: the product stays.
        second = torch.where(spare, values[..., :rank] / first, root)
        factors = torch.cat(
            [left[..., :rank].mT * first.unsqueeze(-1), right[..., :rank, :] * second.unsqueeze(-1)], -1
        )
        padding = x.new_zeros(*x.shape[:-2], self.rank - rank, factors.shape[-1])
        return torch.cat([factors, padding], -2)


FOLD = 1e-3
"""How far below its bound the largest singular value starts: on the fold itself it would not move."""


def _eigh(x: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(x)
    return values, vectors


def _svd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    return left, values, right
