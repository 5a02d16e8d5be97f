"""Waves of a source in a square."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from feasible import pde
from feasible.workbook.differential.checks import above_zero, at_least, one_of
from feasible.workbook.differential.problems.problem import Posed, ProblemDefinition, Shown
from feasible.workbook.differential.problems.systems import grid_of, rows_of_system
from feasible.workbook.errors import InputError

__all__ = ["HelmholtzSquare"]

SHOWN = 61
"""Nodes of the plots along each side."""


@final
@dataclass(frozen=True)
class HelmholtzSquare(ProblemDefinition):
    """``−Δu − k² u = k² sin kx sin ky`` on the unit square, 0 on its boundary; the solution is ``sin kx sin ky``.

    Args:
        k: the wave number, a multiple of π, so that the solution is 0 on the boundary.
        points: collocation points along each side.
        boundary: ``"built-in"``: the network is multiplied by ``x(1 − x) y(1 − y)``; ``"rows"``: as conditions.
        test_points: where the solution is compared, along each side.

    Raises:
        InputError: a number is out of its range.

    Source: DeepXDE, *Helmholtz equation over a 2D square domain* (its documentation).
    """

    k: float = 4 * math.pi
    points: int = 24
    boundary: Literal["built-in", "rows"] = "built-in"
    test_points: int = 101

    def __post_init__(self) -> None:
        above_zero(self, "k")
        at_least(self, points=2, test_points=2)
        one_of(self, "boundary", ("built-in", "rows"))
        if abs(math.sin(self.k)) > 1e-6:
            raise InputError(
                f"k must be a multiple of π, got {self.k}: sin kx is not 0 at x = 1.", key=("k",)
            )

    def make(self, seed: int) -> Posed:
        """The same points for all seeds."""
        square = pde.Rectangle((0.0, 0.0), (1.0, 1.0))
        edges = [pde.Dirichlet(square, part, 0.0) for part in square.parts]
        is_built_in = self.boundary == "built-in"
        system = pde.System(
            pde.Helmholtz(self.k, source=lambda x: -(self.k**2) * self.solution(x)),
            square,
            [] if is_built_in else edges,
            points=pde.grid(square, self.points, dtype=torch.float64),
        )
        rows, held_out = rows_of_system(system, seed)
        test = pde.grid(square, self.test_points, dtype=torch.float64)
        nodes = torch.linspace(0, 1, SHOWN, dtype=torch.float64)
        shown = grid_of(square, nodes, nodes)

        def built_in(network: nn.Module) -> nn.Module:
            return pde.hard(network, *edges) if is_built_in else network

        return Posed(
            rows, held_out, (test,), self.solution(test), square,
            Shown((shown,), [("x", nodes), ("y", nodes)], self.solution(shown)),
            is_linear=True, built_in=built_in,
        )  # fmt: skip

    def solution(self, x: Tensor, *inputs: Tensor) -> Tensor:
        """``sin kx sin ky``."""
        return torch.sin(self.k * x[:, :1]) * torch.sin(self.k * x[:, 1:])
