"""Branch and bound over boxes: a convex relaxation prunes where values are far from the real solution."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feasible.solve.exact.descent import cost, good_choice, relaxation
from feasible.solve.exact.result import Budget
from feasible.solve.exact.sphere import decode, triangle

Array = NDArray[np.float64]

_GLANCE = 4096
"""Nodes before a good first choice and relaxations are worth their time."""
_PIECE = 16384
"""Nodes for one box before it is split."""
_ROUNDS = 10


class Box(NamedTuple):
    """Choices that are left to be searched, in the order of their bounds."""

    bound: float
    number: int
    values: Sequence[Array]
    relaxed: Array
    """Where the relaxation of a larger box had its minimum."""


def search(R: Array, y: Array, values: Sequence[Array], budget: Budget) -> tuple[Array, float, float]:
    """``argmin ‖R w − y‖²`` over w with ``w[i]`` in ``values[i]``: the choice, its cost, and a lower bound.

    Sphere decoding by itself is fast where the best choice is near the real solution. What it does not finish at
    once is a box, whose convex relaxation gives a bound, and the values of each entry that can still be part of
    a better choice; what remains is decoded again, and split where it still takes too long.

    Source: Buchheim, Caprara & Lodi, *An effective branch-and-bound algorithm for convex quadratic integer
    programming*, Math. Program. 135 (2012); reduced-cost fixing as in linear programs.
    """
    glance = budget.part(_GLANCE)
    first, least, lower = decode(R, y, [value.tolist() for value in values], glance)
    budget.nodes = glance.nodes
    assert first is not None  # without a bound some choice is always found
    if lower >= least:
        return first, least, lower
    best = good_choice(R, y, values, first, budget)
    least = cost(R, y, best)
    count = itertools.count()
    boxes = [Box(lower, next(count), values, np.zeros(len(y)))]
    while boxes and boxes[0].bound < least and not budget.is_spent():
        box = _tightened(R, y, heapq.heappop(boxes), least)
        if box is None:
            continue
        found, bound = _decoded(R, y, box, least, budget)
        if found is not None and cost(R, y, found) < least:
            best, least = found, cost(R, y, found)
        if bound < least:
            for part in _halves(R, box):
                heapq.heappush(boxes, Box(bound, next(count), part, box.relaxed))
    return best, least, min((box.bound for box in boxes), default=least)


def _tightened(R: Array, y: Array, box: Box, least: float) -> Box | None:
    """The box without values that cannot be part of a choice below ``least``; ``None`` where nothing remains.

    With slope g at the relaxed minimum x, a choice with ``w_i = v`` costs at least the bound, where entry i is
    counted at its best, plus ``g_i (v − x_i)`` less that best.
    """
    values, x, bound = list(box.values), box.relaxed, box.bound
    for _ in range(_ROUNDS):
        x, slope, relaxed = relaxation(R, y, values, x)
        bound = max(bound, relaxed)
        if bound >= least:
            return None
        sizes = [len(value) for value in values]
        for i, value in enumerate(values):
            if len(value) > 1 and slope[i]:
                extra = slope[i] * (value - x[i])
                values[i] = value[relaxed + extra - min(extra[0], extra[-1]) < least]
        if not all(len(value) for value in values):
            return None
        if [len(value) for value in values] == sizes:
            break
    return Box(bound, box.number, values, x)


def _decoded(R: Array, y: Array, box: Box, least: float, budget: Budget) -> tuple[Array | None, float]:
    """A better choice in the box, if one is found, and a lower bound of all its choices."""
    is_open = np.array([len(value) > 1 for value in box.values])
    w = np.array([value[0] for value in box.values])
    rest = y - R[:, ~is_open] @ w[~is_open]
    if not is_open.any():
        value = float(np.square(rest).sum())
        return (w if value < least else None), math.inf
    form = triangle(R[:, is_open], rest[:, None])
    places = np.flatnonzero(is_open)[form.order]
    constant = float(form.constant[0])
    piece = budget.part(_PIECE)
    lists = [box.values[i].tolist() for i in places]
    found, below, lower = decode(form.R, form.Y[:, 0], lists, piece, below=least - constant)
    budget.nodes = piece.nodes
    if found is not None:
        w[places] = found
    return (None if found is None else w), math.inf if lower >= below else max(box.bound, lower + constant)


def _halves(R: Array, box: Box) -> list[list[Array]]:
    """The box in two, between the values around the relaxed minimum of the entry that rounding hurts most."""
    lengths = np.linalg.norm(R, axis=0)
    away = [float(np.abs(value - x).min()) for value, x in zip(box.values, box.relaxed)]
    harm = [
        (distance * length, length) if len(value) > 1 else (-1.0, 0.0)
        for value, distance, length in zip(box.values, away, lengths.tolist())
    ]
    i = harm.index(max(harm))
    value = box.values[i]
    cut = min(max(int(np.searchsorted(value, box.relaxed[i], side="right")), 1), len(value) - 1)
    return [[*box.values[:i], part, *box.values[i + 1 :]] for part in (value[:cut], value[cut:])]
