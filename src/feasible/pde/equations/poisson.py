"""Poisson's equation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from feasible.pde.differentiation import Derivatives, Wanted
from feasible.pde.equations.base import Coefficient, Equation

__all__ = ["Poisson"]


@final
@dataclass(frozen=True, eq=False)
class Poisson(Equation):
    """``Δu = f``.

    Args:
        source: f.

    >>> import torch
    >>> x = torch.rand(5, 2)
    >>> bool(Poisson(source=4.0)(lambda x: (x**2).sum(1), x).abs().max() < 1e-6)
    True
    """

    source: Coefficient = 0.0
    order = 2
    linear = True

    def wanted(self, dim: int) -> Sequence[Wanted]:
        """The value and the Laplacian."""
        return ("value", "laplacian")

    def raw(self, u: Derivatives, x: Tensor, *inputs: Any) -> Tensor:
        """``Δu − f``."""
        return u.laplacian - self.coefficient("source", self.source, x, inputs)

    def scale(self, x: Tensor, *inputs: Any) -> Tensor | float:
        """The size of a source that is one number, else 1."""
        if isinstance(self.source, (int, float)) and self.source:
            return abs(float(self.source))
        return 1.0
