"""How the solution grew: predictions along the training, the later ones stronger."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feasible.workbook.plots.figure import Figure, numbers, plain
from feasible.workbook.plots.marks import Mark, scatter
from feasible.workbook.plots.solution import Found, output_names, read_found, reference_line, thinned
from feasible.workbook.run_directory import RunDirectory

Array = NDArray[np.float64]

CURVES = 6
"""Looks that are drawn."""


def predictions(run: RunDirectory, shown: Sequence[Mark]) -> Iterator[Figure]:
    """One plot per output, a way at a time."""
    yield from fading(
        run,
        shown,
        record="predictions",
        steps="epochs",
        unit=run.unit,
        title="Predictions along the training",
        caption="Of the best run, the later the stronger; dashed: the reference.",
    )


def fading(
    run: RunDirectory, shown: Sequence[Mark], *, record: str, steps: str, unit: str, title: str, caption: str
) -> Iterator[Figure]:
    """A record of (steps, points, outputs) as curves that fade in; over two coordinates, a cut through them."""
    found: dict[Mark, tuple[Found, Array, Array]] = {}
    for mark in shown:
        way, values = read_found(run, mark.variant), run.record(mark.variant, record)
        if way is not None and values is not None and values[0].size == way.solution.size:
            counted = run.record(mark.variant, steps)
            counted = np.arange(1.0, len(values) + 1) if counted is None else counted
            found[mark] = way, counted, values.reshape(len(values), *way.solution.shape)
    if not found:
        return
    names = [str(name) for name in run.result["data"]["axes"]]
    cuts = {mark: _Cut(names, way.axes) for mark, (way, _, _) in found.items()}
    cut, outputs = next((cuts[mark], way.solution.shape[1]) for mark, (way, _, _) in found.items())
    for output, label in enumerate(output_names(outputs)):
        data = [
            trace for mark, one in found.items() for trace in _curves(mark, one, cuts[mark], output, unit)
        ]
        layout = {"xaxis": {"title": {"text": plain(cut.name)}}, "yaxis": {"title": {"text": label}}}
        anchor = record.replace(".", "-") + (f"-{output + 1}" if output else "")
        said = f"{caption}{cut.words}"
        yield Figure(anchor, title, said, data, layout, height=340, choices=list(found))


class _Cut:
    """A line through the points that are shown: all of them, or those at the middle of the other coordinate."""

    def __init__(self, names: Sequence[str], axes: Sequence[Array]) -> None:
        along = 1 if len(axes) == 2 and names[0] == "t" else 0
        shape = [len(axis) for axis in axes]
        index = np.arange(math.prod(shape)).reshape(shape)
        self.name, self.words = names[along], ""
        if len(axes) == 2:
            middle = len(axes[1 - along]) // 2
            index = np.take(index, middle, axis=1 - along)
            self.words = f" At {names[1 - along]} = {axes[1 - along][middle]:.3g}."
        few = thinned(len(index))
        self.index, self.nodes = index[few], axes[along][few]


def _curves(
    mark: Mark, one: tuple[Found, Array, Array], cut: _Cut, output: int, unit: str
) -> Iterator[dict[str, Any]]:
    way, steps, values = one
    for place, look in enumerate(_picked(len(values))):
        y = values[look, cut.index, output]
        yield scatter(
            mark,
            mode="lines",
            x=numbers(cut.nodes),
            y=numbers(y),
            opacity=0.15 + 0.85 * (place + 1) / min(CURVES, len(values)),
            line={"color": mark.colour, "width": 1.5},
            hovertemplate=f"{plain(mark.label)}, {unit} {steps[look]:.0f}<br>%{{x:.4g}}: %{{y:.4g}}<extra></extra>",
        )
    truth = reference_line(cut.nodes, way.reference[cut.index, output])
    yield {**truth, "meta": {"variant": mark.variant}}


def _picked(count: int) -> list[int]:
    """So many looks, from the first to the last; looks get rarer by themselves."""
    return [int(look) for look in np.unique(np.linspace(0, count - 1, min(count, CURVES)).round())]
