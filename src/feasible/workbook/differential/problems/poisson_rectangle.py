"""The temperature of a plate with a hot spot: some edges are held, the others let heat through or do not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import final

import numpy as np
import torch
from torch import Tensor

from feasible import pde
from feasible.workbook.differential.checks import above_zero, at_least
from feasible.workbook.differential.problems.chebyshev import coefficients, points_and_slopes, series
from feasible.workbook.differential.problems.problem import Posed, ProblemDefinition, Shown
from feasible.workbook.differential.problems.systems import grid_of, rows_of_system

__all__ = ["PoissonRectangle"]

CENTRE = (0.5, 0.6)
"""Of the spot."""
DEGREE = 64
"""Of the reference along each side; twice as many change it by less than 1e-9."""
SHOWN = 61
"""Nodes of the plots along each side."""


@final
@dataclass(frozen=True)
class PoissonRectangle(ProblemDefinition):
    """``Δu = −h exp(−‖x − c‖²/2w²)`` on the unit square, c = (0.5, 0.6).

    ``u = 0`` on the left and on the right, ``∂u/∂n = 0`` at the bottom and ``∂u/∂n = sin πx`` at the top. There is no
    closed form: the reference is the polynomial of degree 64 in x and in y that satisfies the equation at Chebyshev's
    points.

    Args:
        height: h, of the source.
        width: w; a spot narrower than 0.07 is too narrow for the reference.
        points: collocation points (Sobol).
        edge_points: of the condition on each edge.
        test_points: where the solution is compared, along each side.

    Raises:
        InputError: a number is out of its range.
    """

    height: float = 50.0
    width: float = 0.1
    points: int = 500
    edge_points: int = 33
    test_points: int = 101

    def __post_init__(self) -> None:
        above_zero(self, "height")
        at_least(self, width=0.07, points=2, edge_points=2, test_points=2)

    def make(self, seed: int) -> Posed:
        """Each seed has its own collocation points."""
        square = pde.Rectangle((0.0, 0.0), (1.0, 1.0))

        def edge(part: str) -> Tensor:
            return pde.grid(square, self.edge_points, part, dtype=torch.float64)

        left, right, bottom, top = square.parts
        system = pde.System(
            pde.Poisson(source=self._source),
            square,
            [
                pde.Dirichlet(square, left, 0.0, at=edge(left)),
                pde.Dirichlet(square, right, 0.0, at=edge(right)),
                pde.Neumann(square, bottom, 0.0, at=edge(bottom)),
                pde.Neumann(square, top, lambda x: torch.sin(math.pi * x[:, :1]), at=edge(top)),
            ],
            points=pde.sobol(square, self.points, seed=seed, dtype=torch.float64),
        )
        rows, held_out = rows_of_system(system, seed, unit=self.height)
        test = pde.grid(square, self.test_points, dtype=torch.float64)
        nodes = torch.linspace(0, 1, SHOWN, dtype=torch.float64)
        shown = grid_of(square, nodes, nodes)
        return Posed(
            rows, held_out, (test,), self.solution(test), square,
            Shown((shown,), [("x", nodes), ("y", nodes)], self.solution(shown)), is_linear=True,
        )  # fmt: skip

    def solution(self, x: Tensor, *inputs: Tensor) -> Tensor:
        """The polynomial."""
        factors = _polynomial(self.height, self.width, DEGREE).to(x)
        return series(2 * x[:, :1] - 1, 2 * x[:, 1:] - 1, factors)

    def _source(self, x: Tensor) -> Tensor:
        square = (x[:, :1] - CENTRE[0]) ** 2 + (x[:, 1:] - CENTRE[1]) ** 2
        return -self.height * torch.exp(-square / (2 * self.width**2))


@cache
def _polynomial(height: float, width: float, degree: int) -> Tensor:
    """Coefficients of the solution, by collocation at Chebyshev's points; values at the ends are eliminated."""
    import scipy.linalg

    nodes, slopes = points_and_slopes(degree)
    nodes, slopes = (nodes + 1) / 2, 2 * slopes
    curves, inner, ends = slopes @ slopes, slice(1, degree), [0, degree]
    x, y = nodes[inner, None], nodes[None, inner]
    source = -height * np.exp(-((x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2) / (2 * width**2))
    # The slopes at the ends in y, S_ee v_e + S_ei v_i = g, give the values there from those inside.
    solve_ends = np.linalg.inv(slopes[np.ix_(ends, ends)])
    from_inner = -solve_ends @ slopes[ends, inner]
    given = solve_ends @ np.array([np.zeros(degree - 1), np.sin(np.pi * nodes[inner])])
    across = curves[inner, ends] @ from_inner + curves[inner, inner]
    right = source - (curves[inner, ends] @ given).T
    values = np.zeros((degree + 1, degree + 1))
    values[inner, inner] = scipy.linalg.solve_sylvester(curves[inner, inner], across.T, right)
    values[inner, ends] = values[inner, inner] @ from_inner.T + given.T
    return torch.from_numpy(coefficients(values))
