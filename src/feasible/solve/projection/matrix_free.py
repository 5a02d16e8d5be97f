"""Least moves by products with the Jacobian alone, for systems too large to be factorised."""

from __future__ import annotations

from torch import Tensor

from feasible.optim.lsmr import lsmr
from feasible.solve.projection.search import Point, Search

TOLERANCE = 1e-10
HALVINGS = 20
STALLED = 1e-3
PATIENCE = 3


def gauss_newton(search: Search, here: Point, most: int, rounds: int) -> tuple[Point, int]:
    """The shortest steps that satisfy the rows which do not hold, linearised, by LSMR; halved until they gain.

    Where the constraints are affine equations the first step is the least move.
    """
    iterations, stalls = 0, 0
    while iterations < most and not search.is_feasible(here):
        iterations += 1
        step = _step(search, here, rounds)
        share = 1.0
        after = search.evaluate(here.x + step)
        while not after.values.norm < here.values.norm and share > 2.0**-HALVINGS:
            share /= 2
            after = search.evaluate(here.x + share * step)
        if not after.values.norm < here.values.norm:
            break
        stalls = stalls + 1 if after.values.norm > (1 - STALLED) * here.values.norm else 0
        here = after
        if stalls >= PATIENCE:
            break
    return here, iterations


def _step(search: Search, here: Point, rounds: int) -> Tensor:
    search.weights.write(here.x)
    search.differentiations += 1
    search.conditions.cut(search.values())
    system = search.products(TOLERANCE, rounds)
    rows = system.rows.detach().double()
    low, high = search.conditions.bounds()
    excess = (rows - high).clamp_min(0) - (low - rows).clamp_min(0)
    mask = ((excess != 0) | (low == high)).double()
    return lsmr(
        lambda v: system.times(v) * mask,
        lambda w: system.transposed(w * mask).double(),
        -excess,
        0.0,
        TOLERANCE,
        rounds,
    )
