"""First training, then the least move to where the equation holds: the study's second method."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import nn

import feasible as fs
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.differential.rows import Rows
from feasible.workbook.differential.ways.steps import Steps
from feasible.workbook.differential.ways.way import Solved, Way

__all__ = ["ProjectedAfterTraining"]


@final
@dataclass(frozen=True)
class ProjectedAfterTraining(Way):
    """Adam on data and a soft penalty; then ``project_parameters`` onto the equation where the solution is asked for.

    The projection answers one query: it sees the equation at points of the test alone, no data and no condition, and
    what it does to other inputs is another matter. In float64, whatever the network was trained in.

    Args:
        metric: what moves as little as possible: ``"parameters"`` or ``"outputs"``.
        method: of ``project_parameters``; ``"adam"``: the study's own, Adam on the mean squared residual.
        points: at so many of the points where the equation is held out; at the others it is only measured.
        tolerance: the largest residual that counts as none.
        steps: the most iterations of the projection; ``None``: 100, and 10,000 of Adam.
        learning_rate: of both Adams.
        weight: of the mean squared equation rows in the training.
        batch_size: rows of each kind in a step of the training; ``None``: all.

    Raises:
        ValueError: a number is out of its range.
    """

    metric: Literal["parameters", "outputs"] = "parameters"
    method: Literal["auto", "dense", "matrix-free", "adam"] = "auto"
    points: int = 100
    tolerance: float = 1e-5
    steps: int | None = None
    learning_rate: float = 1e-3
    weight: float = 0.0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.points < 1:
            raise ValueError(f"points must be at least 1, got {self.points!r}.")

    def solve(self, posed: Posed, network: nn.Module, monitor: Monitor, generator: torch.Generator) -> Solved:
        """The budget is the training's; the projection comes on top."""
        training = Steps(learning_rate=self.learning_rate, weight=self.weight, batch_size=self.batch_size)
        with monitor.section("training"):
            network, _ = training.solve(posed, network, monitor, generator)
        network, rows = network.double(), self._queried(posed.held_out).to(torch.float64)
        with monitor.section("projection"), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            result = fs.project_parameters(
                network,
                [(rows, fs.Equal(0.0))],
                metric=self.metric,
                points=rows.columns,
                tol=self.tolerance,
                method=self.method,
                max_iterations=self.steps,
                learning_rate=self.learning_rate,
            )
        before, after = result.residual
        collapsed = "; the outputs collapsed" if warned else ""
        return Solved(
            network,
            f"residual {before:.1e} → {after:.1e}, moved by {result.relative_move:.2g} of ‖θ‖{collapsed}",
        )

    def _queried(self, rows: Rows) -> Rows:
        """Points spread evenly over those of the query."""
        index = torch.linspace(0, len(rows) - 1, min(self.points, len(rows))).round().long()
        return Rows(rows.name, rows.kind, rows.residual, tuple(column[index] for column in rows.columns))
