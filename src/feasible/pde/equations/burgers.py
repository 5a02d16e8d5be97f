"""Burgers' equation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from feasible.pde.differentiation import Derivatives, Wanted
from feasible.pde.equations.base import Coefficient, Equation, at_least_one, check_positive

__all__ = ["Burgers"]


@final
@dataclass(frozen=True, eq=False)
class Burgers(Equation):
    """``u_t + u u_x = ν u_xx + f``; the columns of x are place and time.

    Args:
        viscosity: ν, > 0.
        source: f.

    Raises:
        ValueError: the viscosity is not positive and finite.

    >>> import torch
    >>> x = torch.rand(5, 2, dtype=torch.float64)
    >>> front = lambda x: 1 - torch.tanh((x[:, 0] - x[:, 1]) / (2 * 0.1))
    >>> bool(Burgers(viscosity=0.1)(front, x).abs().max() < 1e-12)
    True
    """

    viscosity: Coefficient
    source: Coefficient = 0.0
    order = 2
    linear = False

    def __post_init__(self) -> None:
        check_positive(self.name, "viscosity", self.viscosity)

    def wanted(self, dim: int) -> Sequence[Wanted]:
        """u, u_x, u_t, u_xx."""
        if dim != 2:
            raise ValueError(f"Burgers: expected x with two columns, place and time; got {dim}.")
        return ("value", (0, 0), (1,))

    def raw(self, u: Derivatives, x: Tensor, *inputs: Any) -> Tensor:
        """``u_t + u u_x − ν u_xx − f``."""
        viscosity = self.coefficient("viscosity", self.viscosity, x, inputs)
        source = self.coefficient("source", self.source, x, inputs)
        transport = u.partial((1,)) + u.value * u.partial((0,))
        return transport - viscosity * u.partial((0, 0)) - source

    def scale(self, x: Tensor, *inputs: Any) -> Tensor | float:
        """The larger of 1 and ν."""
        return at_least_one(self.coefficient("viscosity", self.viscosity, x, inputs))
