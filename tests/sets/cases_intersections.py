"""Rows of the table: intersections that are projected onto by a closed form."""

from math import inf

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

from feasible import (
    PSD,
    Affine,
    Box,
    DoublyStochastic,
    Equal,
    Frozen,
    HalfSpace,
    KSparse,
    L1Ball,
    L2Ball,
    Monotone,
    NonNegative,
    NuclearBall,
    SecondOrderCone,
    Simplex,
    SkewSymmetric,
    SpectralBall,
    Sphere,
    SumTo,
    Symmetric,
)

from .cases import MASK, MATRIX, SetCase
from .cases_matrices import CURVED, EIGENVALUES_AS_SLACKS, SYMMETRY_HAS_NO_SLACK, each_matrix
from .references import matrix_solver, solver

NORMAL = torch.tensor([1.0, -2.0, 0.0, 0.5])
LOWER = torch.tensor([[0.0, -1.0, -0.5, 0.1], [-inf, -1.0, 0.0, -2.0], [0.0, 0.0, 0.0, -inf]])
UPPER = LOWER.clamp_min(-1) + 2
TRACE = torch.eye(3).reshape(1, -1)
SQUARE = ((3, 3),)
SQUARES = ((2, 3, 3), (3, 3))
NOT_TRACED = ("compiled_projection_agrees",)
MODERATE = {"scales": (1e-9, 1.0)}


def normal_of(p: cp.Variable) -> cp.Expression:
    return NORMAL.double().numpy() @ p


def psd_with(*conditions):
    def constraints(p: cp.Variable) -> list[cp.Constraint]:
        return [p == p.T, p >> 0, *(condition(p) for condition in conditions)]

    return each_matrix(matrix_solver(constraints))


def eigenvalues(nearest):
    """The nearest matrix by its eigenvalues, which a function of numpy vectors changes."""

    def of_matrix(x: Tensor) -> Tensor:
        values, vectors = np.linalg.eigh((x + x.mT).numpy() / 2)
        return torch.from_numpy(vectors @ np.diag(nearest(values)) @ vectors.T)

    return each_matrix(of_matrix)


def masked_sum(p: cp.Variable) -> list[cp.Constraint]:
    picked = MASK.numpy().astype(float)
    return [cp.sum(p, axis=1) == 1, cp.multiply(picked, p - 0.25) == 0]


def positive_direction(x: Tensor) -> Tensor:
    """The nearest point of the unit sphere in the orthant, by its definition."""

    def nearest(row: np.ndarray) -> np.ndarray:
        positive = np.maximum(row, 0)
        axis = np.eye(len(row))[row.argmax()]
        return positive / np.linalg.norm(positive) if positive.any() else axis

    return torch.from_numpy(np.apply_along_axis(nearest, -1, x.numpy()))


def on_sphere_with_sum(x: Tensor) -> Tensor:
    centre = np.full(x.shape, 1 / x.shape[-1])
    away = x.numpy() - x.numpy().mean(-1, keepdims=True)
    radius = np.sqrt(1.21 - 1 / x.shape[-1])
    axis = np.eye(x.shape[-1])[0] - 1 / x.shape[-1]
    is_zero = np.linalg.norm(away, axis=-1, keepdims=True) < 1e-12 * np.abs(x.numpy()).max(-1, keepdims=True)
    away = np.where(is_zero | ~away.any(-1, keepdims=True), axis, away)
    return torch.from_numpy(centre + radius * away / np.linalg.norm(away, axis=-1, keepdims=True))


