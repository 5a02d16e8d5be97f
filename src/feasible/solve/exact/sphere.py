"""Sphere decoding: entries from lists, depth first over a triangular system, the nearest value first."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

import numpy as np
from numpy.typing import NDArray

from feasible.solve.exact.result import Budget

Array = NDArray[np.float64]
Integer = NDArray[np.int64]

_FEW = 16
"""From longer lists only the values are taken whose own cost is below the best one."""


@dataclass(frozen=True)
class Triangle:
    """``‖A w − b‖² = ‖R w[order] − y‖² + constant`` for every w and each of m columns b."""

    R: Array
    """Upper triangular, (d, d); rows of columns that others explain are zero."""
    Y: Array
    """Right sides, (d, m)."""
    constant: Array
    """What no w can explain, (m,)."""
    order: Integer
    """Which column of A each column of R is."""


def triangle(A: Array, B: Array) -> Triangle:
    """The triangular form of ``‖A W − B‖²``, columns ordered for the search; exact up to rounding.

    The column that is nearest to the span of those before it comes next: the last ones, which are decided first,
    keep the most of their length. A column in that span, up to rounding, gets a row of zeros.

    Source: Wübben et al., *Efficient algorithm for decoding layered space-time codes*, Electronics Letters 37 (2001).
    """
    d = A.shape[1]
    order, is_new = _order(np.linalg.qr(A)[1])
    Q = np.linalg.qr(A[:, order[is_new]])[0]
    R, Y = np.zeros((d, d)), np.zeros((d, B.shape[1]))
    R[is_new], Y[is_new] = Q.T @ A[:, order], Q.T @ B
    rest = B - Q @ Y[is_new]
    return Triangle(np.triu(R), Y, np.einsum("nm,nm->m", rest, rest), order)


def _order(A: Array) -> tuple[Integer, NDArray[np.bool_]]:
    """Columns in the order of the search, and which of them are not in the span of those before."""
    rest, left = A.copy(), list(range(A.shape[1]))
    order: list[int] = []
    is_new: list[bool] = []
    basis = np.zeros((len(A), 0))
    rounding = 2 * max(A.shape) * np.finfo(np.float64).eps * np.linalg.norm(A, axis=0)
    while left:
        pick = left.pop(int(np.einsum("nd,nd->d", rest[:, left], rest[:, left]).argmin()))
        direction = rest[:, pick] - basis @ (
            basis.T @ rest[:, pick]
        )  # the second time removes what rounding left
        length = float(np.linalg.norm(direction))
        order.append(pick)
        is_new.append(basis.shape[1] < len(A) and length > rounding[pick])
        if is_new[-1]:
            direction /= length
            basis = np.column_stack([basis, direction])
            rest -= np.outer(direction, direction @ rest)
    return np.array(order, dtype=np.int64), np.array(is_new)


def decode(
    R: Array, y: Array, values: Sequence[Sequence[float]], budget: Budget, below: float = math.inf
) -> tuple[Array | None, float, float]:
    """``argmin ‖R w − y‖²`` over w with ``w[i]`` in ``values[i]``, R upper triangular.

    Entry k costs ``(y_k − Σ_{i≥k} R_ki w_i)²`` once those behind it are decided, so that a partial choice costs
    at least what it has cost so far. A zero on the diagonal makes all values of an entry equally good.

    Args:
        R: upper triangular, (d, d), d ≥ 1.
        y: right side, (d,).
        values: for each entry its values in ascending order.
        budget: what may be spent; without a bound at least one choice is completed.
        below: only choices that cost less are looked for.

    Returns:
        The best choice (``None``: none is below the bound), its cost or that bound, and a lower bound of both and of
        all costs: the same number where the search was finished.

    Source: Schnorr & Euchner, *Lattice basis reduction*, Math. Program. 66 (1994); Agrell et al., *Closest point
    search in lattices*, IEEE Trans. Inf. Theory 48 (2002).
    """
    d = len(y)
    last = d - 1
    right: list[float] = y.tolist()
    tails: list[list[float]] = [R[k, k + 1 :].tolist() for k in range(d)]
    diagonal: list[float] = R.diagonal().tolist()
    w = [0.0] * d
    best, found = below, None
    open_: list[list[tuple[float, float]]] = [[] for _ in range(d)]
    open_[last] = _options(right[last], diagonal[last], values[last], 0.0, best)
    level, nodes, before, pause = last, 0, budget.nodes, budget.stride()
    while level < d:
        options = open_[level]
        if not options:
            level += 1
            continue
        so_far, w[level] = options.pop()
        nodes += 1
        if so_far >= best:
            options.clear()
        elif level == 0:
            best, found = so_far, w.copy()
            options.clear()
        else:
            level -= 1
            rest = right[level] - sum(map(mul, tails[level], w[level + 1 :]))
            open_[level] = _options(rest, diagonal[level], values[level], so_far, best)
        if nodes >= pause and best < math.inf:
            budget.nodes, pause = before + nodes, nodes + budget.stride()
            if budget.is_spent():
                break
    budget.nodes = before + nodes
    lower = min((option[0] for options in open_ for option in options), default=best)
    return None if found is None else np.array(found), best, min(lower, best)


def _options(
    rest: float, pivot: float, values: Sequence[float], so_far: float, best: float
) -> list[tuple[float, float]]:
    """Cost and value of what can still be better than the best, the cheapest last."""
    if len(values) > _FEW and pivot != 0 and best < math.inf:
        reach = math.sqrt(best - so_far) * (1 + 1e-12)
        ends = sorted(((rest - reach) / pivot, (rest + reach) / pivot))
        values = values[max(bisect_left(values, ends[0]) - 1, 0) : bisect_right(values, ends[1]) + 1]
    options = [(so_far + (rest - pivot * value) ** 2, value) for value in values]
    options = [option for option in options if option[0] < best]
    options.sort(reverse=True)
    return options
