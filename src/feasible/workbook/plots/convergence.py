"""How fast the ways get there: error, residual and size of the output by processor seconds."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from feasible.workbook.plots.figure import Figure, capital, plain
from feasible.workbook.plots.marks import Mark, scatter
from feasible.workbook.plots.scale import LogScale
from feasible.workbook.plots.weights import bound_line
from feasible.workbook.run_directory import RunDirectory

Points = list[tuple[float, float]]
"""Seconds and values."""

MOST = 200
"""Points of a line."""


def convergence(run: RunDirectory, shown: Sequence[Mark]) -> Iterator[Figure]:
    """Three plots on logarithmic axes, each the median over the seeds of what they had reached by then."""
    metric, _ = run.metric
    tolerance, reference = run.tables.get("tolerance"), _reference(run)
    wanted = [
        ("test_metric", capital(metric), "Against the reference solution.", None),
        ("residual", "Residual", f"Its root mean square {run.where}; the dashed line is the tolerance.", tolerance),
        ("output_rms", "Size of the output", "Its root mean square; the dashed line is that of the reference. "
         "A method that falls to zero has a small residual, and no solution.", reference),
    ]  # fmt: skip
    for key, title, caption, bound in wanted:
        series = {mark: held(_series(run, mark.variant, key)) for mark in shown}
        values = [value for points in series.values() for _, value in points]
        if values:
            scale = LogScale.of([*values, *([float(bound)] if bound else [])])
            layout = {
                "xaxis": LogScale.of(s for points in series.values() for s, _ in points).axis(
                    "processor seconds"
                ),
                "yaxis": scale.axis(""),
                "shapes": [bound_line(float(bound), along="y")] if bound else [],
            }
            data = [_line(mark, points, scale) for mark, points in series.items()]
            said = f"{caption} The median over the seeds of what each had reached by then."
            yield Figure(f"seconds-{key}", f"{title} by time", said, data, layout, height=340)


def held(runs: Sequence[Points]) -> Points:
    """The median over the runs of the last value at or before every time, from where all have one.

    >>> held([[(1.0, 4.0), (3.0, 2.0)], [(2.0, 8.0)]])
    [(2.0, 6.0), (3.0, 5.0)]
    """
    runs = [points for points in runs if points]
    begin = max((points[0][0] for points in runs), default=0.0)
    times = sorted({time for points in runs for time, _ in points if time >= begin})
    times = times[:: -max(1, math.ceil(len(times) / MOST))][::-1]
    clocks = [[time for time, _ in points] for points in runs]
    return [
        (time, median(points[bisect_right(c, time) - 1][1] for points, c in zip(runs, clocks, strict=True)))
        for time in times
    ]


def _series(run: RunDirectory, variant: str, key: str) -> list[Points]:
    """One list a seed; the start has no place on a logarithmic clock."""
    found: dict[float, Points] = defaultdict(list)
    for row in run.history:
        seconds, value = row.get("seconds"), row.get(key)
        is_later = row["variant"] == variant and row["epoch"] > 0
        if is_later and isinstance(seconds, float) and isinstance(value, float) and math.isfinite(value):
            found[row["seed"]].append((max(seconds, 1e-6), value))
    return list(found.values())


def _reference(run: RunDirectory) -> float | None:
    known = [one["reference_rms"] for one in run.finished_runs() if one.get("reference_rms") is not None]
    return median(known) if known else None


def _line(mark: Mark, points: Points, scale: LogScale) -> dict[str, Any]:
    return scatter(
        mark,
        mode="lines+markers" if len(points) < 8 else "lines",
        x=[seconds for seconds, _ in points],
        y=[scale.place(value) for _, value in points],
        customdata=[value for _, value in points],
        hovertemplate=f"{plain(mark.label)}<br>%{{x:.3g}} s: %{{customdata:.3g}}<extra></extra>",
    )
