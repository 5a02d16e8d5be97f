"""Polynomials through Chebyshev's points, for references that have no closed form."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def points_and_slopes(degree: int) -> tuple[Array, Array]:
    """Chebyshev's points on [−1, 1] from −1 to 1, and the matrix that differentiates values there.

    Source: Trefethen, *Spectral Methods in MATLAB* (2000), chapter 6.
    """
    x = -np.cos(np.pi * np.arange(degree + 1) / degree)
    ends = np.ones(degree + 1)
    ends[[0, -1]] = 2
    signed = ends * (-1.0) ** np.arange(degree + 1)
    apart = x[:, None] - x[None, :] + np.eye(degree + 1)
    matrix = np.outer(signed, 1 / signed) / apart
    np.fill_diagonal(matrix, 0)
    np.fill_diagonal(matrix, -matrix.sum(1))
    return x, matrix


def coefficients(values: Array) -> Array:
    """Of T₀, T₁, … along each axis of values at Chebyshev's points."""
    for axis in range(values.ndim):
        nodes, _ = points_and_slopes(values.shape[axis] - 1)
        basis = np.polynomial.chebyshev.chebvander(nodes, values.shape[axis] - 1)
        values = np.moveaxis(np.tensordot(np.linalg.inv(basis), values, (1, axis)), 0, axis)
    return values


def series(x: Tensor, y: Tensor, factors: Tensor) -> Tensor:
    """``Σ c_mn T_m(x) T_n(y)`` for x and y in [−1, 1], (n, 1); it can be differentiated."""
    left, right = _terms(x, factors.shape[0]), _terms(y, factors.shape[1])
    return ((left @ factors) * right).sum(1, keepdim=True)


def _terms(x: Tensor, count: int) -> Tensor:
    """T₀ … of x, (n, count), count ≥ 2, by the recurrence."""
    terms = [torch.ones_like(x), x]
    while len(terms) < count:
        terms.append(2 * x * terms[-1] - terms[-2])
    return torch.cat(terms, 1)
