"""Affine equations with a large Jacobian of more rows than columns: least squares, one constraint at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from feasible.solve.projection.conditions import Requirement, joined
from feasible.solve.projection.descent import precision
from feasible.solve.projection.linearised import Differentiation
from feasible.solve.projection.nearest import Spectrum
from feasible.solve.projection.search import Point, Search, check_finite
from feasible.solve.projection.triangle import Triangle

LARGE_BYTES = 2**27
"""A Jacobian up to this size is kept as a whole, for what its singular values tell."""
SIDE = 6000
"""The most columns of a triangle."""
PART_BYTES = 2**31
"""The largest Jacobian of a single constraint."""


@dataclass(frozen=True)
class Tall:
    """The least-squares solution."""

    point: Point
    rows: int
    rank: int


def is_tall(search: Search) -> bool:
    """Whether the constraints are equations, more than there are parameters, with a large Jacobian."""
    conditions, columns = search.conditions, search.weights.count
    if search.reference is not None or columns > SIDE or not conditions.has_fixed_rows:
        return False
    low, high = conditions.bounds()
    if len(low) < columns or len(low) * columns * 8 <= LARGE_BYTES or not bool((low == high).all()):
        return False
    longest = max(len(_level(requirement, low.device)) for requirement in conditions.requirements)
    return longest * columns * 8 <= PART_BYTES


def least_squares(search: Search) -> Tall | None:
    """The shortest of the moves that leave the least of the equations; ``None`` where they are not affine.

    Each constraint's rows are differentiated, compared with what they are at another place, put into a triangle, and
    let go.
    """
    weights = search.weights
    weights.write(weights.start + search.probes(1)[0])
    probe = weights.read()
    triangle, count = Triangle(weights.count, weights.device), 0
    for requirement in search.conditions.requirements:
        rows = Differentiation(search.rows_of(requirement), weights)
        weights.write(weights.start)
        value, jacobian = rows.matrix()
        check_finite(jacobian)
        if not _is_affine(search, rows, value, jacobian, probe):
            return None
        triangle.add(jacobian, _level(requirement, weights.device) - value)
        count += len(value)
    search.differentiations += 1
    move, rank = solved(triangle, precision(search, count, weights.count))
    return Tall(search.evaluate(weights.start + move), count, rank)


def solved(triangle: Triangle, rcond: float) -> tuple[Tensor, int]:
    """The shortest least-squares solution, and the rank; singular values only where the columns may be dependent."""
    if triangle.is_full(rcond):
        return triangle.back_substituted(), triangle.columns
    spectrum = Spectrum(*triangle.square())
    rank = spectrum.rank(rcond)
    return spectrum.shortest(rank), rank


def _is_affine(search: Search, rows: Differentiation, value: Tensor, jacobian: Tensor, probe: Tensor) -> bool:
    """Whether the rows are, at another place, what their Jacobian says."""
    search.weights.write(probe)
    there = rows.function().detach().double()
    expected = value + jacobian @ (probe - search.weights.start)
    bend, size = (there - expected).abs(), torch.cat([value, there]).abs()
    return not len(bend) or bool(bend.amax() <= search.slack * size.amax())


def _level(requirement: Requirement, device: torch.device) -> Tensor:
    """What the rows of equations are to be."""
    return joined([low for low, _ in requirement.bounds()], device)
