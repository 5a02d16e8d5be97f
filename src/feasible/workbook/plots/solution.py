"""Solution, error and residual of each way's best run: lines over one coordinate, maps over two."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feasible.workbook.plots.figure import Figure, numbers, plain
from feasible.workbook.plots.marks import NEUTRAL, Mark, scatter
from feasible.workbook.plots.scale import LogScale
from feasible.workbook.plots.solution_maps import solution_maps
from feasible.workbook.run_directory import RunDirectory

Array = NDArray[np.float64]

MOST = 500
"""Points of a line."""


@dataclass(frozen=True)
class Found:
    """What a way's best run found, at the points that are shown."""

    solution: Array
    """(points, outputs)."""
    reference: Array
    """(points, outputs)."""
    residual: Array
    """(points, equations)."""
    axes: Sequence[Array]
    """The nodes of each coordinate; points are all their combinations, the last coordinate fastest."""

    @property
    def error(self) -> Array:
        """Sizes over all outputs, (points,)."""
        return size(self.solution - self.reference)


def size(rows: Array) -> Array:
    """The root mean square of each row, (points,)."""
    sizes: Array = np.sqrt(np.mean(rows**2, axis=1))
    return sizes


def solution(run: RunDirectory, shown: Sequence[Mark]) -> Iterator[Figure]:
    """The plots, where the runs left their solutions."""
    found = {mark: one for mark in shown if (one := read_found(run, mark.variant)) is not None}
    names = [str(name) for name in run.result["data"]["axes"]]
    if found and len(names) == 1:
        yield from _lines(names[0], found)
    elif found and len(names) == 2:
        yield from solution_maps(names, found)


def read_found(run: RunDirectory, variant: str) -> Found | None:
    """What the best run of a way left; ``None``: nothing."""
    read = [run.record(variant, name) for name in ("solution", "reference", "residual")]
    axes = [run.record(variant, f"axis{number}") for number in range(len(run.result["data"]["axes"]))]
    parts, nodes = [one for one in read if one is not None], [one for one in axes if one is not None]
    complete = len(parts) == len(read) and len(nodes) == len(axes)
    if not complete:
        return None
    found, reference, residual = (one.reshape(len(one), -1) for one in parts)
    return Found(found, reference, residual, nodes)


def output_names(count: int) -> list[str]:
    """``u``, or ``u₁``, ``u₂``, …"""
    return ["u"] if count == 1 else [f"u<sub>{number}</sub>" for number in range(1, count + 1)]


def thinned(count: int) -> slice:
    """Every so many points, so that a line has not too many."""
    return slice(None, None, max(1, math.ceil(count / MOST)))


def reference_line(x: Array, y: Array, **details: Any) -> dict[str, Any]:
    """The reference solution, beside the lines of the ways."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "reference",
        "showlegend": False,
        "x": numbers(x),
        "y": numbers(y),
        "line": {"color": NEUTRAL, "width": 2, "dash": "dash"},
        "hovertemplate": "reference<br>%{x:.4g}: %{y:.4g}<extra></extra>",
        **details,
    }


def _lines(name: str, found: Mapping[Mark, Found]) -> Iterator[Figure]:
    one = next(iter(found.values()))
    broad = {"line": {"color": NEUTRAL, "width": 6}, "opacity": 0.5}
    for output, label in enumerate(output_names(one.solution.shape[1])):
        few = thinned(len(one.axes[0]))
        data = [reference_line(one.axes[0][few], one.reference[few, output], **broad)]
        data += [_line(mark, way, way.solution[:, output]) for mark, way in found.items()]
        layout = {"xaxis": {"title": {"text": plain(name)}}, "yaxis": {"title": {"text": label}}}
        caption = "Each method's best run over the reference solution, the broad line."
        anchor = "solution" if output == 0 else f"solution-{output + 1}"
        yield Figure(anchor, "Solution", caption, data, layout, height=360, is_wide=True)
    for key, title, caption in (
        ("error", "Error", "The distance to the reference solution, of each method's best run."),
        ("residual", "Residual", "Its size along the solution, nondimensional, of each method's best run."),
    ):
        sizes = {mark: way.error if key == "error" else size(way.residual) for mark, way in found.items()}
        scale = LogScale.of(float(value) for array in sizes.values() for value in array)
        data = [_line(mark, found[mark], array, scale) for mark, array in sizes.items()]
        layout = {"xaxis": {"title": {"text": plain(name)}}, "yaxis": scale.axis("")}
        yield Figure(f"solution-{key}", title, caption, data, layout, height=340)


def _line(mark: Mark, way: Found, values: Array, scale: LogScale | None = None) -> dict[str, Any]:
    few = thinned(len(values))
    x, y = way.axes[0][few], values[few]
    heights = y if scale is None else np.array([scale.place(float(value)) for value in y], dtype=float)
    return scatter(
        mark,
        mode="lines",
        x=numbers(x),
        y=numbers(heights),
        customdata=numbers(y),
        hovertemplate=f"{plain(mark.label)}<br>%{{x:.4g}}: %{{customdata:.4g}}<extra></extra>",
        line={"color": mark.colour, "dash": mark.dash, "width": 1.5},
    )
