"""Convex problems with solutions from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

import feasible as fs

N = 12
ACCURATE = {"solver": cp.CLARABEL, "tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9}


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


G, E = numbers(3, N, seed=1), numbers(2, N, seed=2)


@dataclass(frozen=True)
class SetRow:
    """A set with its constraints in the words of cvxpy."""

    name: str
    set: fs.Set
    constraints: Callable[[Any], list[Any]]
    shape: tuple[int, ...] = (N,)

    def __str__(self) -> str:
        return self.name


BOUNDS = [
    SetRow("nonnegative", fs.NonNegative(), lambda v: [v >= 0]),
    SetRow("box", fs.Box(-0.3, 0.4), lambda v: [v >= -0.3, v <= 0.4]),
    SetRow("upper", fs.Box(upper=0.1), lambda v: [v <= 0.1]),
    SetRow("tensor bounds", fs.Box(torch.arange(N) / 10 - 1, None), lambda v: [v >= np.arange(N) / 10 - 1]),
    SetRow(
        "some entries",
        fs.Box(-0.3, 0.4).where(torch.arange(N) < 5),
        lambda v: [v[:5] >= -0.3, v[:5] <= 0.4],
    ),
    SetRow("two boxes", fs.Box(0, 1) & fs.Box(-1, 0.2), lambda v: [v >= 0, v <= 0.2]),
    SetRow(
        "two masks",
        fs.NonNegative().where(torch.arange(N) < 5) & fs.Box(-0.1, 0.1).where(torch.arange(N) > 3),
        lambda v: [v[:5] >= 0, v[4:] >= -0.1, v[4:] <= 0.1],
    ),
    SetRow("fixed", fs.Equal(0.5).where(torch.arange(N) % 2 == 0), lambda v: [v[::2] == 0.5]),
    SetRow("flat view", fs.Box(-0.1, 0.4).flatten(), lambda v: [v >= -0.1, v <= 0.4], (4, 3)),
]
COUPLED = [
    SetRow("simplex", fs.Simplex(), lambda v: [v >= 0, cp.sum(v) == 1]),
    SetRow("columns", fs.Simplex(dim=0), lambda v: [v >= 0, cp.sum(v, axis=0) == 1], (4, 3)),
    SetRow("sum", fs.SumTo(2.0), lambda v: [cp.sum(v) == 2]),
    SetRow("L1", fs.L1Ball(1.0), lambda v: [cp.norm1(v) <= 1]),
    SetRow("L2", fs.L2Ball(0.5), lambda v: [cp.norm2(v) <= 0.5]),
    SetRow("Linf", fs.LInfBall(0.2), lambda v: [cp.norm_inf(v) <= 0.2]),
    SetRow("half space", fs.HalfSpace(G[0], 0.1), lambda v: [G[0].numpy() @ v <= 0.1]),
    SetRow("affine", fs.Affine(E, torch.ones(2).double()), lambda v: [E.numpy() @ v == 1]),
    SetRow("cone", fs.SecondOrderCone(), lambda v: [cp.norm2(v[:-1]) <= v[-1]]),
    SetRow("monotone", fs.Monotone(), lambda v: [v[1:] >= v[:-1]]),
    SetRow("nuclear", fs.NuclearBall(0.5), lambda v: [cp.normNuc(v) <= 0.5], (3, 4)),
    SetRow("spectral", fs.SpectralBall(0.3), lambda v: [cp.sigma_max(v) <= 0.3], (3, 4)),
    SetRow(
        "sum in a box",
        fs.Box(0, 0.3) & fs.SumTo(1.0),
        lambda v: [v >= 0, v <= 0.3, cp.sum(v) == 1],
    ),
    SetRow("ball in the orthant", fs.L2Ball(0.5) & fs.NonNegative(), lambda v: [v >= 0, cp.norm2(v) <= 0.5]),
]


POLYHEDRON = SetRow(
    "polyhedron", fs.Polyhedron(G, torch.ones(3).double() / 10), lambda v: [G.numpy() @ v <= 0.1]
)
"""Its projection is a program of its own, and takes its time."""


@dataclass(frozen=True)
class Objective:
    """A smooth convex function of N numbers, for torch and for cvxpy."""

    name: str
    loss: Callable[[Tensor], Tensor]
    expression: Callable[[Any], Any]

    def __str__(self) -> str:
        return self.name

    def minimum(self, row: SetRow) -> float:
        """The least value over a set."""
        v = cp.Variable(row.shape)
        flat = v if len(row.shape) == 1 else cp.reshape(v, (N,), order="C")
        problem = cp.Problem(cp.Minimize(self.expression(flat)), row.constraints(v))
        problem.solve(**ACCURATE)
        return float(problem.value)


A, B = numbers(20, N, seed=3), 3 * numbers(20, seed=4)
LEAST_SQUARES = Objective(
    "least squares",
    lambda x: 0.5 * (A.to(x) @ x.reshape(-1) - B.to(x)).square().sum(),
    lambda v: 0.5 * cp.sum_squares(A.numpy() @ v - B.numpy()),
)
SLOPED = Objective(
    "logistic",
    lambda x: torch.nn.functional.softplus(A.to(x) @ x.reshape(-1) - B.to(x)).sum() + 0.05 * x.square().sum(),
    lambda v: cp.sum(cp.logistic(A.numpy() @ v - B.numpy())) + 0.05 * cp.sum_squares(v),
)


def closure_of(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """What ``step`` wants."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure
