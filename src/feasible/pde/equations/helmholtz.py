"""The Helmholtz equation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from feasible.pde.differentiation import Derivatives, Wanted
from feasible.pde.equations.base import Coefficient, Equation, check_positive, magnitude

__all__ = ["Helmholtz"]


@final
@dataclass(frozen=True, eq=False)
class Helmholtz(Equation):
    """``Δu + k² u = f``, in units of k²; in one dimension a harmonic oscillation of frequency k.

    Args:
        k: the wave number, > 0; a function of ``(x, *inputs)`` where it differs between samples.
        source: f.

    Raises:
        ValueError: k is not positive and finite.

    >>> import torch
    >>> x = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    >>> bool(Helmholtz(k=3.0)(lambda x: torch.sin(3 * x), x).abs().max() < 1e-14)
    True
    """

    k: Coefficient
    source: Coefficient = 0.0
    order = 2
    linear = True

    def __post_init__(self) -> None:
        check_positive(self.name, "k", self.k)

    def wanted(self, dim: int) -> Sequence[Wanted]:
        """The value and the Laplacian."""
        return ("value", "laplacian")

    def raw(self, u: Derivatives, x: Tensor, *inputs: Any) -> Tensor:
        """``Δu + k² u − f``."""
        k = self.coefficient("k", self.k, x, inputs)
        return u.laplacian + k**2 * u.value - self.coefficient("source", self.source, x, inputs)

    def scale(self, x: Tensor, *inputs: Any) -> Tensor | float:
        """k²."""
        return magnitude(self.coefficient("k", self.k, x, inputs)) ** 2
