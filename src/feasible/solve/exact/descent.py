"""Good choices and lower bounds for searches that do not finish at once: flips of two entries, a box relaxation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feasible.solve.exact.result import Budget

Array = NDArray[np.float64]

_STARTS = 16
_MOVES = 400
"""Of more single moves than these the best are tried in pairs."""
_NEIGHBOURS = 8
"""Values to either side of the present one that an entry of a long list may move to."""
_SWEEPS = 50


def good_choice(R: Array, y: Array, values: Sequence[Array], first: Array, budget: Budget) -> Array:
    """The best of several choices for ``min ‖R w − y‖²`` that no change of one or two entries improves.

    They start from ``first``, from the rounded relaxation, and from random choices, always the same ones. When
    the seconds have passed it is what was reached by then.
    """
    random = np.random.default_rng(0)
    relaxed = relaxation(R, y, values, np.zeros(len(y)))[0]
    starts = [first, np.array([value[np.abs(value - x).argmin()] for value, x in zip(values, relaxed)])]
    starts += [np.array([random.choice(value) for value in values]) for _ in range(_STARTS - len(starts))]
    return min((_polished(R, y, values, w, budget) for w in starts), key=lambda w: cost(R, y, w))


def cost(R: Array, y: Array, w: Array) -> float:
    """``‖R w − y‖²``, of one or of several columns together."""
    return float(np.square(R @ w - y).sum())


def relaxation(R: Array, y: Array, values: Sequence[Array], start: Array) -> tuple[Array, Array, float]:
    """A minimiser x of ``f(w) = ‖R w − y‖²`` over the box of the values, nearly, its gradient, and a lower bound.

    Sweeps of coordinate descent and Newton steps of the entries inside of the box take turns. The bound is
    ``f(x) + Σ_i min_w f_i'(x) (w_i − x_i)``, true by convexity however far x is from the minimiser.
    """
    low, high = np.array([value[0] for value in values]), np.array([value[-1] for value in values])
    G, h = R.T @ R, R.T @ y
    moving = np.flatnonzero((G.diagonal() > 0) & (low < high)).tolist()
    x = np.clip(start, low, high)
    for _ in range(_SWEEPS):
        before, slope = x.copy(), G @ x - h
        for i in moving:
            step = min(max(x[i] - slope[i] / G[i, i], low[i]), high[i]) - x[i]
            if step:
                x[i] += step
                slope += G[:, i] * step
        inside = np.flatnonzero((x > low) & (x < high))
        step = np.linalg.lstsq(R[:, inside], y - R @ x, rcond=None)[0]
        room = np.where(step > 0, high[inside] - x[inside], low[inside] - x[inside])
        x[inside] += min((room[step != 0] / step[step != 0]).min(initial=1.0), 1.0) * step
        x = np.clip(x, low, high)
        if np.abs(x - before).max(initial=0.0) <= 1e-9 * np.abs(x).max(initial=0.0):
            break
    slope = 2 * (R.T @ (R @ x - y))
    bound = cost(R, y, x) + float(np.minimum(slope * (low - x), slope * (high - x)).sum())
    return x, slope, max(bound, 0.0)


def _polished(R: Array, y: Array, values: Sequence[Array], start: Array, budget: Budget) -> Array:
    """Change one or two entries as long as that improves the choice, the best change first."""
    G, h, w = R.T @ R, R.T @ y, start
    best = cost(R, y, w)
    while budget.seconds_left:
        entry, step = _moves(values, w)
        if not len(entry):
            break
        single = step * (2 * (G @ w - h)[entry] + step * G.diagonal()[entry])
        few = np.argsort(single, kind="stable")[:_MOVES]
        entry, step, single = entry[few], step[few], single[few]
        pair = single[:, None] + single + 2 * np.outer(step, step) * G[np.ix_(entry, entry)]
        pair[entry[:, None] == entry] = np.inf
        np.fill_diagonal(pair, single)
        first, second = divmod(int(pair.argmin()), len(entry))
        changed = w.copy()
        changed[entry[first]] += step[first]
        if second != first:
            changed[entry[second]] += step[second]
        changed = np.array([value[np.abs(value - x).argmin()] for value, x in zip(values, changed)])
        now = cost(R, y, changed)
        if not now < best:
            break
        w, best = changed, now
    return w


def _moves(values: Sequence[Array], w: Array) -> tuple[NDArray[np.int64], Array]:
    """Every change of one entry to a value near the present one: which entry, and by how much."""
    entries: list[int] = []
    steps: list[float] = []
    for i, (value, present) in enumerate(zip(values, w)):
        place = int(np.searchsorted(value, present))
        near = value[max(place - _NEIGHBOURS, 0) : place + _NEIGHBOURS + 1]
        steps += (near[near != present] - present).tolist()
        entries += [i] * (len(steps) - len(entries))
    return np.array(entries, dtype=np.int64), np.array(steps)
