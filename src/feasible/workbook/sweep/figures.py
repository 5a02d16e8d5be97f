"""The plots of a sweep: the trade-off with its front, and each parameter's share in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from feasible.workbook.plots.figure import Figure, capital, plain
from feasible.workbook.plots.marks import COLOURS, DASHES, NEUTRAL, SYMBOLS, Mark, scatter
from feasible.workbook.plots.scale import LogScale
from feasible.workbook.sweep.objectives import violation_label
from feasible.workbook.sweep.results import Results, Row, objective_label, varied
from feasible.workbook.sweep.space import METHOD, Parameter, toml

DECADES = 1.5
"""Numbers that span more than so many powers of ten stand on a logarithmic axis."""


LOGARITHMIC = {"type": "log", "dtick": 1, "exponentformat": "power"}


def sweep_marks(results: Results) -> list[Mark]:
    """One mark for every method that finished at least one setting."""
    seen = {row.method for row in results.finished}
    methods = [name for name in results.sweep.space.methods if name in seen]
    labels = results.sweep.labels
    return [
        Mark(name, labels[name], COLOURS[index % len(COLOURS)], SYMBOLS[index % len(SYMBOLS)], DASHES[0])
        for index, name in enumerate(methods)
    ]


def sweep_figures(results: Results, marks: Sequence[Mark]) -> list[Figure]:
    """All plots that the sweep has numbers for."""
    if not marks:
        return []
    shown = varied(results.sweep)
    parameters = [one for one in results.sweep.space.parameters if one.name in shown]
    return [
        front_figure(results, marks),
        *(parameter_figure(results, marks, parameter, shown[parameter.name]) for parameter in parameters),
    ]


def front_figure(results: Results, marks: Sequence[Mark]) -> Figure:
    """The objective against the violation, one mark a setting, and the settings that no other betters in both."""
    label = objective_label(results.sweep)
    shown = [row for row in results.finished if row.violation is not None]
    scale = LogScale.of(seen_violation(row) for row in shown)
    front = results.front()
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": "front",
        "x": [scale.place(seen_violation(row)) for row in front],
        "y": [row.objective for row in front],
        "line": {"color": NEUTRAL, "width": 2, "shape": "hv"},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    marked = [
        _marks(results, mark, shown, lambda row: scale.place(seen_violation(row)), label) for mark in marks
    ]
    best = "upper" if results.sweep.higher_is_better else "lower"
    violation = violation_label(results.sweep.experiment)
    words = violation.removeprefix("worst ")
    caption = (
        f"One mark per setting, filled where every seed obeys every rule; those stand at 0. The {best} left corner is "
        f"best. The line joins the settings that no other betters in {label} and {words} at once."
    )
    layout = {"xaxis": scale.axis(violation), "yaxis": _objective_axis(results)}
    title = f"{capital(label)} against {words}"
    return Figure("front", title, caption, [line, *marked], layout, height=430, is_wide=True)


def parameter_figure(results: Results, marks: Sequence[Mark], parameter: Parameter, name: str) -> Figure:
    """The objective against one parameter."""
    label = objective_label(results.sweep)
    shown = [row for row in results.finished if parameter.name in row.setting]
    is_number = all(_is_number(value) for value in parameter.examples())

    def place(row: Row) -> Any:
        value = row.setting[parameter.name]
        return value if is_number else plain(toml(value))

    data = [_marks(results, mark, shown, place, label) for mark in marks]
    axis: dict[str, Any] = {"title": {"text": plain(name)}, "type": "linear" if is_number else "category"}
    if is_number and _spans_decades(parameter):
        axis |= LOGARITHMIC
    if not is_number:
        axis |= {
            "categoryorder": "array",
            "categoryarray": [plain(toml(value)) for value in parameter.values],
        }
    caption = f"One mark per setting, filled where every seed obeys every rule: {parameter.name}."
    layout = {"xaxis": axis, "yaxis": _objective_axis(results)}
    anchor = "".join(letter if letter.isalnum() else "-" for letter in parameter.name)
    return Figure(f"parameter-{anchor}", f"{capital(label)} by {name}", caption, data, layout)


def seen_violation(row: Row) -> float:
    """What a plot shows: nothing where every set says that it holds."""
    return 0.0 if row.is_feasible else float(row.violation or 0.0)


def _marks(results: Results, mark: Mark, rows: Sequence[Row], place: Any, label: str) -> dict[str, Any]:
    own = [row for row in rows if row.method == mark.variant]
    return scatter(
        mark,
        mode="markers",
        x=[place(row) for row in own],
        y=[row.objective for row in own],
        text=[_words(row) for row in own],
        customdata=[row.violation for row in own],
        hovertemplate=f"{plain(mark.label)}<br>%{{text}}{plain(label)} %{{y:.4g}}"
        f"<br>{violation_label(results.sweep.experiment)} %{{customdata:.3g}}<extra></extra>",
        marker={
            "size": 10,
            "opacity": 0.85,
            "symbol": [mark.symbol if row.is_feasible else f"{mark.symbol}-open" for row in own],
        },
    )


def _words(row: Row) -> str:
    """The setting, a line each."""
    return "".join(
        f"{plain(name)} = {plain(toml(value))}<br>" for name, value in row.setting.items() if name != METHOD
    )


def _objective_axis(results: Results) -> dict[str, Any]:
    values = [row.objective for row in results.finished if row.objective is not None]
    return {
        "title": {"text": plain(objective_label(results.sweep))},
        **(LOGARITHMIC if _spans(values) else {}),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _spans_decades(parameter: Parameter) -> bool:
    is_log = parameter.range is not None and parameter.range.log
    return is_log or _spans(parameter.examples())


def _spans(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and math.log10(max(values) / min(values)) > DECADES
