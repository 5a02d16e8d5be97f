"""What a method costs: milliseconds per training step, or per epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from feasible.workbook.plots.figure import Figure, plain, short
from feasible.workbook.plots.marks import Mark
from feasible.workbook.run_directory import RunDirectory

UNITS = {"milliseconds_per_step": "training step", "milliseconds_per_epoch": "epoch or iteration"}


def step_time(run: RunDirectory, shown: Sequence[Mark]) -> Figure | None:
    """One bar per method, the median over the seeds."""
    for key, unit in UNITS.items():
        times = {mark: time for mark in shown if (time := _time(run, mark.variant, key)) is not None}
        if times:
            return _figure(times, unit)
    return None


def _figure(times: Mapping[Mark, float], unit: str) -> Figure:
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
            "hovertemplate": f"{plain(mark.label)}<br>%{{x:.3g}} ms<extra></extra>",
            "meta": {"variant": mark.variant},
            "showlegend": False,
        }
        for mark, time in reversed(list(times.items()))
    ]
    layout = {
        "xaxis": {"title": {"text": f"milliseconds per {unit}"}, "range": [0, 1.2 * max(times.values())]},
        "yaxis": {"automargin": True, "ticks": "", "showgrid": False},
        "bargap": 0.35,
    }
    caption = "Forward, backward, optimizer and everything that the method adds; the median over the seeds."
    height = 90 + 30 * len(times)
    return Figure("step-time", f"Time per {unit}", caption, data, layout, height, is_wide=True)


def _time(run: RunDirectory, variant: str, key: str) -> float | None:
    times = [r[key] for r in run.finished_runs(variant) if r.get(key) is not None]
    return float(median(times)) if times else None
