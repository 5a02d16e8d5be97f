"""An oscillation with a source on a line."""

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

__all__ = ["HelmholtzLine"]


@final
@dataclass(frozen=True)
class HelmholtzLine(ProblemDefinition):
    """``u″ + k² u = f`` on [0, 1] with ``u(0)`` and ``u′(1)`` given; the solution is ``(1 + x) sin kx + x²``.

    Args:
        k: the wave number.
        points: collocation points.
        test_points: where the solution is compared, equally spaced.
    """

    k: float = 4 * math.pi
    points: int = 200
    test_points: int = 1001

    def __post_init__(self) -> None:
        above_zero(self, "k")
        at_least(self, points=2, test_points=2)

    def make(self, seed: int) -> Posed:
        """The same points for all seeds."""
        line = pde.Interval(0.0, 1.0)
        system = pde.System(
            pde.Helmholtz(self.k, source=self._source),
            line,
            [
                pde.Dirichlet(line, "left", 0.0),
                pde.Neumann(line, "right", self._slope(1.0), scale=self.k),
            ],
            points=pde.grid(line, self.points, dtype=torch.float64),
        )
        x = pde.grid(line, self.test_points, dtype=torch.float64)
        rows, held_out = rows_of_system(system, seed)
        shown = Shown((x,), [("x", x[:, 0])], self.solution(x))
        return Posed(rows, held_out, (x,), self.solution(x), line, shown, is_linear=True)

    def solution(self, x: Tensor, *inputs: Tensor) -> Tensor:
        """``(1 + x) sin kx + x²``."""
        return (1 + x) * torch.sin(self.k * x) + x**2

    def _source(self, x: Tensor) -> Tensor:
        # u″ = 2k cos kx − (1 + x) k² sin kx + 2
        return 2 * self.k * torch.cos(self.k * x) + 2 + self.k**2 * x**2

    def _slope(self, x: float) -> float:
        return math.sin(self.k * x) + (1 + x) * self.k * math.cos(self.k * x) + 2 * x
