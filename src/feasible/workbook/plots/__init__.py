"""The plots of a run, one a module, as plain plotly figures."""

from __future__ import annotations

from feasible.workbook.plots.curves import curves
from feasible.workbook.plots.figure import Figure
from feasible.workbook.plots.known import known
from feasible.workbook.plots.marks import Mark, marks
from feasible.workbook.plots.step_time import step_time
from feasible.workbook.plots.tradeoff import tradeoff
from feasible.workbook.plots.weights import weights
from feasible.workbook.run_directory import RunDirectory

__all__ = ["Figure", "Mark", "figures", "marks"]


def figures(run: RunDirectory) -> list[Figure]:
    """All plots that the run has numbers for."""
    shown = marks(run)
    if not shown:
        return []
    candidates = [
        tradeoff(run, shown),
        known(run, shown),
        *curves(run, shown),
        weights(run, shown),
        step_time(run, shown),
    ]
    return [figure for figure in candidates if figure is not None]
