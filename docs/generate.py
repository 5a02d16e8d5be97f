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


# Sets whose arguments are more than numbers.
GIVEN = {
    "Box": fs.Box(-1.0, 1.0),
    "HalfSpace": fs.HalfSpace(torch.ones(2), 1.0),
    "Affine": fs.Affine(torch.ones(1, 2), torch.ones(1)),
    "Polyhedron": fs.Polyhedron(torch.eye(2), torch.ones(2)),
    "FiniteSet": fs.FiniteSet([-1.0, 0.0, 1.0]),
    "KSparse": fs.KSparse(2),
    "NofM": fs.NofM(2, 4),
    "LowRank": fs.LowRank(2),
    "Candidates": fs.Candidates([torch.zeros(2), torch.ones(2)]),
}
COMPOSED = ("Where", "Flatten", "Intersection", "Union")


def example_sets() -> list[fs.Set]:
    """Every set once, with 1 for the numbers it needs, and one of each kind that is made from others."""
    found: list[fs.Set] = []
    for name in sorted(fs.sets.__all__):
        kind = getattr(fs.sets, name)
        if kind is fs.Set or name in COMPOSED:
            continue
        needed = [field.name for field in fields(kind) if field.init and field.default is MISSING]
        found.append(GIVEN.get(name) or kind(**dict.fromkeys(needed, 1.0)))
    mask = torch.tensor([True, False])
    composed = [fs.NonNegative().where(mask), fs.L2Ball(1.0).flatten(1), fs.L2Ball(1.0) & fs.NonNegative()]
    return [*found, *composed, fs.Simplex() | fs.Sphere(2.0)]


def matrix_page() -> str:
    """The text of ``matrix.md``."""
    return HEADING + matrix(example_sets())


if __name__ == "__main__":
    MATRIX.write_text(matrix_page(), encoding="utf-8")
