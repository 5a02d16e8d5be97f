"""The plots of a run, one a module, as plain plotly figures."""

from __future__ import annotations

from collections.abc import Sequence

from feasible.workbook.plots.accuracy import accuracy
from feasible.workbook.plots.convergence import convergence
from feasible.workbook.plots.curves import curves
from feasible.workbook.plots.figure import Figure
from feasible.workbook.plots.known import known
from feasible.workbook.plots.marks import Mark, marks
from feasible.workbook.plots.percentiles import percentiles
from feasible.workbook.plots.predictions import predictions
from feasible.workbook.plots.quantiles import quantiles
from feasible.workbook.plots.section_times import section_times
from feasible.workbook.plots.solution import solution
from feasible.workbook.plots.step_time import step_time
from feasible.workbook.plots.tradeoff import tradeoff
from feasible.workbook.plots.trajectories import trajectories
from feasible.workbook.plots.weights import weights
from feasible.workbook.run_directory import RunDirectory

__all__ = ["Figure", "Mark", "figures", "marks"]


def figures(run: RunDirectory) -> list[Figure]:
    """All plots that the run has numbers for."""
    shown = marks(run)
    if not shown:
        return []
    drawn = _of_an_equation if run.kind == "differential" else _of_data
    return [figure for figure in drawn(run, shown) if figure is not None]


def _of_data(run: RunDirectory, shown: Sequence[Mark]) -> list[Figure | None]:
    return [
        tradeoff(run, shown),
        known(run, shown),
        *curves(run, shown),
        weights(run, shown),
        step_time(run, shown),
    ]


def _of_an_equation(run: RunDirectory, shown: Sequence[Mark]) -> list[Figure | None]:
    return [
        accuracy(run, shown),
        quantiles(run, shown),
        *solution(run, shown),
        *convergence(run, shown),
        *predictions(run, shown),
        *trajectories(run, shown),
        *percentiles(run, shown),
        section_times(run, shown),
        step_time(run, shown),
    ]
