"""Solution, error and residual over two coordinates: maps, a way at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feasible.workbook.plots.figure import Figure, numbers, plain
from feasible.workbook.plots.marks import Mark

if TYPE_CHECKING:
    from feasible.workbook.plots.solution import Found

Array = NDArray[np.float64]

MOST = 81
"""Nodes along an axis of a map."""
DECADES = 4
"""What a logarithmic map shows below its largest value."""


def solution_maps(names: Sequence[str], found: Mapping[Mark, Found]) -> Iterator[Figure]:
    """The reference, and what each way's best run makes of it."""
    grids = {mark: _Grid(names, way.axes) for mark, way in found.items()}
    grid, reference = next((grids[mark], way.reference) for mark, way in found.items())
    for output in range(reference.shape[1]):
        low, high = float(np.nanmin(reference[:, output])), float(np.nanmax(reference[:, output]))
        suffix, words = (f"-{output + 1}", f" {output + 1}") if reference.shape[1] > 1 else ("", "")
        truth = grid.map(reference[:, output], span=(low, high))
        yield grid.figure(f"reference{suffix}", f"Reference{words}", "What is to be found.", [truth])
        maps = [grids[mark].map(way.solution[:, output], mark, (low, high)) for mark, way in found.items()]
        caption = "The best run's, in the shades of the reference."
        yield grid.figure(f"solution{suffix}", f"Solution{words}", caption, maps, list(found))
    maps = [grids[mark].log_map(way.error, mark) for mark, way in found.items()]
    caption = (
        f"The distance to the reference, on a logarithmic scale: {DECADES} powers of ten below the largest."
    )
    yield grid.figure("solution-error", "Error", caption, maps, list(found))
    sizes = {mark: np.sqrt(np.mean(way.residual**2, axis=1)) for mark, way in found.items()}
    maps = [grids[mark].log_map(values, mark) for mark, values in sizes.items()]
    caption = "The size of the equation's residual, nondimensional, on the same kind of scale."
    yield grid.figure("solution-residual", "Residual", caption, maps, list(found))


class _Grid:
    """Nodes along two axes, thinned, and maps over them."""

    def __init__(self, names: Sequence[str], axes: Sequence[Array]) -> None:
        self.names, self.shape = names, tuple(map(len, axes))
        self.few = [np.unique(np.linspace(0, n - 1, min(n, MOST)).round().astype(int)) for n in self.shape]
        self.nodes = [numbers(axis[few]) for axis, few in zip(axes, self.few, strict=True)]

    def figure(
        self, name: str, title: str, caption: str, data: list[dict[str, Any]], choices: Sequence[Mark] = ()
    ) -> Figure:
        axes = zip(("xaxis", "yaxis"), self.names, strict=True)
        layout = {
            axis: {"title": {"text": plain(name)}, "showgrid": False, "zeroline": False}
            for axis, name in axes
        }
        return Figure(name, title, caption, data, layout, height=340, choices=choices)

    def map(
        self, values: Array, mark: Mark | None = None, span: tuple[float, float] | None = None
    ) -> dict[str, Any]:
        """Values at all nodes, (nodes,), the second axis upwards."""
        shown = self._thinned(values)
        meta = {"shades": True, **({} if mark is None else {"variant": mark.variant})}
        return {
            "type": "heatmap",
            "x": self.nodes[0],
            "y": self.nodes[1],
            "z": numbers(shown),
            "meta": meta,
            "colorbar": {"thickness": 12, "outlinewidth": 0},
            "hovertemplate": f"{plain(self.names[0])} %{{x}}, {plain(self.names[1])} %{{y}}: %{{z:.4g}}<extra></extra>",
            **({} if span is None else {"zmin": span[0], "zmax": span[1]}),
        }

    def log_map(self, values: Array, mark: Mark) -> dict[str, Any]:
        """Sizes by their logarithms, in a scale of their own."""
        top = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
        if not 0 < top < math.inf:
            return self.map(values, mark)
        high = math.log10(top)
        heights = np.log10(np.clip(values, 10 ** (high - DECADES), None))
        powers = range(math.ceil(high - DECADES), math.floor(high) + 1)
        bar = {
            "thickness": 12,
            "outlinewidth": 0,
            "tickvals": list(powers),
            "ticktext": [f"10<sup>{str(power).replace('-', '−')}</sup>" for power in powers],
        }
        drawn = self.map(heights, mark, (high - DECADES, high))
        hover = drawn["hovertemplate"].replace("%{z:.4g}", "%{customdata:.3g}")
        known = numbers(self._thinned(values))
        return {**drawn, "colorbar": bar, "customdata": known, "hovertemplate": hover}

    def _thinned(self, values: Array) -> Array:
        shown: Array = values.reshape(self.shape)[np.ix_(*self.few)].T
        return shown
