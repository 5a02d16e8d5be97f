"""Rows of the table: balls with corners, the sphere, linear conditions, cones."""

from collections.abc import Sequence
from math import inf, nan
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from scipy.optimize import isotonic_regression
from torch import Tensor

from feasible import (
    Affine,
    HalfSpace,
    L1Ball,
    LInfBall,
    Monotone,
    Polyhedron,
    SecondOrderCone,
    Set,
    Sphere,
)

from .cases import HALF_LINE_CHARTS, INTERVAL_CHARTS, MATRIX, VECTORS, SetCase
from .references import Reference, clip, solver

FOURS = ((3, 4), (4,), (2, 2, 4))
STEP_CHARTS = (None, "softplus", "exp", "square")
NORMAL = torch.tensor([1.0, -2.0, 0.0, 0.5], dtype=torch.float64)
A = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 0.0, 2.0]], dtype=torch.float64)
B = torch.tensor([1.0, -0.5], dtype=torch.float64)
# The third equation repeats the first two, the fourth says nothing.
REDUNDANT = torch.cat([A, 1e3 * A[:1] + A[1:], torch.zeros(1, 4, dtype=torch.float64)])
REDUNDANT_B = torch.cat([B, 1e3 * B[:1] + B[1:], torch.zeros(1, dtype=torch.float64)])
G = torch.tensor(
    [[-1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, -1], [1, 1, 1, 1], [1, 1, 0, 0], [2, 2, 0, 0]],
    dtype=torch.float64,
)
H = torch.tensor([0.0, 0, 0, 0.5, 1.5, 1, 2], dtype=torch.float64)
SHIFTS = torch.tensor([[0.0], [1.0], [0.25]], dtype=torch.float64)


# What costs most is checked on the first row of each set.
SLOW = ("compiled_projection_agrees",)
SLOWER = (*SLOW, "interior_has_room", "projection_is_differentiable")


def isotonic(increasing: bool = True, dim: int = -1) -> Reference:
    """By scipy, vector by vector."""

    def nearest(x: Tensor) -> Tensor:
        rows = x.movedim(dim, -1)
        fitted = [
            isotonic_regression(row, increasing=increasing).x for row in rows.reshape(-1, rows.shape[-1])
        ]
        return torch.from_numpy(np.stack(fitted)).reshape(rows.shape).movedim(-1, dim)

    return nearest


