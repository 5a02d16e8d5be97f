"""How a cell of the comparison table reads, in a terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOTHING = "–"
"""What stands where nothing was measured."""


@dataclass(frozen=True)
class Cell:
    """One cell: its text, the spread over the seeds, and what a sorted table sorts by."""

    text: str
    spread: str = ""
    order: float | str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.spread})" if self.spread else self.text


def read_cell(column: Mapping[str, Any], row: Mapping[str, Any]) -> Cell:
    """The cell of a row: a median with the range over the seeds, a number, or words.

    >>> column = {"key": "accuracy", "label": "accuracy", "format": ".1%"}
    >>> print(read_cell(column, {"accuracy": {"median": 0.95, "min": 0.94, "max": 0.96}}))
    95.0% (94.0%–96.0%)
    """
    value = row.get(column["key"])
    style = str(column.get("format") or "text")
    if isinstance(value, Mapping):
        middle, low, high = (value.get(key) for key in ("median", "min", "max"))
        text, spread = show(middle, style), f"{show(low, style)}–{show(high, style)}"
        is_constant = show(low, style) == show(high, style)
        return Cell(text, "" if is_constant else spread, "" if middle is None else float(middle))
    if isinstance(value, (list, tuple)):
        text = "; ".join(str(item) for item in value) or NOTHING
        return Cell(text, order=text)
    if isinstance(value, (int, float)):
        return Cell(show(value, style), order=float(value))
    return Cell(show(value, style), order="" if value in (None, NOTHING) else str(value))


def show(value: Any, style: str = ".3g") -> str:
    """A value in words or by a format of Python; ``None`` is a dash, an exact zero is 0.

    >>> show(0.0, ".1e"), show(2.5e-7, ".2g"), show(None), show(True)
    ('0', '2.5e-07', '–', 'yes')
    """
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)) or style == "text":
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == 0 and not style.endswith(("%", "f")):
        return "0"
    return format(value, style)


def is_numeric(column: Mapping[str, Any]) -> bool:
    """Whether the column holds numbers, which are set to the right."""
    return str(column.get("format") or "text") != "text"
