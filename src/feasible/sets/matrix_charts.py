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
