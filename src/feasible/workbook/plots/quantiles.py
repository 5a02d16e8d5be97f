"""How large the residual is between the points that were trained on: its quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from feasible.workbook.plots.figure import Figure, plain, short
from feasible.workbook.plots.marks import Mark, scatter
from feasible.workbook.plots.scale import LogScale
from feasible.workbook.plots.weights import bound_line
from feasible.workbook.run_directory import RunDirectory

SHOWN = {
    "residual_50": ("half of them below", 7),
    "residual_90": ("90 % below", 9),
    "residual_99": ("99 % below", 11),
    "residual_100": ("the largest", 14),
}
"""The quantiles, and the sizes of their marks."""


def quantiles(run: RunDirectory, shown: Sequence[Mark]) -> Figure | None:
    """A line per way from the median of |residual| to the largest, and the root mean square where it was trained."""
    known = {mark: found for mark in shown if (found := _quantiles(run, mark.variant))}
    if not known:
        return None
    trained = {mark: _median(run, mark.variant, "train_residual") for mark in known}
    values = [value for some in known.values() for value in some.values()]
    tolerance = [float(run.tables["tolerance"])] if "tolerance" in run.tables else []
    scale = LogScale.of([*values, *tolerance, *(value for value in trained.values() if value is not None)])
    data = [trace for mark in reversed(known) for trace in _traces(mark, known[mark], trained[mark], scale)]
    layout = {
        "xaxis": scale.axis("|residual|"),
        "yaxis": {"automargin": True, "ticks": "", "showgrid": False},
        "shapes": [bound_line(bound) for bound in tolerance],
    }
    caption = (
        f"Marks that grow from left to right: half, 90 %, 99 % and all of the residuals {run.where} are no larger; the "
        "median over the seeds. An open mark is the root mean square at the points that were trained on: far left of "
        "the others, it promises more than holds between them. All this is measured, at these points and no others; "
        "the dashed line is the tolerance."
    )
    height = 110 + 34 * len(known)
    title = "Residual at points that were not trained on"
    return Figure("quantiles", title, caption, data, layout, height, is_wide=True)


def _quantiles(run: RunDirectory, variant: str) -> dict[str, float]:
    found = {key: _median(run, variant, key) for key in SHOWN}
    return {key: value for key, value in found.items() if value is not None}


def _median(run: RunDirectory, variant: str, key: str) -> float | None:
    known = [float(one[key]) for one in run.finished_runs(variant) if one.get(key) is not None]
    return median(known) if known else None


def _traces(
    mark: Mark, found: dict[str, float], trained: float | None, scale: LogScale
) -> list[dict[str, Any]]:
    name = short(mark.label)
    traces = [
        scatter(
            mark,
            mode="lines+markers",
            x=[scale.place(value) for value in found.values()],
            y=[name] * len(found),
            customdata=[[SHOWN[key][0], value] for key, value in found.items()],
            marker={"size": [SHOWN[key][1] for key in found]},
            hovertemplate=f"{plain(mark.label)}<br>%{{customdata[0]}}: %{{customdata[1]:.3g}}<extra></extra>",
        )
    ]
    if trained is not None:
        traces.append(
            scatter(
                mark,
                mode="markers",
                x=[scale.place(trained)],
                y=[name],
                customdata=[trained],
                marker={"size": 13, "symbol": f"{mark.symbol}-open"},
                hovertemplate=f"{plain(mark.label)}<br>root mean square where it was trained: %{{customdata:.3g}}"
                "<extra></extra>",
            )
        )
    return traces
