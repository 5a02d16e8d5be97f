"""Where the time goes: seconds by section, as shares of each way's total."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from feasible.workbook.cells import show
from feasible.workbook.plots.figure import Figure, plain, short
from feasible.workbook.plots.marks import Mark
from feasible.workbook.run_directory import RunDirectory

REST = "the rest"


def section_times(run: RunDirectory, shown: Sequence[Mark]) -> Figure | None:
    """One stacked bar per way, the median over the seeds."""
    times = {mark: found for mark in reversed(shown) if (found := _times(run, mark.variant))}
    if not times:
        return None
    totals = {mark: sum(found.values()) for mark, found in times.items()}
    names = list(dict.fromkeys(name for found in times.values() for name in found if name != REST))
    names += [REST] if any(REST in found for found in times.values()) else []
    data = [_bars(name, index / max(1, len(names) - 1), times, totals) for index, name in enumerate(names)]
    layout = {
        "barmode": "stack",
        "bargap": 0.35,
        "xaxis": {"title": {"text": "share of the processor time"}, "tickformat": ".0%", "range": [0, 1]},
        "yaxis": {
            "automargin": True,
            "ticks": "",
            "showgrid": False,
            "categoryorder": "array",
            "categoryarray": [_name(mark, total) for mark, total in totals.items()],
        },
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"},
        "uniformtext": {"mode": "hide", "minsize": 10},
        "hovermode": "closest",
    }
    caption = (
        "Seconds by what they were spent on, the median over the seeds, as shares of the total behind each name. What "
        "was only watched (errors, percentiles) is not counted."
    )
    height = 150 + 34 * len(times)
    return Figure("section-times", "Where the time goes", caption, data, layout, height, is_wide=True)


def _times(run: RunDirectory, variant: str) -> dict[str, float]:
    """Seconds by section; the rest of the total as a section of its own."""
    runs = [one for one in run.finished_runs(variant) if one.get("sections") and one.get("seconds")]
    names = dict.fromkeys(name for one in runs for name in one["sections"])
    found = {name: median(float(one["sections"].get(name, 0.0)) for one in runs) for name in names}
    rest = median(float(one["seconds"]) for one in runs) - sum(found.values()) if runs else 0.0
    return {**found, REST: rest} if rest > 0 else found


def _name(mark: Mark, total: float) -> str:
    return f"{short(mark.label)}, {show(total, '.2g')} s"


def _bars(
    name: str, shade: float, times: Mapping[Mark, Mapping[str, float]], totals: Mapping[Mark, float]
) -> dict[str, Any]:
    own = [mark for mark in times if name in times[mark] and totals[mark] > 0]
    return {
        "type": "bar",
        "orientation": "h",
        "name": plain(name),
        "showlegend": True,
        "y": [_name(mark, totals[mark]) for mark in own],
        "x": [times[mark][name] / totals[mark] for mark in own],
        "text": [plain(name) for _ in own],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "customdata": [times[mark][name] for mark in own],
        "hovertemplate": f"{plain(name)}: %{{customdata:.3g}} s, %{{x:.1%}}<extra></extra>",
        "meta": {"shade": shade},
    }
