"""Nearest points by independent means: numpy in closed form, or a conic solver."""

import warnings
from collections.abc import Callable

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

Reference = Callable[[Tensor], Tensor]
Constraints = Callable[[cp.Expression], list[cp.Constraint]]


def clip(lower: object = None, upper: object = None) -> Reference:
    """Into a range, by numpy."""
    low, high = (None if bound is None else np.asarray(bound) for bound in (lower, upper))
    return lambda x: torch.from_numpy(np.clip(x.numpy(), low, high))


def solver(constraints: Constraints, dim: int | None = -1, start_dim: int | None = None) -> Reference:
    """By Clarabel: every vector along ``dim`` (of ``flatten(start_dim)``) is one problem."""

    def nearest(x: Tensor) -> Tensor:
        flat = x if start_dim is None else x.flatten(start_dim)
        rows = flat.reshape(1, -1) if dim is None else flat.movedim(dim, -1)
        vectors = [_solve(row, constraints) for row in rows.reshape(-1, rows.shape[-1]).numpy()]
        solved = torch.from_numpy(np.stack(vectors)).reshape(rows.shape)
        return (solved if dim is None else solved.movedim(-1, dim)).reshape(x.shape)

    return nearest


def matrix_solver(constraints: Constraints) -> Reference:
    """By Clarabel: the whole tensor is one problem in its own shape."""
    return lambda x: torch.from_numpy(_solve(x.numpy(), constraints))


def _solve(x: np.ndarray, constraints: Constraints) -> np.ndarray:
    scale = min(1.0, float(np.abs(x).max()) or 1.0)  # tiny sets are solved at a readable size
    scaled = cp.Variable(x.shape)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(scaled - x / scale)), constraints(scale * scaled))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # more digits are asked for than it can promise
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    assert scaled.value is not None, problem.status
    return scale * scaled.value
