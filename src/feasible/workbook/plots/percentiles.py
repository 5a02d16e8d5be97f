"""The study's monitor: percentiles of residual, parameters, gradients and updates by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feasible.workbook.plots.figure import Figure, capital, numbers, plain
from feasible.workbook.plots.marks import Mark
from feasible.workbook.plots.scale import LogScale, SignedLogScale
from feasible.workbook.run_directory import RunDirectory

BANDS = ((0, 100), (10, 90), (25, 75))
"""From the lightest to the strongest."""
FEWEST = 3
"""Looks: a way that solves at once has no course to watch."""
CAPTIONS = {
    "residual": "The equation's residual at points that were not trained on.",
    "size of the residual": "The same without its sign.",
    "parameters": "All weights and biases.",
    "gradients": "Of the loss by the parameters, as the last step of the epoch left them.",
    "updates": "What an epoch adds to the parameters.",
}


def percentiles(run: RunDirectory, shown: Sequence[Mark]) -> Iterator[Figure]:
    """One plot for each thing that was watched, a way at a time."""
    for name, caption in CAPTIONS.items():
        found = {mark: looks for mark in shown if (looks := _looks(run, mark.variant, name)) is not None}
        if found:
            yield _figure(run, name, caption, found)


def _looks(run: RunDirectory, variant: str, name: str) -> NDArray[np.float64] | None:
    """Epochs beside their 101 percentiles, (looks, 102), without looks at which there was nothing."""
    epochs, values = run.record(variant, "epochs"), run.record(variant, f"percentiles.{name}")
    if epochs is None or values is None or len(epochs) != len(values):
        return None
    looks = np.column_stack([epochs, values])
    looks = looks[np.isfinite(looks).all(1)]
    return looks if len(looks) >= FEWEST else None


def _figure(run: RunDirectory, name: str, caption: str, found: dict[Mark, NDArray[np.float64]]) -> Figure:
    scale = _scale(name, [looks[:, 1:] for looks in found.values()])
    last = max(looks[-1, 0] for looks in found.values())
    first = 1 if last > 50 else 0  # long trainings on a logarithmic axis, which has no place for the start
    data: list[dict[str, Any]] = []
    for mark, looks in found.items():
        data += _bands(mark, looks[looks[:, 0] >= first] if looks[-1, 0] >= first else looks, scale, run.unit)
    axis = {"title": {"text": run.unit}, **({"type": "log", "dtick": 1} if first else {})}
    said = f"{caption} The line is the median; the shades hold 50, 80 and 100 % of them."
    layout = {"xaxis": axis, "yaxis": scale.axis("") if isinstance(scale, LogScale) else scale.axis()}
    anchor = f"percentiles-{name.replace(' ', '-')}"
    title = f"{capital(name)}: percentiles by {run.unit}"
    return Figure(anchor, title, said, data, layout, height=320, choices=list(found))


def _scale(name: str, arrays: Sequence[NDArray[np.float64]]) -> LogScale | SignedLogScale:
    """Sizes on a logarithmic axis; signed numbers so that the outer ones are told from zero at every look."""
    if name == "size of the residual":
        return LogScale.of(float(value) for array in arrays for value in array[:, 1:].ravel())
    outer = [max(abs(float(row[10])), abs(float(row[90]))) for array in arrays for row in array]
    ends = (float(value) for array in arrays for value in array[:, [0, 100]].ravel())
    return SignedLogScale.of(ends, min((size for size in outer if size > 0), default=0.0))


def _bands(
    mark: Mark, looks: NDArray[np.float64], scale: LogScale | SignedLogScale, unit: str
) -> Iterator[dict[str, Any]]:
    epochs = looks[:, 0].tolist()
    common = {
        "type": "scatter",
        "name": plain(mark.label),
        "showlegend": False,
        "meta": {"variant": mark.variant},
        "x": epochs,
    }

    def placed(percentile: int) -> Any:
        return numbers(np.array([scale.place(value) for value in looks[:, 1 + percentile]], dtype=float))

    for low, high in BANDS:
        edge = {**common, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        yield {**edge, "y": placed(low)}
        yield {**edge, "y": placed(high), "fill": "tonexty", "fillcolor": _faded(mark.colour, 0.2)}
    rows = looks[:, 1 + np.array([0, 25, 50, 75, 100])]
    yield {
        **common,
        "mode": "lines+markers" if len(epochs) < 8 else "lines",
        "line": {"color": mark.colour, "width": 2},
        "marker": {"color": mark.colour},
        "y": placed(50),
        "customdata": numbers(rows),
        "hovertemplate": f"{plain(mark.label)}<br>{unit} %{{x}}<br>largest %{{customdata[4]:.3g}}"
        "<br>75 % %{customdata[3]:.3g}<br>median %{customdata[2]:.3g}<br>25 % %{customdata[1]:.3g}"
        "<br>least %{customdata[0]:.3g}<extra></extra>",
    }


def _faded(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
