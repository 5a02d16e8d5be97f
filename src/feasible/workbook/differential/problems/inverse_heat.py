"""How well a rod conducts heat, found from a few thermometers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from feasible import pde
from feasible.sets import NonNegative
from feasible.workbook.differential.checks import above_zero, at_least
from feasible.workbook.differential.problems.problem import Posed, ProblemDefinition, Shown, Unknown
from feasible.workbook.differential.problems.systems import grid_of
from feasible.workbook.differential.rows import Columns, Rows
from feasible.workbook.errors import InputError

__all__ = ["InverseHeat"]

HELD_OUT = 1000
SHOWN = (61, 41)
"""Nodes of the plots in place and time."""


@final
@dataclass(frozen=True)
class InverseHeat(ProblemDefinition):
    """``u_t = κ u_xx`` on [0, 1] × [0, 1] with an unknown κ ≥ 0, and noisy values of u at some sensors.

    The ends are held at 0, and the start is known: ``u = Σ aₙ sin nπx``. So the solution is
    ``Σ aₙ exp(−κ n²π² t) sin nπx``; it and κ are to be found from the measured values.

    Args:
        diffusivity: κ, the truth.
        guess: of κ, where the search starts.
        modes: a₁, a₂, …
        sensors: places that are measured.
        times: how often each of them is, equally spaced until the end.
        noise: standard deviation of the measured values.
        points: collocation points (Sobol).
        condition_points: of the start and of each end.
        test_points: where the solution is compared, along each axis.

    Raises:
        InputError: a number is out of its range, or a sensor is outside.
    """

    diffusivity: float = 0.1
    guess: float = 1.0
    modes: tuple[float, ...] = (1.0, 0.0, 0.5)
    sensors: tuple[float, ...] = (0.2, 0.5, 0.7)
    times: int = 40
    noise: float = 0.01
    points: int = 300
    condition_points: int = 33
    test_points: int = 101

    def __post_init__(self) -> None:
        above_zero(self, "diffusivity", "guess")
        at_least(self, times=1, noise=0, points=2, condition_points=2, test_points=2)
        if not any(self.modes):
            raise InputError("modes must not all be 0: where u = 0 nothing can be measured.", key=("modes",))
        if not self.sensors or not all(0 < place < 1 for place in self.sensors):
            raise InputError(f"sensors must be places in (0, 1), got {list(self.sensors)}.", key=("sensors",))

    def make(self, seed: int) -> Posed:
        """Each seed has its own noise and collocation points."""
        domain = pde.TimeCylinder(pde.Interval(0.0, 1.0), 0.0, 1.0)
        conditions = [
            pde.Initial(domain, "start", self._start, at=self._at(domain, "start")),
            pde.Dirichlet(domain, "left", 0.0, at=self._at(domain, "left")),
            pde.Dirichlet(domain, "right", 0.0, at=self._at(domain, "right")),
        ]

        def draw(count: int, generator: torch.Generator) -> Columns:
            return (pde.uniform(domain, count, generator=generator, dtype=torch.float64),)

        inside = pde.sobol(domain, self.points, seed=seed, dtype=torch.float64)
        rows = [
            Rows("thermometers", "data", _misfit, self.measured(seed)),
            Rows("equation", "equation", _conduction, (inside,), draw),
            *(Rows(each.name, "condition", each.residual, (each.points(),)) for each in conditions),
        ]
        held_out = rows[1].redrawn(torch.Generator().manual_seed(1_000_003 + seed), HELD_OUT)
        test = pde.grid(domain, self.test_points, dtype=torch.float64)
        places, times = (torch.linspace(0, 1, count, dtype=torch.float64) for count in SHOWN)
        shown = grid_of(domain, places, times)
        return Posed(
            rows, held_out, (test,), self.solution(test), domain,
            Shown((shown,), [("x", places), ("t", times)], self.solution(shown)),
            is_linear=False,
            built_in=lambda network: Conducting(network, self.guess),
            unknowns={"diffusivity": Unknown(self.diffusivity, NonNegative())},
        )  # fmt: skip

    def measured(self, seed: int) -> tuple[Tensor, Tensor]:
        """Places and times, (n, 2), and the noisy values there, (n, 1)."""
        generator = torch.Generator().manual_seed(seed)
        places = torch.tensor(self.sensors, dtype=torch.float64)
        times = torch.linspace(0, 1, self.times + 1, dtype=torch.float64)[1:]
        x = torch.cartesian_prod(places, times)
        noise = torch.randn(len(x), 1, generator=generator, dtype=torch.float64)
        return x, self.solution(x) + self.noise * noise

    def solution(self, x: Tensor, *inputs: Tensor) -> Tensor:
        """The series."""
        value = torch.zeros_like(x[:, :1])
        for n, factor in enumerate(self.modes, start=1):
            decay = torch.exp(-self.diffusivity * (n * math.pi) ** 2 * x[:, 1:])
            value = value + factor * decay * torch.sin(n * math.pi * x[:, :1])
        return value

    def _start(self, x: Tensor) -> Tensor:
        return self.solution(torch.cat([x[:, :1], torch.zeros_like(x[:, :1])], 1))

    def _at(self, domain: pde.Domain, part: str) -> Tensor:
        return pde.grid(domain, self.condition_points, part, dtype=torch.float64)


class Conducting(nn.Module):
    """A network, and how well what it describes conducts heat.

    Args:
        network: u.
        guess: of the diffusivity.
    """

    def __init__(self, network: nn.Module, guess: float) -> None:
        super().__init__()
        self.network = network
        self.diffusivity = nn.Parameter(torch.tensor(guess, dtype=next(network.parameters()).dtype))

    def forward(self, x: Tensor) -> Tensor:
        """The network's."""
        value: Tensor = self.network(x)
        return value


def _conduction(model: Any, x: Tensor) -> Tensor:
    return pde.Heat(diffusivity=model.diffusivity)(model, x)


def _misfit(model: Any, x: Tensor, values: Tensor) -> Tensor:
    difference: Tensor = model(x) - values
    return difference