def unit_rows(x: Tensor, radius: float) -> Tensor:
    vectors = x.numpy().copy()
    vectors[(vectors == 0).all(-1), 0] = 1.0
    return torch.from_numpy(radius * vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def by_pseudoinverse(matrix: Tensor, right: Tensor) -> Reference:
    inverse = np.linalg.pinv(matrix.numpy(), rcond=1e-12)
    return lambda x: x - torch.from_numpy((x.numpy() @ matrix.numpy().T - right.numpy()) @ inverse.T)


def spectral_cone(dim: int | None) -> Reference:
    """By the spectral values ``t ± ‖z‖`` of the cone's Jordan algebra."""

    def nearest(x: Tensor) -> Tensor:
        rows = x.reshape(1, -1).numpy() if dim is None else x.movedim(dim, -1).numpy()
        z, t = rows[..., :-1], rows[..., -1:]
        norm = np.linalg.norm(z, axis=-1, keepdims=True)
        unit = np.divide(z, norm, out=np.zeros_like(z), where=norm > 0)
        high, low = np.maximum(t + norm, 0) / 2, np.maximum(t - norm, 0) / 2
        fitted = torch.from_numpy(np.concatenate([(high - low) * unit, high + low], -1))
        return fitted.reshape(x.shape) if dim is None else fitted.movedim(-1, dim)

    return nearest


Shapes = Sequence[tuple[int, ...]]


def unbounded(set: Set, shapes: Shapes, reference: Reference | None = None, **claims: Any) -> SetCase:
    """A row for a set with members of any size: rounding is relative to them, so at moderate scales."""
    return SetCase(set, shapes, reference, scales=(1e-9, 1.0), **claims)


def second_order(dim: int | None, shapes: Shapes, skip: Sequence[str] = (), **claims: Any) -> SetCase:
    """The cone bends so sharply near its tip that the tangent is the limit for tiny steps only."""
    skip = ["tangent_is_the_limit_of_projections", *skip]
    cone = SecondOrderCone(dim)
    return unbounded(cone, shapes, spectral_cone(dim), charts=HALF_LINE_CHARTS, skip=skip, **claims)


VECTOR_CASES: list[SetCase] = [
    # -- balls with corners, the sphere ------------------------------------------------------------
    SetCase(
        L1Ball(1.5),
        VECTORS,
        solver(lambda p: [cp.norm1(p) <= 1.5]),
        rejects=[
            (lambda: L1Ball(-1), "L1Ball is empty: radius must be ≥ 0, got -1"),
            (lambda: L1Ball(nan), "radius must be finite, got nan"),
            (lambda: L1Ball("one"), "radius must be a number, got 'one'"),
        ],
        misfits=[((), "works along dimension -1")],
    ),
    SetCase(L1Ball(1e-3, dim=0), MATRIX, solver(lambda p: [cp.norm1(p) <= 1e-3], dim=0), skip=SLOW),
    SetCase(L1Ball(2.0, dim=None), MATRIX, solver(lambda p: [cp.norm1(p) <= 2], dim=None)),
    SetCase(L1Ball(0.0), MATRIX, clip(0, 0), affine=True, skip=SLOW),
    SetCase(
        LInfBall(0.3),
        VECTORS,
        clip(-0.3, 0.3),
        charts=INTERVAL_CHARTS,
        minus_infinity=True,
        rejects=[
            (lambda: LInfBall(-1), "LInfBall is empty: radius must be ≥ 0, got -1"),
            (lambda: LInfBall(inf), "radius must be finite, got inf"),
        ],
        misfits=[((), "works along dimension -1")],
    ),
    SetCase(LInfBall(2.0, dim=None), MATRIX, clip(-2, 2), charts=INTERVAL_CHARTS, skip=SLOW),
    SetCase(LInfBall(0.0, dim=0), MATRIX, clip(0, 0), affine=True, skip=SLOW),
    SetCase(
        Sphere(),
        VECTORS,
        lambda x: unit_rows(x, 1.0),
        rejects=[
            (lambda: Sphere(0), "radius must be positive, got 0. For radius 0 use Equal(0)"),
            (lambda: Sphere(inf), "radius must be finite, got inf"),
        ],
        misfits=[((2, 0), "is empty: a vector without entries cannot have norm 1")],
    ),
    SetCase(Sphere(2.5, dim=0), MATRIX),
    SetCase(Sphere(1e-3, dim=None), MATRIX, skip=SLOW),
    # -- linear conditions -------------------------------------------------------------------------
    unbounded(
        HalfSpace(NORMAL, 0.5),
        FOURS,
        solver(lambda p: [NORMAL.numpy() @ p <= 0.5]),
        charts=HALF_LINE_CHARTS,
        rejects=[
            (lambda: HalfSpace(torch.zeros(3), 1.0), "normal must not be zero"),
            (lambda: HalfSpace(torch.ones(2, 2), 1.0), "normal must be a vector, got shape (2, 2)"),
            (lambda: HalfSpace([1.0, inf], 1.0), "normal must be finite"),
            (lambda: HalfSpace("one", 1.0), "normal must be a tensor or nested numbers, got 'one'"),
            (lambda: HalfSpace(torch.ones(2), inf), "offset must be finite"),
        ],
        misfits=[((3,), "speaks of vectors with 4 entries (normal)"), ((), "works along dimension -1")],
    ),
    unbounded(HalfSpace(1e9 * NORMAL[:3], -2e9, dim=0), MATRIX, charts=HALF_LINE_CHARTS, skip=SLOW),
    unbounded(
        HalfSpace(torch.arange(12.0).view(3, 4), 1.0, dim=None), MATRIX, charts=HALF_LINE_CHARTS, skip=SLOW
    ),
    SetCase(
        Affine(REDUNDANT, REDUNDANT_B),
        FOURS,
        by_pseudoinverse(REDUNDANT, REDUNDANT_B),
        affine=True,
        rejects=[
            (lambda: Affine(torch.ones(4), torch.ones(1)), "A must be a matrix"),
            (lambda: Affine(A, torch.ones(3)), "b must have one entry for each of the 2 rows of A"),
            (lambda: Affine(A, torch.tensor([1.0, nan])), "b must be finite"),
            (
                lambda: Affine(torch.ones(2, 3), torch.tensor([1.0, 2.0])),
                "Affine is empty: A x = b has no solution",
            ),
            (lambda: Affine(torch.zeros(1, 3), torch.ones(1)), "row 0 of A contradicts the others"),
        ],
        misfits=[((3,), "speaks of vectors with 4 entries"), ((), "works along dimension -1")],
    ),
    SetCase(
        Affine(A, B + SHIFTS),
        MATRIX,
        by_pseudoinverse(A, B + SHIFTS),
        affine=True,
        misfits=[((2, 4), "right-hand sides in a batch of shape (3,)")],
    ),
    SetCase(Affine(torch.ones(1, 3), torch.zeros(1), dim=0), MATRIX, affine=True, skip=SLOW),
    SetCase(Affine(torch.ones(1, 12), torch.ones(1), dim=None), MATRIX, affine=True, skip=SLOW),
    SetCase(Affine(torch.zeros(0, 4), torch.zeros(0)), MATRIX, affine=True, skip=SLOW),
    SetCase(Affine(torch.eye(4), torch.arange(4.0)), MATRIX, affine=True, skip=SLOW),
    unbounded(
        Polyhedron(G, H),
        FOURS[:2],
        solver(lambda p: [G.numpy() @ p <= H.numpy()]),
        rejects=[
            (lambda: Polyhedron(torch.ones(3), torch.ones(3)), "G must be a matrix"),
            (lambda: Polyhedron(G, torch.ones(3)), "h must have one entry for each of the 7 rows of G"),
            (lambda: Polyhedron(G, H, A=A), "A and b come together"),
            (lambda: Polyhedron(G, H, torch.ones(1, 3), torch.ones(1)), "G has 4 columns and A has 3"),
            (lambda: Polyhedron([[1.0], [-1.0]], [0.0, -1.0]), "is empty: no vector satisfies rows [0, 1]"),
            (
                lambda: Polyhedron([[1.0], [-1.0]], [[0.0, 0.0], [0.0, -1.0]]),
                "is empty for the right-hand sides [1]: no vector satisfies rows [0, 1]",
            ),
            (
                lambda: Polyhedron([[1.0, 0.0]], [0.0], [[1.0, 0.0]], [1.0]),
                "rows [0] of G x ≤ h and the equations",
            ),
            (lambda: Polyhedron(G, H, A[[0, 0]], B), "A x = b has no solution"),
        ],
        misfits=[((3,), "speaks of vectors with 4 entries"), ((), "works along dimension -1")],
    ),
    unbounded(
        Polyhedron(G[:4], H[:4], A, B),
        MATRIX,
        solver(lambda p: [G.numpy()[:4] @ p <= H.numpy()[:4], A.numpy() @ p == B.numpy()]),
        skip=SLOW,
    ),
    unbounded(
        Polyhedron(G, H + SHIFTS),
        MATRIX,
        skip=SLOW,
        misfits=[((2, 4), "right-hand sides in a batch of shape (3,)")],
    ),
    unbounded(Polyhedron(torch.eye(3), torch.ones(3), dim=0), MATRIX, clip(None, 1), skip=SLOWER),
    unbounded(Polyhedron(-torch.eye(12), torch.zeros(12), dim=None), MATRIX, clip(0), skip=SLOWER),
    # -- cones -------------------------------------------------------------------------------------
    second_order(
        -1,
        VECTORS,
        misfits=[((2, 0), "needs vectors with at least one entry"), ((), "works along dimension -1")],
    ),
    second_order(0, MATRIX, skip=SLOW),
    second_order(None, MATRIX, skip=SLOW),
    unbounded(
        Monotone(), VECTORS, isotonic(), charts=STEP_CHARTS, misfits=[((), "works along dimension -1")]
    ),
    unbounded(
        Monotone(increasing=False, dim=0), MATRIX, isotonic(increasing=False, dim=0), charts=STEP_CHARTS
    ),
    unbounded(Monotone(dim=None), MATRIX, charts=STEP_CHARTS, skip=SLOW),
]
