"""Weights that are one of several given matrices: all are tried, a piece at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feasible.solve.exact.choices import Listed
from feasible.solve.exact.losses import Fit
from feasible.solve.exact.result import Budget

Array = NDArray[np.float64]

_PIECE = 2**21
"""Predictions that are held at a time."""


def try_all(fit: Fit, listed: Listed, budget: Budget) -> Array:
    """The best of the matrices, or for every column of W the best of the vectors; of equally good ones the first."""
    parts = [fit.column(number) for number in range(fit.B.shape[1])] if listed.per_column else [fit]
    budget.nodes += len(listed.matrices) * len(parts)
    best = [listed.matrices[_values(part, listed.matrices).argmin()] for part in parts]
    return np.concatenate(best, axis=1)


def _values(fit: Fit, matrices: Array) -> Array:
    at_a_time = max(_PIECE // fit.B.size, 1)
    pieces = range(0, len(matrices), at_a_time)
    return np.concatenate([fit.values(matrices[start : start + at_a_time]) for start in pieces])
