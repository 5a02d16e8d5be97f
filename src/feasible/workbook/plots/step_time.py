"""What a method costs: milliseconds per training step."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from feasible.workbook.plots.figure import Figure, plain, short
from feasible.workbook.plots.marks import Mark
from feasible.workbook.run_directory import RunDirectory

KEY = "milliseconds_per_step"


def step_time(run: RunDirectory, shown: Sequence[Mark]) -> Figure | None:
    """One bar per method, the median over the seeds."""
    times = {mark: time for mark in shown if (time := _time(run, mark.variant)) is not None}
    if not times:
        return None
    digits = 2 if max(times.values()) >= 0.1 else 4
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "y": [short(mark.label)],
            "x": [time],
            "text": [f"{time:.{digits}f} ms"],
            "textposition": "outside",
            "cliponaxis": False,
            "marker": {"color": mark.colour},
            "hovertemplate": f"{plain(mark.label)}<br>%{{x:.3g}} ms a step<extra></extra>",
            "meta": {"variant": mark.variant},
            "showlegend": False,
        }
        for mark, time in reversed(times.items())
    ]
    layout = {
        "xaxis": {"title": {"text": "milliseconds per step"}, "range": [0, 1.2 * max(times.values())]},
        "yaxis": {"automargin": True, "ticks": "", "showgrid": False},
        "bargap": 0.35,
    }
    caption = "Forward, backward, optimizer and everything that the method adds; the median over the seeds."
    height = 90 + 30 * len(times)
    return Figure("step-time", "Time per training step", caption, data, layout, height, is_wide=True)


def _time(run: RunDirectory, variant: str) -> float | None:
    times = [r[KEY] for r in run.finished_runs(variant) if r.get(KEY) is not None]
    return float(median(times)) if times else None
