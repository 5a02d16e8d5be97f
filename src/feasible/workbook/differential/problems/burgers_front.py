"""A wave that steepens into a front."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor, nn

from feasible import pde
from feasible.workbook.differential.checks import at_least, one_of
from feasible.workbook.differential.problems.problem import Posed, ProblemDefinition, Shown
from feasible.workbook.differential.problems.systems import rows_of_system

__all__ = ["BurgersFront"]

NODES = 200
"""Of the quadrature."""
SHOWN = (129, 41)
"""Nodes of the plots in place and time."""
LEAST_VISCOSITY = 0.002
START_WEIGHT = 10.0
"""Of the start beside the equation, where it is a condition alone: what it misses stays for all times."""


@final
@dataclass(frozen=True)
class BurgersFront(ProblemDefinition):
    """``u_t + u u_x = ν u_xx`` on [−1, 1] × [0, 1], ``u = −sin πx`` at the start and 0 at the ends.

    The reference is Cole's and Hopf's integral, by Gauss–Hermite quadrature.

    Args:
        viscosity: ν.
        points: collocation points (Sobol).
        conditions: ``"built-in"``: the network is made to satisfy start and ends; ``"rows"``: as conditions;
            ``"odd"``: the network is made odd in x and zero at the ends, so that the right half is enough, and the
            start is a condition.
        condition_points: for each of them, where they are rows.
        test_points: where the solution is compared, in place; 100 times from 0 to 1.

    Raises:
        InputError: a number is out of its range.

    Source: Cole, *On a quasi-linear parabolic equation occurring in aerodynamics* (1951); Hopf (1950); Basdevant et
    al., *Spectral and finite difference solutions of the Burgers equation* (1986), for the problem.
    """

    viscosity: float = 0.01 / math.pi
    points: int = 2000
    conditions: Literal["built-in", "rows", "odd"] = "built-in"
    condition_points: int = 101
    test_points: int = 257

    def __post_init__(self) -> None:
        at_least(self, viscosity=LEAST_VISCOSITY, points=2, condition_points=2, test_points=2)
        one_of(self, "conditions", ("built-in", "rows", "odd"))

    def make(self, seed: int) -> Posed:
        """Each seed has its own collocation points."""
        is_odd, is_built_in = self.conditions == "odd", self.conditions == "built-in"
        domain = pde.TimeCylinder(pde.Interval(0.0 if is_odd else -1.0, 1.0), 0.0, 1.0)

        def at(part: str) -> Tensor:
            return pde.grid(domain, self.condition_points, part, dtype=torch.float64)

        start = pde.Initial(domain, "start", _start, at=at("start"))
        ends = [pde.Dirichlet(domain, end, 0.0, at=at(end)) for end in ("left", "right")]
        as_rows: dict[str, list[pde.Condition]] = {"built-in": [], "rows": [start, *ends], "odd": [start]}
        system = pde.System(
            pde.Burgers(viscosity=self.viscosity),
            domain,
            as_rows[self.conditions],
            points=pde.sobol(domain, self.points, seed=seed, dtype=torch.float64),
            weights=[1.0, START_WEIGHT] if is_odd else None,
        )
        rows, held_out = rows_of_system(system, seed)
        test = _grid(self.test_points, 101)
        places, times = _nodes(*SHOWN)
        shown = _grid(*SHOWN)

        def built_in(network: nn.Module) -> nn.Module:
            if is_odd:
                return Odd(network)
            return pde.hard(network, start, *ends) if is_built_in else network

        return Posed(
            rows, held_out, (test,), self.solution(test), domain,
            Shown((shown,), [("x", places), ("t", times)], self.solution(shown)),
            is_linear=False, built_in=built_in, system=None if is_built_in else system,
        )  # fmt: skip

    def solution(self, x: Tensor, *inputs: Tensor) -> Tensor:
        r"""``−∫ sin π(x − η) w dη / ∫ w dη`` with ``w = exp(−cos π(x − η)/2πν − η²/4νt)``."""
        nodes, weights = np.polynomial.hermite.hermgauss(NODES)
        z, logarithms = torch.from_numpy(nodes).to(x), torch.from_numpy(np.log(weights)).to(x)
        place = x[:, :1] - 2 * (self.viscosity * x[:, 1:]).sqrt() * z
        exponents = logarithms - torch.cos(math.pi * place) / (2 * math.pi * self.viscosity)
        shares = torch.exp(exponents - exponents.detach().amax(1, keepdim=True))
        return -(shares * torch.sin(math.pi * place)).sum(1, keepdim=True) / shares.sum(1, keepdim=True)


def _start(x: Tensor) -> Tensor:
    return -torch.sin(math.pi * x[:, :1])


def _nodes(places: int, times: int) -> tuple[Tensor, Tensor]:
    return (
        torch.linspace(-1, 1, places, dtype=torch.float64),
        torch.linspace(0, 1, times, dtype=torch.float64),
    )


def _grid(places: int, times: int) -> Tensor:
    return torch.cartesian_prod(*_nodes(places, times))


@final
class Odd(nn.Module):
    """``(1 − x²) (N(x, s) − N(−x, s))`` with s = 2t − 1: odd in x, and zero at −1, 0 and 1, for all weights.

    Args:
        network: N.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """The solution at points (x, t)."""
        place, time = x[:, :1], 2 * x[:, 1:] - 1
        right, left = (self.network(torch.cat([side, time], 1)) for side in (place, -place))
        value: Tensor = (1 - place**2) * (right - left)
        return value
