"""Rows of the table: sets of matrices."""

from itertools import permutations
from math import inf, nan

import cvxpy as cp
import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from feasible import (
    PSD,
    DoublyStochastic,
    LowRank,
    NuclearBall,
    Permutation,
    SkewSymmetric,
    SpectralBall,
    Stiefel,
    Symmetric,
)

from .cases import MATRIX, SetCase
from .references import Constraints, Reference, matrix_solver

SQUARE = ((3, 3), (2, 2, 2), (1, 1))
TALL_AND_WIDE = ((4, 3), (2, 4), (2, 2, 2))
EIGENVALUES_AS_SLACKS = ("slack_is_concave",)
"""Each eigenvalue is a slack; the sum of their logarithms is concave, a single one is not."""
SYMMETRY_HAS_NO_SLACK = ("slack_is_positive_inside", "barrier_grows_towards_the_boundary")
"""A slack speaks of the symmetric part; what is not symmetric has none, positive or negative."""
CURVED = ("tangent_is_the_limit_of_projections",)
"""The set bends within the step of the difference quotient; a test of its own takes better points."""

NO_MATRIX = [((4,), "works on matrices in the last two dimensions, but the tensor has shape (4,)")]
NOT_SQUARE = [
    *NO_MATRIX,
    ((2, 3), "needs square matrices in the last two dimensions"),
    ((4, 1), "4 rows and 1 columns"),
]


def each_matrix(nearest: Reference) -> Reference:
    """The same for every matrix of a batch."""

    def batched(x: Tensor) -> Tensor:
        return torch.stack([nearest(m) for m in x.reshape(-1, *x.shape[-2:])]).reshape(x.shape)

    return batched


def solver(constraints: Constraints) -> Reference:
    return each_matrix(matrix_solver(constraints))


@each_matrix
def polar(x: Tensor) -> Tensor:
    side = "right" if x.shape[0] >= x.shape[1] else "left"
    return torch.from_numpy(scipy.linalg.polar(x.numpy(), side=side)[0])


@each_matrix
def best_permutation(x: Tensor) -> Tensor:
    corners = np.eye(len(x))[list(permutations(range(len(x))))]
    return torch.from_numpy(min(corners, key=lambda p: np.square(x.numpy() - p).sum()))


@each_matrix
def clipped_eigenvalues(x: Tensor) -> Tensor:
    values, vectors = scipy.linalg.eigh((x.numpy() + x.numpy().T) / 2)
    return torch.from_numpy(vectors @ np.diag(values.clip(0)) @ vectors.T)


def truncated(rank: int) -> Reference:
    """By numpy's own decomposition."""

    @each_matrix
    def nearest(x: Tensor) -> Tensor:
        left, values, right = np.linalg.svd(x.numpy(), full_matrices=False)
        return torch.from_numpy((left[:, :rank] * values[:rank]) @ right[:rank])

    return nearest


def between(low: float, high: float) -> Constraints:
    return lambda p: [p == p.T, p - low * np.eye(p.shape[0]) >> 0, high * np.eye(p.shape[0]) - p >> 0]


MATRIX_CASES: list[SetCase] = [
    # -- symmetric and skew-symmetric --------------------------------------------------------------
    SetCase(
        Symmetric(),
        SQUARE,
        solver(lambda p: [p == p.T]),
        affine=True,
        charts=(None, "triangle"),
        misfits=NOT_SQUARE,
    ),
    SetCase(SkewSymmetric(), SQUARE, solver(lambda p: [p == -p.T]), affine=True, charts=(None, "triangle")),
    SetCase(Symmetric().flatten(-2), ((3, 3, 1),)),
    # -- eigenvalues -------------------------------------------------------------------------------
    SetCase(
        PSD(),
        SQUARE,
        clipped_eigenvalues,
        charts=("square",),
        scales=(1e-9, 1.0),
        rejects=[
            (lambda: PSD(1, -1), "PSD is empty: min_eig must be ≤ max_eig, got 1 > -1"),
            (lambda: PSD(nan), "min_eig must be finite, got nan"),
            (lambda: PSD(max_eig=inf), "max_eig must be finite, got inf"),
            (lambda: PSD("one"), "min_eig must be a number, got 'one'"),
        ],
        misfits=NOT_SQUARE,
        skip=(*EIGENVALUES_AS_SLACKS, *SYMMETRY_HAS_NO_SLACK, *CURVED),
    ),
    SetCase(
        PSD(-0.5, 2.0),
        SQUARE,
        solver(between(-0.5, 2.0)),
        charts=(None, "cholesky"),
        skip=(*EIGENVALUES_AS_SLACKS, *SYMMETRY_HAS_NO_SLACK),
    ),
    SetCase(PSD(0.7, 0.7), SQUARE),
    # -- singular values ---------------------------------------------------------------------------
    SetCase(
        SpectralBall(0.5),
        TALL_AND_WIDE,
        solver(lambda p: [cp.sigma_max(p) <= 0.5]),
        accuracy=1e-5,
        rejects=[
            (lambda: SpectralBall(-1), "SpectralBall is empty: radius must be ≥ 0, got -1"),
            (lambda: SpectralBall(inf), "radius must be finite, got inf"),
        ],
        misfits=NO_MATRIX,
        skip=EIGENVALUES_AS_SLACKS,
    ),
    SetCase(SpectralBall(0.0), MATRIX),
    SetCase(
        NuclearBall(2.0),
        TALL_AND_WIDE,
        solver(lambda p: [cp.normNuc(p) <= 2]),
        rejects=[
            (lambda: NuclearBall(-1), "NuclearBall is empty: radius must be ≥ 0, got -1"),
            (lambda: NuclearBall(None), "radius must be a number, got None"),
        ],
        misfits=NO_MATRIX,
    ),
    SetCase(NuclearBall(0.0), MATRIX),
    SetCase(
        LowRank(1),
        TALL_AND_WIDE,
        truncated(1),
        rejects=[
            (lambda: LowRank(-1), "rank must be a non-negative integer, got -1"),
            (lambda: LowRank(1.5), "rank must be a non-negative integer, got 1.5"),
            (lambda: LowRank(True), "rank must be a non-negative integer, got True"),
        ],
        misfits=NO_MATRIX,
        skip=CURVED,
    ),
    SetCase(LowRank(9), MATRIX, truncated(9)),
    SetCase(LowRank(0), MATRIX, truncated(0)),
    # -- orthonormal columns or rows ---------------------------------------------------------------
    SetCase(
        Stiefel(),
        (*TALL_AND_WIDE, (1, 1), (6, 1)),
        charts=(None, "householder", "matrix_exp"),
        misfits=NO_MATRIX,
        skip=CURVED,
    ),
    SetCase(Stiefel().flatten(1), ((3, 2, 2),), skip=CURVED),
    # -- doubly stochastic matrices and permutations -----------------------------------------------
    SetCase(
        DoublyStochastic(),
        ((3, 3), (2, 4, 4), (1, 1)),
        solver(lambda p: [p >= 0, cp.sum(p, axis=0) == 1, cp.sum(p, axis=1) == 1]),
        misfits=NOT_SQUARE,
        compilable=False,
    ),
    SetCase(
        Permutation(),
        ((3, 3), (2, 4, 4), (1, 1)),
        best_permutation,
        minus_infinity=True,
        misfits=NOT_SQUARE,
        compilable=False,
    ),
]
