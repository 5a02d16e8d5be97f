"""Ways to the constraints: one solve where they are affine, Gauss–Newton steps where they bend."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from feasible.solve.projection.nearest import TIGHT, Linearised
from feasible.solve.projection.search import Point, Search

REFINEMENTS = 3
"""How often an affine solution is corrected by what rounding left of it."""
TRUNCATION = 1e-6
"""Share of the largest singular value at which Gauss–Newton steps start to truncate."""
COARSEST, FINEST = 1e-2, 1e-14
GAIN, GOOD = 1e-3, 0.5
"""Share of the expected gain that accepts a step, and that lets the next one be bolder."""
STALLED = 1e-3
"""Relative fall of the violation in an iteration that counts as none."""
PATIENCE = 4
HALVINGS = 12
STATIONARY = 1e-7
"""A move along the constraints shorter than this share of the way so far ends the search."""
NEARLY = 1e-4
"""Where the tolerance of the constraints ends it first, up to this share the way counts as the least."""


def affine(search: Search, most: int) -> tuple[Point, int]:
    """The least move onto affine constraints, by one rank-revealing solve.

    Sets that rows do not describe are approached by half spaces that touch them, until the nearest point of all
    half spaces lies in the sets: then it is the nearest point of the sets.
    """
    best, here = search.start, search.start
    iterations, refinements = 0, 0
    while iterations < most:
        iterations += 1
        linear, seen = search.linearise(here)
        toward = search.weights.start - here.x
        rcond = _precision(search, linear.jacobian)
        step = linear.step(toward, search.metric(seen), rcond, rcond)
        search.last = (step, linear)
        here = search.evaluate(here.x + step.move)
        if search.conditions.has_fixed_rows:
            if here.values.norm < best.values.norm or search.is_feasible(here):
                best = here
            # What the solve itself could not satisfy stays: only rounding is worth another one.
            is_rounded = here.values.norm > 2 * step.left
            refinements += 1
            if search.is_feasible(here) or not is_rounded or refinements > REFINEMENTS:
                break
        else:
            best = here if here.values.norm < best.values.norm else best
            if search.is_feasible(here):
                break
    return best, iterations


def _precision(search: Search, jacobian: Tensor) -> float:
    """Where singular values are rounding: of the factorisation's, or of the Jacobian's own numbers.

    A linear differential equation over random features needs all that are not: its solution lives among the smallest.
    """
    if search.rcond is not None:
        return search.rcond
    rounding = torch.finfo(torch.float64).eps * (8 + math.sqrt(sum(jacobian.shape)))
    own = torch.finfo(search.weights.dtype).eps
    return rounding if own < rounding else 8 * own


def gauss_newton(search: Search, here: Point, most: int) -> tuple[Point, int]:
    """Least moves onto the linearised constraints, with truncation that follows the gain.

    A step whose gain falls short of a share of what the linearisation promised is taken back; then more singular
    values are cut off, and at last the step is halved.
    """
    rcond, iterations, stalls = search.rcond or TRUNCATION, 0, 0
    while iterations < most and not search.is_feasible(here):
        linear, seen = search.linearise(here)
        iterations += 1
        found = _accepted(search, here, linear, seen, rcond)
        if found is None:
            break
        after, rcond = found
        stalls = stalls + 1 if after.values.norm > (1 - STALLED) * here.values.norm else 0
        here = after
        if stalls >= PATIENCE:
            break
    return here, iterations


def _accepted(
    search: Search, here: Point, linear: Linearised, seen: Tensor | None, rcond: float
) -> tuple[Point, float] | None:
    """The next point and its truncation; ``None``: no step makes the violation any smaller."""
    metric = search.metric(seen, at_rest=True)
    share = 1.0
    before = here.values.norm**2
    for _ in range(2 * HALVINGS):
        step = linear.step(None, metric, rcond, TIGHT)
        search.last = (step, linear)
        expected = before - step.left**2
        after = search.evaluate(here.x + share * step.move)
        gain = before - after.values.norm**2
        if gain > GAIN * share * expected and gain > 0:
            is_good = share == 1.0 and gain >= GOOD * expected
            return after, max(rcond / 10, FINEST) if is_good and search.rcond is None else rcond
        if rcond < COARSEST:
            rcond *= 10
        else:
            share /= 2
    return None


def along(search: Search, here: Point, most: int) -> tuple[Point, int, bool]:
    """Nearer to where the search began, with the constraints kept: steps along them, and back onto them.

    Returns:
        The point, the number of iterations, and whether no such step leads any nearer.
    """
    iterations, length, first = 0, 1.0, 0.0
    while iterations < most:
        linear, seen = search.linearise(here)
        iterations += 1
        toward = search.weights.start - here.x
        step = linear.step(
            toward, search.metric(seen), TRUNCATION if search.rcond is None else search.rcond, TIGHT
        )
        search.last = (step, linear)
        way = float(torch.linalg.vector_norm(step.move))
        gone = float(torch.linalg.vector_norm(toward))
        first = first or way
        if way <= STATIONARY * max(gone, first):
            return here, iterations, True
        share = min(1.0, 2 * length)
        for _ in range(HALVINGS):
            trial, extra = gauss_newton(search, search.evaluate(here.x + share * step.move), 5)
            iterations += extra
            if search.is_feasible(trial) and trial.move < here.move:
                break
            share /= 2
        else:
            return here, iterations, way <= NEARLY * gone
        is_last = here.move - trial.move <= 1e-12 * here.move
        here, length = trial, share
        if is_last:
            return here, iterations, way <= NEARLY * gone
    return here, iterations, False
