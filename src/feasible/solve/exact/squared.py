"""Least squares over discrete sets: free numbers are eliminated, the rest is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from feasible.errors import UnsupportedError
from feasible.solve.exact.branching import search
from feasible.solve.exact.choices import Entries, Rows, Whole
from feasible.solve.exact.result import Budget
from feasible.solve.exact.rows import decode_rows, good_rows
from feasible.solve.exact.sphere import Triangle, triangle

Array = NDArray[np.float64]

_GLANCE = 4096
"""Nodes before a good first choice is worth its time."""
_LONGEST = 2**22
"""More whole numbers than this are not listed for an entry."""


@dataclass(frozen=True)
class Found:
    """A weight (d, m), its bias (m,), a lower bound of the loss, and whether nothing is better."""

    W: Array
    bias: Array | None
    lower: float
    is_proven: bool

    @staticmethod
    def together(parts: Sequence[Found]) -> Found:
        """Independent outputs side by side."""
        biases = [part.bias for part in parts if part.bias is not None]
        return Found(
            np.concatenate([part.W for part in parts], axis=1),
            np.concatenate(biases) if biases else None,
            sum(part.lower for part in parts),
            all(part.is_proven for part in parts),
        )


def fit_rows(A: Array, B: Array, rows: Rows, bias: bool, budget: Budget) -> Found:
    """Every row of W among given vectors: all outputs are decoded together."""
    ones = np.ones((len(A), int(bias)))
    form = triangle(_without(A, ones), _without(B, ones))
    glance = budget.part(_GLANCE)
    ordered, least, lower = decode_rows(form.R, form.Y, rows, glance)
    budget.nodes = glance.nodes
    if lower < least:
        start = good_rows(form.R, form.Y, rows, ordered, budget)
        ordered, least, lower = decode_rows(form.R, form.Y, rows, budget, start)
    W = np.empty_like(ordered)
    W[form.order] = ordered
    return Found(W, (B - A @ W).mean(0) if bias else None, lower + form.constant.sum(), lower == least)


def fit_columns(A: Array, B: Array, entries: Entries, bias: bool, budget: Budget) -> Found:
    """Every entry from its own list: one output after the other, those with the same free entries share R."""
    columns = list(zip(*entries.values))
    patterns = [tuple(value is None for value in column) for column in columns]
    parts: dict[int, Found] = {}
    for pattern in dict.fromkeys(patterns):
        alike = [number for number, other in enumerate(patterns) if other == pattern]
        free = np.array(pattern)
        basis = np.hstack([A[:, free], np.ones((len(A), int(bias)))])
        fixed = A[:, ~free]
        form = triangle(_without(fixed, basis), _without(B[:, alike], basis)) if (~free).any() else None
        for place, number in enumerate(alike):
            listed = [value for value in columns[number] if value is not None]
            share = budget.share(len(columns) - len(parts))
            parts[number] = _fit_column(A, B[:, number], free, listed, form, place, bias, share)
            budget.nodes = share.nodes
    return Found.together([parts[number] for number in range(len(columns))])


def _fit_column(
    A: Array,
    b: Array,
    free: NDArray[np.bool_],
    listed: Sequence[Array | Whole],
    form: Triangle | None,
    place: int,
    bias: bool,
    budget: Budget,
) -> Found:
    w = np.zeros(A.shape[1])
    lower, is_proven = 0.0, True
    if form is not None:
        y = form.Y[:, place]
        values = _lists([listed[i] for i in form.order], form.R, y)
        chosen, least, bound = search(form.R, y, values, budget)
        w[np.flatnonzero(~free)[form.order]] = chosen
        lower, is_proven = bound + float(form.constant[place]), bound >= least
    basis = np.hstack([A[:, free], np.ones((len(A), int(bias)))])
    numbers = np.linalg.lstsq(basis, b - A @ w, rcond=None)[0].astype(np.float64)
    w[free] = numbers[: free.sum()]
    return Found(w[:, None], numbers[-1:] if bias else None, lower, is_proven)


def _without(A: Array, basis: Array) -> Array:
    """What columns that may have any coefficient cannot explain."""
    if not basis.shape[1]:
        return A
    rest: Array = A - basis @ np.linalg.lstsq(basis, A, rcond=None)[0]
    return rest


def _lists(values: Sequence[Array | Whole], R: Array, y: Array) -> list[Array]:
    """Lists for all entries; of long ranges the part that can be better than rounding.

    A choice with ``‖R w − y‖² ≤ f`` has ``|w_i − x_i| ≤ √f · ‖row i of R⁻¹‖`` for the real solution x.

    Raises:
        UnsupportedError: a range is too long, or without an end where R is singular.
    """
    if not any(isinstance(value, Whole) for value in values):
        return [value for value in values if not isinstance(value, Whole)]
    if not R.diagonal().all():
        raise UnsupportedError(
            "whole numbers without close bounds have a best fit only where no input is a combination of others.\n"
            "  Give both bounds, as in Integers(-8, 7), or leave such inputs out."
        )
    inverse = np.linalg.inv(R)
    real = inverse @ y
    near = [_around(value, x, 1.0) for value, x in zip(values, real)]
    start = np.array([value[np.abs(value - x).argmin()] for value, x in zip(near, real)])
    reach = np.linalg.norm(R @ start - y) * np.linalg.norm(inverse, axis=1) * (1 + 1e-9)
    if not (reach < _LONGEST / 2).all():
        raise UnsupportedError(
            f"some inputs are nearly combinations of others: {2 * reach.max():.3g} whole numbers would have to be "
            "tried for an entry.\n  Give closer bounds, as in Integers(-8, 7), or leave such inputs out."
        )
    return [_around(value, x, far + 1.0) for value, x, far in zip(values, real, reach)]


def _around(value: Array | Whole, x: float, reach: float) -> Array:
    """The values within some distance of x, or of the end of the range that is nearest to x."""
    if not isinstance(value, Whole):
        return value
    x = min(max(x, value.lower), value.upper)
    coarse = 1.0 + 2 * abs(x) * torch.finfo(value.dtype).eps  # between two neighbours of the dtype
    return value.listed(x - reach - coarse, x + reach + coarse)