CASES = [
    # -- ranges with a linear condition ------------------------------------------------------------
    SetCase(
        Box(0, 1) & HalfSpace(NORMAL, -0.5),
        MATRIX,
        solver(lambda p: [p >= 0, p <= 1, normal_of(p) <= -0.5]),
        accuracy=1e-5,
    ),
    SetCase(
        Box(LOWER, UPPER) & SumTo(1.0),
        MATRIX,
        scales=(1e-9, 1.0, 1e6),
    ),
    SetCase(
        Box(-1, 1) & Affine(NORMAL[None], torch.tensor([0.25])),
        MATRIX,
        solver(lambda p: [p >= -1, p <= 1, normal_of(p) == 0.25]),
        accuracy=1e-5,
    ),
    SetCase(
        Box(-0.5, 1) & SumTo(1.0, dim=0),
        ((3, 4), (4,), (1, 3)),
        solver(lambda p: [p >= -0.5, p <= 1, cp.sum(p) == 1], dim=0),
        accuracy=1e-5,
    ),
    SetCase(
        Box(0, 1) & HalfSpace(torch.ones(3, 4), 2.0, dim=None),
        MATRIX,
        solver(lambda p: [p >= 0, p <= 1, cp.sum(p) <= 2], dim=None),
        accuracy=1e-5,
    ),
    SetCase(
        Equal(0.25).where(MASK) & SumTo(1.0),
        ((3, 4),),
        matrix_solver(masked_sum),
        accuracy=1e-5,
        rejects=[
            (lambda: (Frozen().where(MASK) & SumTo(1.0)).bind(torch.ones(3, 4)), "is empty for a tensor"),
        ],
    ),
    SetCase(
        NonNegative() & L1Ball(1.5),
        MATRIX,
        solver(lambda p: [p >= 0, cp.sum(p) <= 1.5]),
        accuracy=1e-5,
    ),
    # -- ranges, cones and flat sets in a ball -----------------------------------------------------
    SetCase(
        Box(-0.2, 0.75) & L2Ball(0.9),
        MATRIX,
        solver(lambda p: [p >= -0.2, p <= 0.75, cp.norm(p) <= 0.9]),
        accuracy=1e-5,
    ),
    SetCase(
        Box(LOWER, UPPER) & L2Ball(2.5, dim=None),
        MATRIX,
        matrix_solver(
            lambda p: [p >= LOWER.clamp_min(-9).numpy(), p <= UPPER.numpy(), cp.norm(p, "fro") <= 2.5]
        ),
        accuracy=1e-5,
    ),
    SetCase(SecondOrderCone() & L2Ball(1.0), MATRIX, accuracy=1e-5),
    SetCase(
        Monotone() & L2Ball(1.0), MATRIX, solver(lambda p: [cp.diff(p) >= 0, cp.norm(p) <= 1]), accuracy=1e-5
    ),
    SetCase(
        SumTo(1.0) & L2Ball(0.8), MATRIX, solver(lambda p: [cp.sum(p) == 1, cp.norm(p) <= 0.8]), accuracy=1e-5
    ),
    SetCase(
        SumTo(1.0) & L2Ball(1.2, dim=None),
        MATRIX,
        matrix_solver(lambda p: [cp.sum(p, axis=1) == 1, cp.norm(p, "fro") <= 1.2]),
        accuracy=1e-5,
    ),
    SetCase(SumTo(1.0) & Sphere(1.1), MATRIX, on_sphere_with_sum, **MODERATE),
    SetCase(NonNegative() & Sphere(), MATRIX, positive_direction),
    SetCase(KSparse(2) & Sphere(), MATRIX),
    SetCase(KSparse(2) & L2Ball(1.0), MATRIX),
    SetCase(NonNegative() & KSparse(2), MATRIX),
    # -- isotonic regression -----------------------------------------------------------------------
    SetCase(
        Monotone() & Box(0, 1),
        MATRIX,
        solver(lambda p: [cp.diff(p) >= 0, p >= 0, p <= 1]),
        accuracy=1e-5,
    ),
    SetCase(
        Monotone() & SumTo(1.0), MATRIX, solver(lambda p: [cp.diff(p) >= 0, cp.sum(p) == 1]), accuracy=1e-5
    ),
    # -- eigenvalues and symmetric matrices ---------------------------------------------------------
    SetCase(
        PSD() & Affine(TRACE, torch.ones(1), dim=None),
        SQUARE,
        psd_with(lambda p: cp.trace(p) == 1),
        accuracy=1e-5,
        skip=NOT_TRACED,
    ),
    SetCase(
        PSD(-0.5, 1.0) & HalfSpace(-2 * torch.eye(3).reshape(-1), -1.0).flatten(-2),
        SQUARES,
        skip=[*NOT_TRACED, *EIGENVALUES_AS_SLACKS, *SYMMETRY_HAS_NO_SLACK],
    ),
    SetCase(
        PSD() & NuclearBall(2.0),
        SQUARES,
        psd_with(lambda p: cp.trace(p) <= 2),
        accuracy=1e-5,
        skip=[*NOT_TRACED, *EIGENVALUES_AS_SLACKS, *SYMMETRY_HAS_NO_SLACK],
    ),
    SetCase(
        PSD() & L2Ball(2.0, dim=None),
        SQUARE,
        psd_with(lambda p: cp.norm(p, "fro") <= 2),
        accuracy=1e-5,
        skip=[*NOT_TRACED, *EIGENVALUES_AS_SLACKS, *SYMMETRY_HAS_NO_SLACK],
    ),
    SetCase(
        PSD() & SpectralBall(1.5),
        SQUARES,
        eigenvalues(lambda values: values.clip(0, 1.5)),
        charts=(None, "cholesky"),
        skip=[*NOT_TRACED, *EIGENVALUES_AS_SLACKS, *SYMMETRY_HAS_NO_SLACK, *CURVED],
    ),
    SetCase(
        Symmetric() & NuclearBall(2.0),
        SQUARE,
        matrix_solver(lambda p: [p == p.T, cp.normNuc(p) <= 2]),
        accuracy=1e-5,
        skip=NOT_TRACED,
    ),
    SetCase(Symmetric() & Box(-0.5, 1), SQUARES, skip=NOT_TRACED),
    SetCase(
        Symmetric() & DoublyStochastic(),
        SQUARE,
        matrix_solver(lambda p: [p == p.T, p >= 0, cp.sum(p, axis=0) == 1]),
        accuracy=1e-5,
        smooth=False,
        skip=NOT_TRACED,
    ),
    SetCase(SkewSymmetric() & SpectralBall(1.0), SQUARES, skip=NOT_TRACED),
    # -- sets that become one ------------------------------------------------------------------------
    SetCase(
        NonNegative() & SumTo(2.0),
        MATRIX,
        solver(lambda p: [p >= 0, cp.sum(p) == 2]),
        accuracy=1e-5,
    ),
    SetCase(
        Simplex() & Box(upper=0.4),
        MATRIX,
        solver(lambda p: [p >= 0, p <= 0.4, cp.sum(p) == 1]),
        accuracy=1e-5,
    ),
]
