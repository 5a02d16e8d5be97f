"""Rows of the table: some entries of every vector or matrix, some vectors, sets inside sets."""

from itertools import product

import cvxpy as cp
import torch
from torch import Tensor

from feasible import (
    PSD,
    Affine,
    DoublyStochastic,
    HalfSpace,
    L1Ball,
    L2Ball,
    LInfBall,
    Monotone,
    NonNegative,
    OneHot,
    SecondOrderCone,
    Simplex,
    Sphere,
    Stiefel,
    SumTo,
    Symmetric,
)

from .cases import HALF_LINE_CHARTS, INTERVAL_CHARTS, MATRIX, SIMPLEX_CHARTS, SetCase, intersection
from .cases_matrices import CURVED, EIGENVALUES_AS_SLACKS, SYMMETRY_HAS_NO_SLACK
from .cases_vectors import SLOW
from .references import Constraints, Reference, solver

PICKED = torch.tensor([True, False, True, True])
ROWS = torch.tensor([[True], [False], [True]])
CROSS = torch.tensor([[True, False, True], [False, True, False]])
SUBMATRIX = PICKED[:, None] & PICKED
TALL = PICKED[:, None] & torch.tensor([True, False, True])

FROM_FAR_AWAY = ("barrier_grows_towards_the_boundary", "barrier_is_the_sum_of_logarithms")
"""They start a thousand sizes away or more, where Dykstra's iteration has not arrived after 2000 rounds."""


def part(constraints: Constraints, mask: Tensor, dim: int | None = -1) -> Reference:
    """The conic solver on the picked entries of every vector."""

    def nearest(x: Tensor) -> Tensor:
        picked, result = mask.expand(x.shape), x.clone()
        if dim is None:
            result[picked] = solver(constraints)(x[picked])
            return result
        rows, chosen, solved = x.movedim(dim, -1), picked.movedim(dim, -1), result.movedim(dim, -1)
        for at in product(*map(range, rows.shape[:-1])):
            if bool(chosen[at].any()):
                solved[at][chosen[at]] = solver(constraints)(rows[at][chosen[at]])
        return result

    return nearest


def on_simplex(p: cp.Expression) -> list[cp.Constraint]:
    return [p >= 0, cp.sum(p) == 1]


def ball_of_some(x: Tensor) -> Tensor:
    clipped = x.clamp_min(0)
    picked = clipped[..., PICKED]
    clipped[..., PICKED] = picked / picked.norm(dim=-1, keepdim=True).clamp_min(1)
    return clipped


