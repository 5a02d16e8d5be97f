"""What a small residual is worth: the error against the residual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feasible.workbook.plots.figure import Figure, capital, plain
from feasible.workbook.plots.marks import Mark, scatter
from feasible.workbook.plots.scale import LogScale
from feasible.workbook.plots.weights import bound_line
from feasible.workbook.run_directory import RunDirectory


def accuracy(run: RunDirectory, shown: Sequence[Mark]) -> Figure | None:
    """One mark per way and seed, on logarithmic axes."""
    metric, _ = run.metric
    points = {mark: _points(run, mark) for mark in shown}
    known = [point for some in points.values() for point in some]
    if not known:
        return None
    tolerance = [float(run.tables["tolerance"])] if "tolerance" in run.tables else []
    residuals = LogScale.of([*(residual for residual, _, _ in known), *tolerance])
    errors = LogScale.of(error for _, error, _ in known)
    data = [
        scatter(
            mark,
            mode="markers",
            x=[residuals.place(x) for x, _, _ in some],
            y=[errors.place(y) for _, y, _ in some],
            customdata=[[x, y, seed] for x, y, seed in some],
            hovertemplate=f"{plain(mark.label)}, seed %{{customdata[2]}}<br>{plain(metric)} %{{customdata[1]:.3g}}"
            "<br>residual %{customdata[0]:.3g}<extra></extra>",
            marker={"size": 11, "opacity": 0.85},
        )
        for mark, some in points.items()
    ]
    limit = " A residual left of the dashed line is small enough." if tolerance else ""
    caption = (
        f"One mark per method and seed; the lower left corner is best. The residual was measured {run.where}. A mark "
        "above the others has a residual that says little of its error: it may be a solution of other conditions, or "
        f"next to zero.{limit}"
    )
    layout: dict[str, Any] = {
        "xaxis": residuals.axis("residual (root mean square)"),
        "yaxis": errors.axis(plain(metric)),
        "shapes": [bound_line(bound) for bound in tolerance],
    }
    title = f"{capital(metric)} against residual"
    return Figure("accuracy", title, caption, data, layout, height=430, is_wide=True)


def _points(run: RunDirectory, mark: Mark) -> list[tuple[float, float, int]]:
    """Residual, error and seed of every run that has them."""
    return [
        (float(one["residual"]), float(one["test_metric"]), int(one["seed"]))
        for one in run.finished_runs(mark.variant)
        if one.get("residual") is not None and one.get("test_metric") is not None
    ]
