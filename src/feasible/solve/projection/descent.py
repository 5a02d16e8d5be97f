"""Ways to the constraints: one solve where they are affine, Gauss–Newton steps where they bend."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from feasible.solve.projection.nearest import TIGHT, Linearised, Spectrum
from feasible.solve.projection.search import Point, Search

REFINEMENTS = 3
"""How often an affine solution is corrected by what rounding left of it."""
COARSEST, FINEST = 0.1, 1e-14
"""Shares of the largest singular value at which Gauss–Newton steps are truncated, from the first to the last."""
FINER = 3.0
SETTLED = 0.5
"""Directions count as settled once an iteration leaves more of the violation than this."""
NEAR, WILD = 2.0, 1e2
"""More directions come in this near to the best violation; beyond so many times the first one all is taken back."""
PATIENCE = 12
RETREATS = 4
START = 1e-2
"""First damping, as a share of the largest eigenvalue."""
GAIN = 1e-3
"""Share of the expected gain that accepts a step."""
TRIALS = 30
STALLED = 1e-3
"""Relative fall of the violation in an iteration that counts as none."""
HALVINGS, RETURNS = 12, 6
"""How often a step along the constraints is halved, and how many iterations may lead back onto them."""
STATIONARY = 1e-7
"""A move along the constraints shorter than this share of the way so far ends the search."""
NONE = 1e-12
"""Relative fall of the squared move that counts as none."""
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
        linear, metric = search.linearise(here)
        toward = search.weights.start - here.x
        rcond = precision(search, *linear.jacobian.shape)
        step = linear.step(toward, metric, rcond, rcond)
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


def precision(search: Search, rows: int, columns: int) -> float:
    """Where singular values are rounding: of the factorisation's, or of the Jacobian's own numbers.

    A linear differential equation over random features needs all that are not: its solution lives among the smallest.
    """
    if search.rcond is not None:
        return search.rcond
    rounding = torch.finfo(torch.float64).eps * (8 + math.sqrt(rows + columns))
    own = torch.finfo(search.weights.dtype).eps
    return rounding if own < rounding else 8 * own


def gauss_newton(search: Search, here: Point, most: int, level: float = COARSEST) -> tuple[Point, int, float]:
    """Least moves onto the linearised constraints: bold ones first, damped ones where these fail.

    Returns:
        The best point, the number of iterations, and the truncation that it was reached with.
    """
    here, iterations, level = bold(search, here, most, search.rcond or level)
    if search.is_feasible(here) or iterations >= most:
        return here, iterations, level
    here, more = damped(search, here, most - iterations)
    return here, iterations + more, level


def bold(search: Search, start: Point, most: int, level: float) -> tuple[Point, int, float]:
    """Full Gauss–Newton steps with truncated singular values, which may make the violation larger for a while.

    Directions with the largest singular values come first; where they are settled, more are taken in. A search that
    has not improved on its best point for a while goes back there, and takes more in slowly.
    """
    best = here = start
    best_level, factor, waiting, retreats = level, FINER, 0, 0
    for iteration in range(most):
        if search.is_feasible(best):
            return best, iteration, best_level
        linear = search.rows_at(here)
        step = linear.step(None, None, level, TIGHT)
        after = search.evaluate(here.x + step.move)
        before, here = here, after
        waiting += 1
        if after.values.norm < best.values.norm:
            best, best_level, waiting = after, level, 0
        is_settled = SETTLED * before.values.norm < after.values.norm <= before.values.norm
        if is_settled and after.values.norm <= NEAR * best.values.norm and level > FINEST:
            level = max(level / factor, FINEST)
        elif waiting >= PATIENCE or not after.values.norm <= WILD * start.values.norm:
            here, waiting, retreats, factor = best, 0, retreats + 1, math.sqrt(factor)
            level = best_level / factor
            if retreats > RETREATS:
                return best, iteration + 1, best_level
    return best, most, best_level


def damped(search: Search, here: Point, most: int) -> tuple[Point, int]:
    """Levenberg–Marquardt on the squared distance of the rows from their bounds: every step makes it smaller."""
    damping, stalls = 0.0, 0
    for iteration in range(most):
        if search.is_feasible(here):
            return here, iteration
        linear = search.rows_at(here)
        violated = linear.violated()
        damping = damping or START * violated.size
        after, damping = _decreased(search, here, linear, violated, damping)
        if after is None:
            return here, iteration
        stalls = stalls + 1 if after.values.norm > (1 - STALLED) * here.values.norm else 0
        here = after
        if stalls >= PATIENCE:
            return here, iteration + 1
    return here, most


def _decreased(
    search: Search, here: Point, linear: Linearised, violated: Spectrum, damping: float
) -> tuple[Point | None, float]:
    """The first damped step that gains a share of what it promised, and the next damping."""
    before = here.values.norm**2
    for _ in range(TRIALS):
        move = violated.damped(damping)
        after = search.evaluate(here.x + move)
        expected = before - linear.violation(move) ** 2
        gain = before - after.values.norm**2
        if gain > GAIN * expected and gain > 0:
            return after, damping / FINER
        damping = 2 * damping or torch.finfo(torch.float64).tiny
    return None, damping


def along(search: Search, here: Point, most: int, level: float) -> tuple[Point, int, bool]:
    """Nearer to where the search began, with the constraints kept: steps along them, and back onto them.

    Returns:
        The point, the number of iterations, and whether no such step leads any nearer.
    """
    iterations, share, first = 0, 0.5, 0.0
    while iterations < most:
        linear, metric = search.linearise(here)
        iterations += 1
        toward = search.weights.start - here.x
        step = linear.step(toward, metric, level, TIGHT)
        way = float(torch.linalg.vector_norm(step.move))
        first = first or way
        gone = max(float(torch.linalg.vector_norm(toward)), first)
        if way <= STATIONARY * gone:
            return here, iterations, True
        after, share, more = _nearer(search, here, step.move, min(1.0, 2 * share), level)
        iterations += more
        if after is None:
            if metric is not None and search.coarseness < COARSEST:
                search.coarseness, share = 10 * search.coarseness, 0.5
                continue
            return here, iterations, way <= NEARLY * gone
        gained, here = here.move - after.move, after
        if gained <= NONE * here.move:
            return here, iterations, way <= NEARLY * gone
    return here, iterations, False


def _nearer(
    search: Search, here: Point, move: Tensor, share: float, level: float
) -> tuple[Point | None, float, int]:
    """A feasible point with a smaller move, along the way; the share of it, and the iterations that led back."""
    iterations = 0
    for _ in range(HALVINGS):
        trial = search.evaluate(here.x + share * move)
        if trial.values.norm < math.inf:
            trial, more, _ = bold(search, trial, RETURNS, level)
            iterations += more
            if search.is_feasible(trial) and trial.move < here.move:
                return trial, share, iterations
        share /= 2
    return None, share, iterations
