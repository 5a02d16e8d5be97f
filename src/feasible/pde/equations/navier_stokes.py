"""The steady Navier–Stokes equations of an incompressible fluid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from feasible.pde.differentiation import Derivatives, Wanted
from feasible.pde.equations.base import Coefficient, Equation, at_least_one, check_positive

__all__ = ["SteadyNavierStokes"]


@final
@dataclass(frozen=True, eq=False)
class SteadyNavierStokes(Equation):
    """``(w·∇)w + ∇p = ν Δw``, ``∇·w = 0`` for a velocity w and a pressure p, on two coordinates: outputs u, v, p.

    The pressure is determined up to a constant: anchor it at a point.

    Args:
        viscosity: ν, > 0; one over the Reynolds number.

    Raises:
        ValueError: the viscosity is not positive and finite.

    >>> import torch
    >>> flow = lambda x: torch.stack([1 - x[:, 1] ** 2, 0 * x[:, 0], -2 * 0.1 * x[:, 0]], 1)
    >>> SteadyNavierStokes(viscosity=0.1)(flow, torch.rand(5, 2, dtype=torch.float64)).abs().max() < 1e-12
    tensor(True)
    """

    viscosity: Coefficient
    order = 2
    linear = False
    outputs = 3

    def __post_init__(self) -> None:
        check_positive(self.name, "viscosity", self.viscosity)

    def wanted(self, dim: int) -> Sequence[Wanted]:
        """The gradient and the Laplacian of each output."""
        if dim != 2:
            raise ValueError(f"SteadyNavierStokes: expected x with two columns, got {dim}.")
        return ("gradient", "laplacian")

    def raw(self, u: Derivatives, x: Tensor, *inputs: Any) -> Tensor:
        """Two equations of momentum and one of mass, (n, 3)."""
        viscosity = self.coefficient("viscosity", self.viscosity, x, inputs)
        velocity, slopes = u.value[:, :2], u.gradient
        carried = (slopes[:, :2] * velocity[:, None]).sum(2)
        momentum = carried + slopes[:, 2] - viscosity * u.laplacian[:, :2]
        mass = slopes[:, 0, :1] + slopes[:, 1, 1:]
        return torch.cat([momentum, mass], 1)

    def scale(self, x: Tensor, *inputs: Any) -> Tensor | float:
        """The larger of 1 and ν for momentum, 1 for mass."""
        size = at_least_one(self.coefficient("viscosity", self.viscosity, x, inputs))
        momentum = torch.as_tensor(size, dtype=x.dtype, device=x.device).reshape(-1, 1)
        return torch.cat([momentum, momentum, torch.ones_like(momentum)], 1)
