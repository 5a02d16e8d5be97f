"""The report as the user sees it: rows, a table, a dictionary, a frame, a figure."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from feasible.problem.history import Series
from feasible.problem.text import table
from feasible.report.row import Row

HEADING = (
    "constraint",
    "guarantee",
    "scope",
    "worst violation",
    "violated",
    "active",
    "stationarity",
    "multiplier",
    "shadow price",
    "saturated",
)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which all readers can tell apart."""


@dataclass(frozen=True)
class Report:
    """A row for every constraint; prints as a table in a terminal and in a notebook."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    """What concerns the problem as a whole."""
    histories: Mapping[str, Series] = field(default_factory=dict)
    """What each constraint that acts through the loss was over the steps."""

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no constraint {name!r}; the report has: {', '.join(row.name for row in self.rows)}")

    @property
    def feasible(self) -> bool:
        """Whether every constraint was checked and holds."""
        return all(row.worst_violation == 0 for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python data, ready for JSON (numbers that are not finite become ``None``)."""
        rows = [{key: _plain(value) for key, value in asdict(row).items()} for row in self.rows]
        histories = {
            name: {key: [_plain(value) for value in column] for key, column in asdict(series).items()}
            for name, series in self.histories.items()
        }
        return {"rows": rows, "notes": list(self.notes), "feasible": self.feasible, "histories": histories}

    def to_frame(self) -> Any:
        """A pandas data frame, one row a constraint (needs pandas)."""
        try:
            import pandas
        except ImportError:
            raise ImportError('report.to_frame() needs pandas: pip install "feasible[workbook]".') from None
        return pandas.DataFrame([asdict(row) for row in self.rows]).set_index("name")

    def plot(self) -> Any:
        """A plotly figure: what holds now, and below it the histories (needs plotly)."""
        try:
            from plotly.subplots import make_subplots
        except ImportError:
            raise ImportError('report.plot() needs plotly: pip install "feasible[workbook]".') from None
        titles = ["worst violation", "active share", "shadow price"]
        courses = ["violation", "multiplier", "penalty"] if self.histories else []
        figure = make_subplots(
            rows=2 if courses else 1,
            cols=3,
            subplot_titles=[*titles, *(f"{course} over the steps" for course in courses)],
        )
        names = [row.name for row in self.rows]
        for column, name in enumerate(("worst_violation", "active_share", "shadow_price"), start=1):
            values = [getattr(row, name) for row in self.rows]
            figure.add_bar(x=values, y=names, orientation="h", row=1, col=column, showlegend=False)
            figure.update_yaxes(showticklabels=column == 1, row=1, col=column)
        for column, course in enumerate(courses, start=1):
            for place, (name, series) in enumerate(self.histories.items()):
                once = {"name": name, "legendgroup": name, "showlegend": column == 1}
                line = {"color": COLOURS[place % len(COLOURS)]}
                y = getattr(series, course)
                figure.add_scatter(x=series.steps, y=y, mode="lines", line=line, row=2, col=column, **once)
        height = 160 + 40 * len(names) + (300 if courses else 0)
        figure.update_layout(height=height, title="What holds")
        return figure

    def __str__(self) -> str:
        compared = any(row.training_violation is not None for row in self.rows)
        rows = [[*HEADING, *(["in training"] if compared else [])]]
        for row in self.rows:
            shares = (row.share_violated, row.active_share)
            numbers = (row.stationarity, row.multiplier, row.shadow_price)
            checked = [number(row.worst_violation), *map(percent, shares), *map(number, numbers)]
            trained = [number(row.training_violation)] if compared else []
            rows.append([row.name, row.guarantee, row.scope, *checked, percent(row.saturation), *trained])
        return "\n".join([table(rows), *self._sentences(), *self.notes])

    def _sentences(self) -> list[str]:
        """What there is to say of each constraint."""
        return [
            f"{row.name}: {said}" for row in self.rows for said in (row.generalisation, row.diagnosis) if said
        ]

    def _repr_html_(self) -> str:
        frame = [["constraint", "guarantee", "scope", "worst violation", "multiplier", "diagnosis"]]
        for row in self.rows:
            numbers = [number(row.worst_violation), number(row.multiplier)]
            said = "; ".join(filter(None, (row.generalisation, row.diagnosis)))
            frame.append([row.name, row.guarantee, row.scope, *numbers, said])
        head, *body = ("".join(f"<td>{html.escape(cell)}</td>" for cell in line) for line in frame)
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        lines = "".join(f"<tr>{line}</tr>" for line in body)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>{notes}"


def number(value: float | None) -> str:
    """Three digits; a dash where there is no number."""
    return "–" if value is None else "0" if value == 0 else f"{value:.3g}"


def percent(value: float | None) -> str:
    """A tenth of a percent; a dash where there is no number."""
    if value is None:
        return "–"
    return "<0.1%" if 0 < value < 0.001 else f"{value:.1%}"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
