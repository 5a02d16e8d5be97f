"""The wave equation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from feasible.pde.differentiation import Derivatives, Wanted
from feasible.pde.differentiation.jets import laplacian
from feasible.pde.equations.base import Coefficient, Equation, at_least_one, check_positive, space_and_time

__all__ = ["Wave"]


@final
@dataclass(frozen=True, eq=False)
class Wave(Equation):
    """``u_tt = c² Δu + f``, the Laplacian over space; the last column of x is time.

    Args:
        speed: c, > 0.
        source: f.

    Raises:
        ValueError: the speed is not positive and finite.

    >>> import torch
    >>> x = torch.rand(5, 2, dtype=torch.float64)
    >>> u = lambda x: torch.sin(x[:, 0] - x[:, 1])
    >>> bool(Wave(speed=1.0)(u, x).abs().max() < 1e-13)
    True
    """

    speed: Coefficient
    source: Coefficient = 0.0
    order = 2
    linear = True

    def __post_init__(self) -> None:
        check_positive(self.name, "speed", self.speed)

    def wanted(self, dim: int) -> Sequence[Wanted]:
        """The derivative by time and the Laplacian over space."""
        space, last = space_and_time(self.name, dim), dim - 1
        return ("value", (last, last), laplacian(space))

    def raw(self, u: Derivatives, x: Tensor, *inputs: Any) -> Tensor:
        """``u_tt − c² Δu − f``."""
        space, last = space_and_time(self.name, u.dim), u.dim - 1
        speed = self.coefficient("speed", self.speed, x, inputs)
        source = self.coefficient("source", self.source, x, inputs)
        return u.partial((last, last)) - speed**2 * u.laplacian_over(space) - source

    def scale(self, x: Tensor, *inputs: Any) -> Tensor | float:
        """The larger of 1 and c²."""
        return at_least_one(self.coefficient("speed", self.speed, x, inputs)) ** 2
