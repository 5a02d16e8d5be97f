"""How the methods look: the same colour, symbol and dash in every plot and in the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from feasible.workbook.plots.figure import plain
from feasible.workbook.run_directory import RunDirectory

# Okabe and Ito's colours without black and yellow: told apart with any colour vision, on light and on dark.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "triangle-down", "hexagon")
DASHES = ("solid", "dash", "dot")
NEUTRAL = "#8a8f98"


@dataclass(frozen=True)
class Mark:
    """How one method looks: colour, symbol and dash differ together, never colour alone."""

    variant: str
    label: str
    colour: str
    symbol: str
    dash: str


def marks(run: RunDirectory) -> list[Mark]:
    """One mark for every method that finished at least one training."""
    shown = [row for row in run.rows if run.finished_runs(row["variant"])]
    chosen: list[Mark] = []
    for row in shown:
        variant, label = row["variant"], str(row.get("label") or row["variant"])
        index = sum(mark.variant != "unconstrained" for mark in chosen)
        if variant == "unconstrained":
            chosen.append(Mark(variant, label, NEUTRAL, "x", "dash"))
        else:
            colour, symbol = COLOURS[index % len(COLOURS)], SYMBOLS[index % len(SYMBOLS)]
            chosen.append(Mark(variant, label, colour, symbol, DASHES[index // len(COLOURS) % len(DASHES)]))
    return chosen


def scatter(mark: Mark, **details: Any) -> dict[str, Any]:
    """A scatter trace in the method's colour, symbol and dash; ``meta`` says which method it is."""
    marker = {"color": mark.colour, "symbol": mark.symbol, "size": 6, **details.pop("marker", {})}
    return {
        "type": "scatter",
        "name": plain(mark.label),
        "showlegend": False,
        "meta": {"variant": mark.variant},
        "marker": marker,
        "line": {"color": mark.colour, "dash": mark.dash, "width": 2},
        **details,
    }
