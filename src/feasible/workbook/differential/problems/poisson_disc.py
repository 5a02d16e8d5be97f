"""A potential on a disc."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible import pde
from feasible.workbook.differential.checks import above_zero, at_least
from feasible.workbook.differential.problems.problem import Posed, ProblemDefinition, Shown
from feasible.workbook.differential.problems.systems import rows_of_system

__all__ = ["PoissonDisc"]

UNIT = 36.0
"""Of the source: its largest factor."""
SHOWN = 41
"""Nodes of the plots, by radius and by angle."""


@final
@dataclass(frozen=True)
class PoissonDisc(ProblemDefinition):
    """``Δu = f`` with ``u`` given on the circle; the solution is ``eˣ sin y + cos 3(x² + y²)``.

    Args:
        radius: of the disc around 0.
        points: collocation points (Sobol).
        circle_points: of the condition.
        test_points: where the solution is compared (Sobol, others).

    Raises:
        InputError: a number is out of its range.
    """

    radius: float = 1.0
    points: int = 400
    circle_points: int = 64
    test_points: int = 5000

    def __post_init__(self) -> None:
        above_zero(self, "radius")
        at_least(self, points=2, circle_points=2, test_points=2)

    def make(self, seed: int) -> Posed:
        """Each seed has its own collocation points."""
        disc = pde.Disc(radius=self.radius)
        around = pde.grid(disc, self.circle_points, "circle", dtype=torch.float64)
        system = pde.System(
            pde.Poisson(source=_source),
            disc,
            [pde.Dirichlet(disc, "circle", self.solution, at=around)],
            points=pde.sobol(disc, self.points, seed=seed, dtype=torch.float64),
        )
        rows, held_out = rows_of_system(system, seed, unit=UNIT)
        test = pde.sobol(disc, self.test_points, seed=1_000_003, dtype=torch.float64)
        radii = torch.linspace(0, self.radius, SHOWN, dtype=torch.float64)
        angles = torch.linspace(-math.pi, math.pi, SHOWN, dtype=torch.float64)
        polar = torch.cartesian_prod(radii, angles)
        shown = polar[:, :1] * torch.stack([polar[:, 1].cos(), polar[:, 1].sin()], 1)
        axes = [("radius", radii), ("angle", angles)]
        return Posed(
            rows, held_out, (test,), self.solution(test), disc,
            Shown((shown,), axes, self.solution(shown)), is_linear=True,
        )  # fmt: skip

    def solution(self, x: Tensor, *inputs: Tensor) -> Tensor:
        """``eˣ sin y + cos 3(x² + y²)``."""
        return x[:, :1].exp() * x[:, 1:].sin() + torch.cos(3 * _squared_radius(x))


def _source(x: Tensor) -> Tensor:
    # eˣ sin y is harmonic; Δ cos 3s = −12 sin 3s − 36 s cos 3s for s = x² + y²
    s = _squared_radius(x)
    return -12 * torch.sin(3 * s) - 36 * s * torch.cos(3 * s)


def _squared_radius(x: Tensor) -> Tensor:
    return (x**2).sum(1, keepdim=True)
