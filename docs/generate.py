"""Writes the pages that follow from the code: ``python docs/generate.py``."""

from __future__ import annotations

from pathlib import Path

from feasible.methods.extensions import own_methods, own_sets
from feasible.methods.matrix import table

MATRIX = Path(__file__).parent / "matrix.md"

HEADING = """\
# Which method serves which set

Generated from the code by `python docs/generate.py`. ● works, ○ works as a heuristic (the set is not convex), empty:
refused when it is declared, with a sentence that names the methods that do work. `Project` and `Reparametrize` serve
weights; the others serve weights and required values alike. `print(feasible.matrix())` shows the same table for your
installation, with the sets and methods of [other packages](extending.md).

"""


def matrix_page() -> str:
    """The text of ``matrix.md``: what the library itself ships, whatever else is installed."""
    return HEADING + table(own_sets(), own_methods())


if __name__ == "__main__":
    MATRIX.write_text(matrix_page(), encoding="utf-8")
