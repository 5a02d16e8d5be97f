"""How the trainings went: metric, loss and violation by epoch."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from feasible.workbook.naming import rule_title, value_key
from feasible.workbook.plots.figure import Figure, capital, metric_axis, plain
from feasible.workbook.plots.histogram import bounds_of
from feasible.workbook.plots.marks import Mark, scatter
from feasible.workbook.plots.scale import LogScale
from feasible.workbook.plots.weights import bound_line
from feasible.workbook.run_directory import RunDirectory

Points = list[tuple[float, float]]
"""Epochs and values."""


@dataclass(frozen=True)
class Curve:
    """A column of the history, and how it is drawn."""

    key: str
    title: str
    caption: str
    is_log: bool = False
    most_points: int = 200
    is_worst: bool = False
    """Whether a point that stands for several epochs shows the worst of them, not the last."""
    bounds: tuple[float, ...] = ()
    is_share: bool = False


def curves(run: RunDirectory, shown: Sequence[Mark]) -> list[Figure]:
    """Metric, training loss, worst violation, expectations and rates, each the median over the seeds."""
    metric, _ = run.metric
    wanted = [
        *_values(run),
        Curve(
            "test_metric",
            f"{capital(metric)} by {run.unit}",
            f"On {'held-out' if run.is_held_out else 'all'} data; the median over the seeds.",
        ),
        Curve(
            "train_loss",
            f"Training loss by {run.unit}",
            "Without the terms that a method adds.",
            is_log=True,
        ),
        Curve(
            "worst_violation",
            f"Worst violation by {run.unit}",
            "0 means that every rule held.",
            is_log=True,
            most_points=40,  # violations jump to 0 and back: more points would hide the trend
            is_worst=True,
        ),
    ]
    drawn = [_draw(run, shown, curve) for curve in wanted]
    return [figure for figure in drawn if figure is not None]


def _values(run: RunDirectory) -> Iterator[Curve]:
    """A curve for each expectation and rate, on training rows."""
    bounds = {value_key("value", rule_title(rule)): bounds_of(rule["set"]) for rule in run.rules}
    for column in run.result["columns"]:
        key, label = str(column["key"]), str(column["label"])
        if key in bounds:
            lines = "; the dashed line is the bound" if bounds[key] else ""
            caption = f"On training rows, the median over the seeds{lines}."
            shown = str(column["format"]).endswith("%")
            yield Curve(
                key, f"{capital(label)} by {run.unit}", caption, bounds=tuple(bounds[key]), is_share=shown
            )


def _draw(run: RunDirectory, shown: Sequence[Mark], curve: Curve) -> Figure | None:
    series = {mark: _median_by_epoch(run, mark.variant, curve.key) for mark in shown}
    values = [value for points in series.values() for _, value in points]
    if not values:
        return None
    together = math.ceil(max(map(len, series.values())) / curve.most_points)
    thin = _worst if curve.is_worst else _last
    scale = LogScale.of(values) if curve.is_log and min(values) >= 0 else None
    data = [_line(mark, thin(points, together), scale, run.unit) for mark, points in series.items()]
    axis = scale.axis("") if scale else metric_axis(run) if curve.key == "test_metric" else {}
    axis |= {"tickformat": ".1~%"} if curve.is_share else {}
    lines = [bound_line(bound, along="y") for bound in curve.bounds]
    layout = {"xaxis": {"title": {"text": run.unit}}, "yaxis": axis, "shapes": lines}
    several = (
        f" Each point is the worst of {together} {run.unit}s." if curve.is_worst and together > 1 else ""
    )
    name = f"curve-{re.sub(r'[^A-Za-z0-9]+', '-', curve.key)}"
    return Figure(name, curve.title, curve.caption + several, data, layout, height=320)


def _line(mark: Mark, points: Points, scale: LogScale | None, unit: str) -> dict[str, Any]:
    place: Callable[[float], float | None] = scale.place if scale else float
    return scatter(
        mark,
        mode="lines+markers" if len(points) < 8 else "lines",
        x=[epoch for epoch, _ in points],
        y=[place(value) for _, value in points],
        customdata=[value for _, value in points],
        hovertemplate=f"{plain(mark.label)}<br>{unit} %{{x}}: %{{customdata:.4g}}<extra></extra>",
    )


def _median_by_epoch(run: RunDirectory, variant: str, key: str) -> Points:
    found: dict[float, list[float]] = defaultdict(list)
    for row in run.history:
        value = row.get(key)
        if row["variant"] == variant and isinstance(value, float) and math.isfinite(value):
            found[row["epoch"]].append(value)
    return sorted((epoch, median(values)) for epoch, values in found.items())


def _last(points: Points, together: int) -> Points:
    """The last of every few points."""
    return points[::-1][::together][::-1]


def _worst(points: Points, together: int) -> Points:
    """The last epoch and the largest value of every few points."""
    groups = [points[max(0, end - together) : end] for end in range(len(points), 0, -together)]
    return [(group[-1][0], max(value for _, value in group)) for group in reversed(groups)]
