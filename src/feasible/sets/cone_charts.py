"""Free coordinates for cones of vectors: a free part, and a distance or steps bent to be ≥ 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from feasible.sets.charts import HALF_LINE, Chart
from feasible.sets.units import along, precise_norm

STEPS = tuple(kind for kind in HALF_LINE if kind != "relu")
"""Curves for steps; relu would let many of them die at once."""
RowsMap = Callable[[Tensor], Tensor]


class BentChart(Chart):
    """A chart that bends the last entries of each vector by a curve of the half line and leaves the others."""

    bent_from: ClassVar[int]
    """The first entry that is bent."""

    def __init__(self, kind: str, dim: int | None) -> None:
        super().__init__()
        self.kind = kind
        self.dim = dim

    def _bent(self, rows: Tensor, curve: RowsMap) -> Tensor:
        return torch.cat([rows[..., : self.bent_from], curve(rows[..., self.bent_from :])], dim=-1)

    def relative_slope(self, latent: Tensor) -> Tensor:
        """1 for the free entries, the slope of the curve for the others."""

        def slope(bent: Tensor) -> Tensor:
            with torch.enable_grad():
                at = bent.detach().clone().requires_grad_()
                (slope,) = torch.autograd.grad(HALF_LINE[self.kind].forward(at).sum(), at)
            return slope.abs()

        def slopes(rows: Tensor) -> Tensor:
            return self._bent(torch.ones_like(rows), lambda _: slope(rows[..., self.bent_from :]))

        return along(self.dim, latent.detach(), slopes)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Lift bent entries whose curve is flat."""
        lift = HALF_LINE[self.kind].lift
        lifted = along(self.dim, latent, lambda rows: self._bent(rows, lambda bent: lift(bent, slope)))
        latent.copy_(torch.where(wanted, lifted, latent))

    def _height(self, bent: Tensor) -> Tensor:
        return HALF_LINE[self.kind].forward(bent)

    def _coordinate(self, height: Tensor) -> Tensor:
        curve = HALF_LINE[self.kind]
        return curve.inverse(height.clamp_min(curve.floor / max(height.shape[-1], 1)))

    def extra_repr(self) -> str:
        """The kind of curve."""
        return self.kind


class SecondOrderConeChart(BentChart):
    """``(z, ‖z‖ + φ(s))``."""

    bent_from = -1

    def forward(self, latent: Tensor) -> Tensor:
        """The vectors at these coordinates."""
        return along(self.dim, latent, lambda rows: self._bent(rows, lambda s: _norm(rows) + self._height(s)))

    def right_inverse(self, x: Tensor) -> Tensor:
        """The coordinates of these vectors; those at a boundary that the curve never reaches move inside."""
        return along(self.dim, x, lambda rows: self._bent(rows, lambda t: self._coordinate(t - _norm(rows))))


def _norm(rows: Tensor) -> Tensor:
    return precise_norm(rows[..., :-1], -1, keepdim=True).to(rows.dtype)


class MonotoneChart(BentChart):
    """A first entry, then steps ``φ(z) ≥ 0`` added up (or taken away)."""

    bent_from = 1

    def __init__(self, kind: str, increasing: bool, dim: int | None) -> None:
        super().__init__(kind, dim)
        self.sign = 1.0 if increasing else -1.0

    def forward(self, latent: Tensor) -> Tensor:
        """The vectors with these steps."""

        def climbed(rows: Tensor) -> Tensor:
            heights = torch.cat([self.sign * rows[..., :1], self._height(rows[..., 1:])], dim=-1).cumsum(-1)
            # A sum taken in parallel may fall back by a rounding error.
            return self.sign * heights.cummax(-1).values

        return latent.clone() if latent.numel() == 0 else along(self.dim, latent, climbed)

    def right_inverse(self, x: Tensor) -> Tensor:
        """First entries and steps; steps of 0, where the curve never reaches it, become small ones."""

        def steps(rows: Tensor) -> Tensor:
            return self._bent(rows, lambda _: self._coordinate((self.sign * rows).diff(dim=-1)))

        return along(self.dim, x, steps)
