"""Sphere decoding where a whole row of the weight is chosen at a time: one-hot rows, permutations."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from feasible.solve.exact.choices import Rows
from feasible.solve.exact.descent import cost
from feasible.solve.exact.result import Budget

Array = NDArray[np.float64]

_STARTS = 16


def decode_rows(
    R: Array, Y: Array, rows: Rows, budget: Budget, start: Array | None = None
) -> tuple[Array, float, float]:
    """``argmin ‖R W − Y‖²`` over W whose rows are among given vectors, R upper triangular.

    Row k costs ``‖Y_k − Σ_{i≥k} R_ki W_i‖²`` once those behind it are chosen.

    Args:
        R: upper triangular, (d, d).
        Y: right sides, (d, m).
        rows: the vectors (s, m), and whether each may be taken once only.
        budget: what may be spent; at least one choice is completed.
        start: a choice to be improved on.

    Returns:
        The best W, its cost, and a lower bound of all costs: the same number where the search was finished.
    """
    d = len(R)
    W = np.zeros((d, rows.vectors.shape[1]))
    chosen = [-1] * d
    best, found = (math.inf, W) if start is None else (cost(R, Y, start), start)
    open_: list[list[tuple[float, int]]] = [[] for _ in range(d)]
    level = d - 1
    open_[level] = _options(Y[level], R[level, level], rows, (), 0.0, best)
    nodes, before, pause = 0, budget.nodes, budget.stride()
    while level < d:
        options = open_[level]
        if not options:
            level += 1
            continue
        so_far, chosen[level] = options.pop()
        W[level] = rows.vectors[chosen[level]]
        nodes += 1
        if so_far >= best:
            options.clear()
        elif level == 0:
            best, found = so_far, W.copy()
            options.clear()
        else:
            level -= 1
            rest = Y[level] - R[level, level + 1 :] @ W[level + 1 :]
            taken = tuple(chosen[level + 1 :]) if rows.distinct else ()
            open_[level] = _options(rest, R[level, level], rows, taken, so_far, best)
        if nodes >= pause and best < math.inf:
            budget.nodes, pause = before + nodes, nodes + budget.stride()
            if budget.is_spent():
                break
    budget.nodes = before + nodes
    lower = min((option[0] for options in open_ for option in options), default=best)
    return found, best, min(lower, best)


def _options(
    rest: Array, pivot: float, rows: Rows, taken: tuple[int, ...], so_far: float, best: float
) -> list[tuple[float, int]]:
    """Cost and number of the vectors that can still be better than the best, the cheapest last."""
    costs = so_far + np.square(rest - pivot * rows.vectors).sum(-1)
    costs[list(taken)] = math.inf
    order = np.argsort(-costs, kind="stable")
    return [(value, number) for value, number in zip(costs[order].tolist(), order.tolist()) if value < best]


def good_rows(R: Array, Y: Array, rows: Rows, first: Array, budget: Budget) -> Array:
    """The best of several choices that neither another vector for one row nor a swap of two rows improves."""
    random = np.random.default_rng(0)
    d, s = len(R), len(rows.vectors)
    starts = [first]
    for _ in range(_STARTS - 1):
        numbers = random.permutation(s)[:d] if rows.distinct else random.integers(s, size=d)
        starts.append(rows.vectors[numbers])
    return min((_polished(R, Y, rows, W, budget) for W in starts), key=lambda W: cost(R, Y, W))


def _polished(R: Array, Y: Array, rows: Rows, W: Array, budget: Budget) -> Array:
    """Change one row, or swap two, as long as that improves the choice, the best change first."""
    G, H = R.T @ R, R.T @ Y
    best, size = cost(R, Y, W), G.diagonal()
    while budget.seconds_left:
        slope = 2 * (G @ W - H)
        step = W[None] - W[:, None]
        swaps = np.einsum("ijm,ijm->ij", step, slope[:, None] - slope[None])
        swaps += np.square(step).sum(-1) * (size[:, None] + size - 2 * G)
        i, j = divmod(int(swaps.argmin()), len(W))
        changed = W.copy()
        changed[[i, j]] = W[[j, i]]
        if not rows.distinct:
            step = rows.vectors[None] - W[:, None]
            single = np.einsum("ism,im->is", step, slope) + np.square(step).sum(-1) * size[:, None]
            if single.min() < swaps[i, j]:
                i, number = divmod(int(single.argmin()), len(rows.vectors))
                changed = W.copy()
                changed[i] = rows.vectors[number]
        now = cost(R, Y, changed)
        if not now < best:
            break
        W, best = changed, now
    return W
