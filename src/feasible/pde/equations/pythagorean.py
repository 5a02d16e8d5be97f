"""The Pythagorean identity of harmonic oscillations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from feasible.pde.differentiation import Derivatives, Wanted
from feasible.pde.equations.base import Coefficient, Equation, check_positive, magnitude

__all__ = ["Pythagorean"]


@final
@dataclass(frozen=True, eq=False)
class Pythagorean(Equation):
    """``(k u)² + (u′)² = (A k)²``, in units of ``(A k)²``: sin² + cos² = 1 for ``u = A sin(k x + φ)``.

    The constants ±A solve it too: give anchors or initial values, see ``System.diagnose``.

    Args:
        k: the frequency, > 0; a function of ``(x, *inputs)`` where it differs between samples.
        amplitude: A, > 0.

    Raises:
        ValueError: a number is not positive and finite.

    >>> import torch
    >>> x = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    >>> bool(Pythagorean(k=3.0, amplitude=2.0)(lambda x: 2 * torch.sin(3 * x), x).abs().max() < 1e-14)
    True
    """

    k: Coefficient
    amplitude: Coefficient = 1.0
    order = 1
    linear = False

    def __post_init__(self) -> None:
        check_positive(self.name, "k", self.k)
        check_positive(self.name, "amplitude", self.amplitude)

    def wanted(self, dim: int) -> Sequence[Wanted]:
        """The value and the gradient."""
        return ("value", "gradient")

    def raw(self, u: Derivatives, x: Tensor, *inputs: Any) -> Tensor:
        """``(k u)² + |∇u|² − (A k)²``."""
        k = self.coefficient("k", self.k, x, inputs)
        amplitude = self.coefficient("amplitude", self.amplitude, x, inputs)
        return (k * u.value) ** 2 + u.gradient.square().sum(2) - (amplitude * k) ** 2

    def scale(self, x: Tensor, *inputs: Any) -> Tensor | float:
        """``(A k)²``."""
        k = magnitude(self.coefficient("k", self.k, x, inputs))
        return (magnitude(self.coefficient("amplitude", self.amplitude, x, inputs)) * k) ** 2
