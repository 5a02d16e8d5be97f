"""A plot as plain plotly data, with the words around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from feasible.workbook.run_directory import RunDirectory

if TYPE_CHECKING:
    from feasible.workbook.plots.marks import Mark


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
    choices: Sequence[Mark] = ()
    """The methods of which one at a time is shown; empty: all at once."""


def numbers(values: ArrayLike) -> Any:
    """Lists of five significant digits, ``None`` for what is not finite: all that a plot can show.

    >>> numbers([[1 / 3, float("nan")], [0.0, 2e-9]])
    [[0.33333, None], [0.0, 2e-09]]
    """
    if np.ndim(values) > 0:
        return [numbers(value) for value in np.asarray(values)]
    number = float(np.asarray(values))
    return float(f"{number:.5g}") if math.isfinite(number) else None


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
