"""The final weights beside those of the known solution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from feasible.workbook.plots.figure import Figure, plain
from feasible.workbook.plots.marks import NEUTRAL, Mark, scatter
from feasible.workbook.run_directory import RunDirectory


def known(run: RunDirectory, shown: Sequence[Mark]) -> Figure | None:
    """Each weight of each method; ``None`` where no weights are known."""
    weights: Mapping[str, Any] = (run.tables.get("known") or {}).get("weights") or {}
    if not weights:
        return None
    labels = [f"{name}[{index}]" for name, entries in weights.items() for index in range(np.size(entries))]
    answer = np.concatenate([np.ravel(entries) for entries in weights.values()])
    data: list[dict[str, Any]] = [
        {
            "type": "bar",
            "name": "known",
            "showlegend": False,
            "x": labels,
            "y": answer.tolist(),
            "marker": {"color": NEUTRAL, "opacity": 0.35},
            "hovertemplate": "known %{y:.6f}<extra></extra>",
        }
    ]
    data += [_marks(run, mark, list(weights), labels) for mark in shown]
    caption = "The bars are the known solution; a mark is a method's final weight, the median over the seeds."
    return Figure(
        "known", "Weights and known solution", caption, data, {"xaxis": {"automargin": True}}, is_wide=True
    )


def _marks(run: RunDirectory, mark: Mark, names: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    files = [load_file(path) for path in run.weight_files(mark.variant)]
    found = [np.concatenate([state[name].ravel() for name in names]).tolist() for state in files]
    heights = [float(median(values)) for values in zip(*found, strict=True)]
    marker = {"size": 9, "opacity": 0.85}
    hover = f"{plain(mark.label)}<br>%{{x}}: %{{y:.6f}}<extra></extra>"
    return scatter(mark, mode="markers", x=list(labels), y=heights, marker=marker, hovertemplate=hover)
