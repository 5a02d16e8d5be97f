"""All rows as one nonlinear least-squares problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import nn

import feasible as fs
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.differential.rows import stacked
from feasible.workbook.differential.ways.way import Solved, Way

__all__ = ["LeastSquares"]


@final
@dataclass(frozen=True)
class LeastSquares(Way):
    """Levenberg–Marquardt iterations on data, equation and conditions, on all layers.

    Args:
        weight: of the equation and condition rows beside the data; 0: data alone.
        redraw: iterations after which rows that can be drawn anew are; ``None``: never.
        data_rows: how many of the data are drawn; ``None``: all of them.
        equation_rows: how many rows of the equation are drawn; ``None``: as many as the problem has.
    """

    weight: float = 1.0
    redraw: int | None = None
    data_rows: int | None = None
    equation_rows: int | None = None

    def solve(self, posed: Posed, network: nn.Module, monitor: Monitor, generator: torch.Generator) -> Solved:
        """Iterations until the budget is used up, or nothing falls any more."""
        optimizer = fs.optim.LevenbergMarquardt(network.parameters())
        counts = {"data": self.data_rows, "equation": self.equation_rows, "condition": None}
        kinds = [rows for rows in posed.rows if rows.kind == "data" or self.weight]
        rows = [one.redrawn(generator, counts[one.kind]) for one in kinds]
        weights = [1.0 if one.kind == "data" else self.weight for one in kinds]
        for iteration in monitor.epochs(network):
            if self.redraw is not None and iteration % self.redraw == 0:
                rows = [one.redrawn(generator, counts[one.kind]) for one in kinds]
            with monitor.section("iteration"):
                optimizer.step(lambda: stacked(rows, network, weights))  # noqa: B023  # called at once
            last = optimizer.last
            if last is not None and last.converged and self.redraw is None:
                monitor.look(network, iteration)
                return Solved(network, "converged")
        return Solved(network, "used up its budget")
