"""How projections went: what ways kept of them, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from feasible.workbook.plots.figure import Figure, capital, numbers, plain
from feasible.workbook.plots.marks import Mark, scatter
from feasible.workbook.plots.predictions import fading
from feasible.workbook.plots.scale import LogScale
from feasible.workbook.run_directory import RunDirectory

PREFIX = "trajectory."
STEPS, SOLUTION = f"{PREFIX}steps", f"{PREFIX}solution"


def trajectories(run: RunDirectory, shown: Sequence[Mark]) -> Iterator[Figure]:
    """Numbers by step for all ways that have them, then solutions, a way at a time."""
    names = dict.fromkeys(name for mark in shown for name in run.record_names(mark.variant))
    for name in names:
        if name.startswith(PREFIX) and name not in (STEPS, SOLUTION):
            yield _numbers(run, shown, name)
    yield from fading(
        run,
        shown,
        record=SOLUTION,
        steps=STEPS,
        unit="step",
        title="Solutions along the projection",
        caption="Of the best run, the later the stronger; dashed: the reference.",
    )


def _numbers(run: RunDirectory, shown: Sequence[Mark], name: str) -> Figure:
    found = {mark: values for mark in shown if (values := run.record(mark.variant, name)) is not None}
    scale = LogScale.of(float(value) for values in found.values() for value in values.ravel())
    data = []
    for mark, values in found.items():
        steps = run.record(mark.variant, STEPS)
        heights: NDArray[np.float64] = np.array([scale.place(float(v)) for v in values.ravel()], dtype=float)
        data.append(
            scatter(
                mark,
                mode="lines+markers" if len(heights) < 8 else "lines",
                x=numbers(np.arange(1.0, len(heights) + 1) if steps is None else steps),
                y=numbers(heights),
                customdata=numbers(values.ravel()),
                hovertemplate=f"{plain(mark.label)}<br>step %{{x}}: %{{customdata:.3g}}<extra></extra>",
            )
        )
    what = name.removeprefix(PREFIX)
    layout = {"xaxis": {"title": {"text": "step of the projection"}}, "yaxis": scale.axis("")}
    caption = "Of each method's best run."
    anchor = "-".join(name.replace(".", " ").split())
    return Figure(anchor, f"{capital(what)} along the projection", caption, data, layout, height=320)
