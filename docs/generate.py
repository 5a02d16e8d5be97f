"""Writes the pages that follow from the code: ``python docs/generate.py``."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path

import torch

import feasible as fs
from feasible.methods.matrix import matrix

MATRIX = Path(__file__).parent / "matrix.md"

HEADING = """\
# Which method serves which set

Generated from the code by `python docs/generate.py`. ● works, ○ works as a heuristic (the set is not convex), empty:
refused when it is declared, with a sentence that names the methods that do work. `Project` and `Reparametrize` serve
weights; the others serve weights and required values alike.

"""


def example_sets() -> list[fs.Set]:
    """Every set once, with 1 for what it needs, and one of each kind that is made from others."""
    found: list[fs.Set] = []
    for name in fs.sets.__all__:
        kind = getattr(fs.sets, name)
        if kind is fs.Set or kind.__module__.endswith("algebra"):
            continue
        needed = [field.name for field in fields(kind) if field.default is MISSING]
        found.append(kind(**dict.fromkeys(needed, 1.0)) if name != "Box" else fs.Box(-1.0, 1.0))
    mask = torch.tensor([True, False])
    return [*found, fs.NonNegative().where(mask), fs.L2Ball(1.0).flatten(1), fs.NonNegative() & fs.SumTo(1.0)]


def matrix_page() -> str:
    """The text of ``matrix.md``."""
    return HEADING + matrix(example_sets())


if __name__ == "__main__":
    MATRIX.write_text(matrix_page(), encoding="utf-8")