PICKED_CASES: list[SetCase] = [
    # -- the same entries of every vector ----------------------------------------------------------
    SetCase(
        Simplex().where(PICKED),
        ((3, 4), (4,), (2, 2, 4)),
        part(on_simplex, PICKED),
        charts=SIMPLEX_CHARTS,
        rejects=[
            (lambda: Simplex().where(PICKED & False), "the mask picks no entry"),
            (
                lambda: Simplex().where(torch.ones(4)),
                "mask must be a bool tensor, got a tensor of torch.float32",
            ),
            (lambda: Simplex().where(CROSS), "picks the same entries of every vector along -1"),
            (lambda: Stiefel().where(CROSS), "picks the same entries of every matrix"),
            (lambda: Simplex().where(PICKED).where(PICKED[:3]), "do not fit together"),
        ],
        misfits=[
            ((4, 3), "where: mask has shape (4,), which does not broadcast"),
            ((), "where: mask has shape (4,), which does not broadcast"),
        ],
    ),
    SetCase(
        Simplex(2.0, dim=0).where(ROWS),
        ((3, 4),),
        part(lambda p: [p >= 0, cp.sum(p) == 2], ROWS, dim=0),
        skip=SLOW,
    ),
    SetCase(
        SumTo(1.0).where(PICKED), MATRIX, part(lambda p: [cp.sum(p) == 1], PICKED), affine=True, skip=SLOW
    ),
    SetCase(L2Ball(0.5).where(PICKED), MATRIX, part(lambda p: [cp.norm(p) <= 0.5], PICKED), skip=SLOW),
    SetCase(L1Ball(1.0).where(PICKED), MATRIX, part(lambda p: [cp.norm1(p) <= 1], PICKED), skip=SLOW),
    SetCase(LInfBall(0.5).where(PICKED), MATRIX, charts=INTERVAL_CHARTS, skip=SLOW),
    SetCase(Sphere().where(PICKED), MATRIX, skip=SLOW),
    SetCase(OneHot().where(PICKED), MATRIX, skip=SLOW),
    SetCase(
        HalfSpace(torch.tensor([1.0, -2.0, 0.5]), 0.5).where(PICKED),
        MATRIX,
        scales=(1e-9, 1.0),
        charts=HALF_LINE_CHARTS,
        misfits=[((3, 5), "where: mask has shape (4,)")],
        skip=SLOW,
    ),
    SetCase(Affine(torch.ones(1, 3), torch.ones(1)).where(PICKED), MATRIX, affine=True, skip=SLOW),
    SetCase(
        Affine(torch.ones(1, 4), torch.ones(1)).where(PICKED | True),
        MATRIX,
        affine=True,
        misfits=[((3, 5), "where: mask has shape (4,)")],
        skip=SLOW,
    ),
    SetCase(Simplex().where(PICKED).where(PICKED.flip(0)), MATRIX, charts=SIMPLEX_CHARTS, skip=SLOW),
    # -- any entries of the whole tensor, or of flattened ones ---------------------------------------
    SetCase(
        L2Ball(1.0, dim=None).where(CROSS),
        ((2, 3),),
        part(lambda p: [cp.norm(p) <= 1], CROSS, dim=None),
        misfits=[((3, 2), "where: mask has shape (2, 3)"), ((2, 2, 3), "where: mask has shape (2, 3)")],
        skip=SLOW,
    ),
    SetCase(
        Simplex().flatten(1).where(CROSS.expand(2, 2, 3)), ((2, 2, 3),), charts=SIMPLEX_CHARTS, skip=SLOW
    ),
    SetCase(Simplex().flatten(1).where(ROWS[:2]), ((2, 2, 3),), charts=SIMPLEX_CHARTS, skip=SLOW),
    SetCase(
        Simplex().where(torch.tensor([True, False] * 3)).flatten(1),
        ((2, 2, 3),),
        charts=SIMPLEX_CHARTS,
        skip=SLOW,
    ),
    # -- some of the vectors -------------------------------------------------------------------------
    SetCase(
        Simplex().where(ROWS),
        ((3, 4), (2, 3, 4)),
        part(on_simplex, ROWS),
        charts=SIMPLEX_CHARTS,
        skip=SLOW,
    ),
    SetCase(
        L2Ball(0.5).where(ROWS & PICKED),
        MATRIX,
        part(lambda p: [cp.norm(p) <= 0.5], ROWS & PICKED),
        skip=SLOW,
    ),
    SetCase(LInfBall(0.5).where(ROWS & PICKED), MATRIX, charts=INTERVAL_CHARTS, skip=SLOW),
    SetCase(
        SecondOrderCone().where(ROWS),
        MATRIX,
        scales=(1e-9, 1.0),
        charts=HALF_LINE_CHARTS,
        skip=[*SLOW, *CURVED],
    ),
    SetCase(Monotone().where(PICKED), MATRIX, scales=(1e-9, 1.0), charts=(None, "softplus"), skip=SLOW),
    # -- rows and columns of matrices ----------------------------------------------------------------
    SetCase(
        Symmetric().where(SUBMATRIX),
        ((4, 4), (2, 4, 4)),
        affine=True,
        charts=(None, "triangle"),
        misfits=[((4,), "where: mask has shape (4, 4)"), ((4, 5), "where: mask has shape (4, 4)")],
        skip=SLOW,
    ),
    SetCase(Stiefel().where(TALL), ((4, 3), (2, 4, 3)), charts=(None, "householder"), skip=(*SLOW, *CURVED)),
    SetCase(
        PSD(-0.5, 2.0).where(SUBMATRIX),
        ((4, 4), (2, 4, 4)),
        charts=(None, "cholesky"),
        skip=(*SLOW, *EIGENVALUES_AS_SLACKS, *SYMMETRY_HAS_NO_SLACK),
    ),
    SetCase(DoublyStochastic().where(torch.tensor([[[True]], [[False]]])), ((2, 3, 3),), compilable=False),
    # -- of sets inside sets -------------------------------------------------------------------------
    intersection(
        (NonNegative() & L2Ball(1.0)).where(PICKED),
        MATRIX,
        part(lambda p: [p >= 0, cp.norm(p) <= 1], PICKED),
        accuracy=1e-4,
    ),
    intersection(NonNegative() & L2Ball(1.0).where(PICKED), MATRIX, ball_of_some, skip=FROM_FAR_AWAY),
    SetCase((Simplex() | L2Ball(0.5)).where(PICKED), MATRIX, skip=SLOW),
    SetCase(OneHot().where(PICKED) | L2Ball(0.5), MATRIX, skip=SLOW),
]
