"""The report as the user sees it: rows, a table, a dictionary, a frame, a figure."""

from __future__ import annotations

import html
import math
from dataclasses import asdict, dataclass
from typing import Any

from feasible.problem.text import table
from feasible.report.row import Row


@dataclass(frozen=True)
class Report:
    """A row for every constraint; prints as a table in a terminal and in a notebook."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    """What concerns the problem as a whole."""

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
        return {"rows": rows, "notes": list(self.notes), "feasible": self.feasible}

    def to_frame(self) -> Any:
        """A pandas data frame, one row a constraint (needs pandas)."""
        try:
            import pandas
        except ImportError:
            raise ImportError('report.to_frame() needs pandas: pip install "feasible[workbook]".') from None
        return pandas.DataFrame([asdict(row) for row in self.rows]).set_index("name")

    def plot(self) -> Any:
        """A plotly figure: violation and active share of every constraint (needs plotly)."""
        try:
            from plotly.subplots import make_subplots
        except ImportError:
            raise ImportError('report.plot() needs plotly: pip install "feasible[workbook]".') from None
        titles = ("worst violation", "active share", "shadow price")
        figure = make_subplots(rows=1, cols=3, shared_yaxes=True, subplot_titles=titles)
        names = [row.name for row in self.rows]
        for column, field in enumerate(("worst_violation", "active_share", "shadow_price"), start=1):
            values = [getattr(row, field) for row in self.rows]
            figure.add_bar(x=values, y=names, orientation="h", row=1, col=column, showlegend=False)
        figure.update_layout(height=160 + 40 * len(names), title="What holds")
        return figure

    def __str__(self) -> str:
        heading = (
            "constraint,guarantee,scope,worst violation,violated,active,stationarity,multiplier,shadow price"
        )
        rows = [[*heading.split(","), "saturated"]]
        for row in self.rows:
            shares = (row.share_violated, row.active_share)
            numbers = (row.stationarity, row.multiplier, row.shadow_price)
            checked = [_number(row.worst_violation), *map(_percent, shares), *map(_number, numbers)]
            rows.append([row.name, row.guarantee, row.scope, *checked, _percent(row.saturation)])
        said = [f"{row.name}: {row.diagnosis}" for row in self.rows if row.diagnosis]
        return "\n".join([table(rows), *said, *self.notes])

    def _repr_html_(self) -> str:
        frame = [["constraint", "guarantee", "scope", "worst violation", "multiplier", "diagnosis"]]
        for row in self.rows:
            numbers = [_number(row.worst_violation), _number(row.multiplier)]
            frame.append([row.name, row.guarantee, row.scope, *numbers, row.diagnosis])
        head, *body = ("".join(f"<td>{html.escape(cell)}</td>" for cell in line) for line in frame)
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        lines = "".join(f"<tr>{line}</tr>" for line in body)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>{notes}"


def _number(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.3g}"


def _percent(value: float | None) -> str:
    if value is None:
        return "–"
    return "<0.1%" if 0 < value < 0.001 else f"{value:.1%}"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
