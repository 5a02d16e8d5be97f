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
        values, vectors = torch.linalg.eigh(x / 2 + x.mT / 2)
        above = values - self.min_eig
        if self.width is not None:
            share = (above / self.width).clamp(FLOOR, 1 - 1e-2)
            above = share / (1 - share)
        else:
            largest = above.amax(-1, keepdim=True) if above.shape[-1] else above
            above = torch.maximum(above, FLOOR * torch.where(largest > 0, largest, 1.0))
        if self.kind == "cholesky":
            _, triangle = torch.linalg.qr((vectors * above.sqrt().unsqueeze(-2)).mT)
            sign = torch.where(triangle.diagonal(0, -2, -1) < 0, -1.0, 1.0).to(x)
            return (triangle * sign.unsqueeze(-1)).mT.contiguous()
        return (vectors * above.sqrt().unsqueeze(-2)) @ vectors.mT

    def relative_slope(self, latent: Tensor) -> Tensor:
        """How long the column of a coordinate is, up to 1: a vanished column no longer moves the matrix."""
        length = torch.linalg.vector_norm(self._root(latent.detach()), dim=-2, keepdim=True)
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
