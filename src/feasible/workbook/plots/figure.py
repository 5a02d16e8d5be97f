"""A plot as plain plotly data, with the words around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from feasible.workbook.run_directory import RunDirectory


@dataclass(frozen=True)
class Figure:
    """A plot without colours of page or paper: the page adds its own, light or dark."""

    name: str
    title: str
    caption: str
    """What the reader looks at, and what would be good."""
    data: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    height: int = 380
    is_wide: bool = False


def metric_axis(run: RunDirectory, title: str = "") -> dict[str, Any]:
    """The axis of the metric, shares in percent."""
    shown = {"tickformat": ".1~%"} if run.metric_is_share else {}
    return {"title": {"text": plain(title)}, **shown}


def plain(text: str) -> str:
    """Text that plotly's own small markup leaves alone."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "% {")


def short(label: str) -> str:
    """A label for an axis."""
    return plain(label if len(label) <= 30 else label[:29] + "…")


def capital(text: str) -> str:
    """The text as the beginning of a sentence.

    >>> capital("test RMSE")
    'Test RMSE'
    """
    return text[:1].upper() + text[1:]
