"""Where the constrained weights ended: one row of shades per method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from feasible.workbook.plots.figure import Figure, short
from feasible.workbook.plots.histogram import Histogram, weight_histogram
from feasible.workbook.plots.marks import NEUTRAL, Mark
from feasible.workbook.run_directory import RunDirectory


def weights(run: RunDirectory, shown: Sequence[Mark]) -> Figure | None:
    """The histograms of all methods on one axis; ``None`` where no rule is about weights."""
    found = weight_histogram(run, [mark.variant for mark in shown])
    if found is None:
        return None
    labels = {mark.variant: short(mark.label) for mark in shown}
    variants = list(reversed(found.shares))
    shares = [found.shares[variant] for variant in variants]
    data = [
        {
            "type": "heatmap",
            "x": found.centres,
            "y": [labels[variant] for variant in variants],
            "z": [[math.sqrt(share) if share > 0 else None for share in row] for row in shares],
            "customdata": shares,
            "hovertemplate": "%{y}<br>near %{x:.3g}: %{customdata:.2%} of the weights<extra></extra>",
            "showscale": False,
            "ygap": 3,
            "meta": {"shades": True},
        }
    ]
    layout = {
        "xaxis": {"title": {"text": "weight"}, "zeroline": False},
        "yaxis": {"automargin": True, "ticks": "", "showgrid": False},
        "shapes": [bound_line(bound) for bound in found.bounds],
    }
    height = 110 + 26 * len(variants)
    return Figure("weights", "Where the weights ended", _caption(found), data, layout, height, is_wide=True)


def _caption(found: Histogram) -> str:
    bounds = " and ".join(f"{bound:g}" for bound in found.bounds)
    verb = "line is the bound" if len(found.bounds) == 1 else "lines are the bounds"
    lines = f" The dashed {verb}: {bounds}. A strong stripe on a bound: weights that rest there."
    return (
        f"The final weights that the rules speak of ({', '.join(found.patterns)}), all seeds together: "
        f"the stronger the shade, the more weights have this value.{lines if found.bounds else ''}"
    )


def bound_line(bound: float, along: str = "x") -> dict[str, Any]:
    """A dashed line through the plot at a value of one axis."""
    across = "y" if along == "x" else "x"
    ends = {f"{along}0": bound, f"{along}1": bound, f"{across}ref": "paper", f"{across}0": 0, f"{across}1": 1}
    return {"type": "line", **ends, "line": {"dash": "dash", "width": 1.5, "color": NEUTRAL}}
