"""All rows as one nonlinear least-squares problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

import feasible as fs
from feasible.workbook.differential.checks import at_least
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.differential.rows import Rows, stacked
from feasible.workbook.differential.ways.way import Solved, Way

__all__ = ["LeastSquares"]


@final
@dataclass(frozen=True)
class LeastSquares(Way):
    """Levenberg–Marquardt iterations on data, equation and conditions, on all layers.

    Unknown coefficients are held in their sets by the optimizer.

    Args:
        weight: of the equation and condition rows beside the data; 0: data alone.
        redraw: iterations after which rows that can be drawn anew are; ``None``: never.
        adaptive: whether the equation's rows are then drawn where its residual is large (half of them evenly).
        data_rows: how many of the data are drawn; ``None``: all of them.
        equation_rows: how many rows of the equation are drawn; ``None``: as many as the problem has.
        eliminate: whether the last layer is eliminated from every step (variable projection).

    Raises:
        InputError: a number is out of its range.
    """

    weight: float = 1.0
    redraw: int | None = None
    adaptive: bool = False
    data_rows: int | None = None
    equation_rows: int | None = None
    eliminate: bool = False

    def __post_init__(self) -> None:
        at_least(self, weight=0, redraw=1, data_rows=1, equation_rows=1)

    def solve(self, posed: Posed, network: nn.Module, monitor: Monitor, generator: torch.Generator) -> Solved:
        """Iterations until the budget is used up, or nothing falls any more."""
        sets: dict[torch.Tensor, fs.Set] = {
            network.get_parameter(name): unknown.set for name, unknown in posed.unknowns.items()
        }
        optimizer = fs.optim.LevenbergMarquardt(self._groups(network), sets=sets)
        kinds = [rows for rows in posed.rows if rows.kind == "data" or self.weight]
        if not kinds:
            raise ValueError(
                "LeastSquares: with weight = 0 there is nothing to fit: the problem has no data."
            )
        weights = [1.0 if rows.kind == "data" else self.weight for rows in kinds]
        drawn = self._drawn(kinds, network, generator, is_first=True)
        for iteration in monitor.epochs(network):
            if self.redraw is not None and iteration > 1 and (iteration - 1) % self.redraw == 0:
                drawn = self._drawn(kinds, network, generator, is_first=False)
            with monitor.section("iteration"):
                optimizer.step(lambda: stacked(drawn, network, weights))  # noqa: B023  # called at once
            last = optimizer.last
            if last is not None and last.converged and self.redraw is None:
                monitor.look(network, iteration)
                return Solved(network, "converged")
        return Solved(network, "used up its budget")

    def _groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """All parameters, or the last layer for itself."""
        if not self.eliminate:
            return [{"params": list(network.parameters())}]
        named = list(network.named_parameters())
        return [
            {"params": [p for name, p in named if ("readout" in name) == is_last], "linear": is_last}
            for is_last in (False, True)
        ]

    def _drawn(
        self, kinds: Sequence[Rows], network: nn.Module, generator: torch.Generator, *, is_first: bool
    ) -> list[Rows]:
        """The rows of the next iterations; the first ones are the problem's own, unless there are to be fewer."""
        counts = {"data": self.data_rows, "equation": self.equation_rows, "condition": None}

        def of(rows: Rows) -> Rows:
            count = counts[rows.kind]
            if is_first and count is None:
                return rows
            if not is_first and self.adaptive and rows.kind == "equation":
                return rows.adapted(network, generator, count)
            return rows.redrawn(generator, count)

        return [of(rows) for rows in kinds]
