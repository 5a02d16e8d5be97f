"""The table of sets: one row buys a set its whole test suite."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Any

import cvxpy as cp
import torch

from feasible import Box, Equal, Frozen, L2Ball, NonNegative, Set, Simplex, SumTo
from feasible.testing import SetSubject

from .references import Reference, clip, matrix_solver, solver


@dataclass(frozen=True)
class SetCase(SetSubject):
    """A subject of the conformance suite, and what the set refuses."""

    rejects: Sequence[tuple[Callable[[], object], str]] = ()
    """Wrong arguments, and what the error says."""
    misfits: Sequence[tuple[tuple[int, ...], str]] = ()
    """Shapes that the set cannot hold, and what the error says."""
    skip: Sequence[str] = ()
    """Checks that do not apply."""


ROWS = torch.tensor([[0.0], [-1.0], [0.25]])
HALF_INFINITE = torch.tensor([0.0, -inf, 0.5, -inf])
MASK = torch.tensor([[True, False, True, True], [False, False, True, False], [True, True, True, True]])
HALF_LINE_CHARTS = (None, "softplus", "exp", "square", "relu")
INTERVAL_CHARTS = (None, "tanh", "sine")
SIMPLEX_CHARTS = (None, "stick-breaking")
MATRIX = ((3, 4),)
VECTORS = ((3, 4), (6,), (2, 2, 3))


def intersection(set: Set, shapes: Sequence[tuple[int, ...]], reference: Reference, **claims: Any) -> SetCase:
    """A row for a set that is projected onto by iteration: moderate scales, no tracing, kinks anywhere."""
    claims |= {"scales": (1e-9, 1.0), "smooth": False, "compilable": False, "mappable": False}
    return SetCase(set, shapes, reference, **claims)


def three_parts(p: cp.Variable) -> list[cp.Constraint]:
    return [cp.norm(p) <= 1, cp.sum(p) == 1, p >= -0.1, p <= 0.9]


def transport_plan(p: cp.Variable) -> list[cp.Constraint]:
    return [cp.sum(p, axis=0) == 1, cp.sum(p, axis=1) == 4 / 3, p >= 0]


def masked_rows(p: cp.Variable) -> list[cp.Constraint]:
    picked = MASK.numpy().astype(float)
    return [cp.sum(p, axis=1) == 1, cp.multiply(picked, p) >= 0, cp.multiply(picked, p) <= 1]


def clip_masked(x: torch.Tensor) -> torch.Tensor:
    return torch.where(MASK, x.clamp(0, 1), x.clamp_min(-0.5))


CASES: list[SetCase] = [
    # -- ranges ------------------------------------------------------------------------------------
    SetCase(
        Box(-1, 1),
        shapes=VECTORS,
        reference=clip(-1, 1),
        charts=INTERVAL_CHARTS,
        minus_infinity=True,
        rejects=[
            (lambda: Box(1, -1), "lower must not exceed upper, got lower=1 and upper=-1"),
            (lambda: Box(1.00000001, 1), "lower must not exceed upper"),
            (lambda: Box(nan, 1), "lower must not be NaN"),
            (lambda: Box(inf), "lower must not be inf"),
            (lambda: Box(upper=-inf), "upper must not be -inf"),
            (lambda: Box("low"), "lower must be a number, a tensor or None, got 'low'"),
            (lambda: Box([0.0, 1.0]), "lower must be a number, a tensor or None"),
            (lambda: Box(torch.zeros(2), torch.ones(3)), "lower has shape (2,) and upper (3,)"),
            (lambda: Box(torch.zeros(2), torch.tensor([1.0, -1.0])), "got lower=0 and upper=-1"),
        ],
    ),
    SetCase(Box(lower=0.5), VECTORS, clip(0.5), charts=HALF_LINE_CHARTS),
    SetCase(Box(upper=0.1), VECTORS, clip(None, 0.1), charts=HALF_LINE_CHARTS),
    SetCase(Box(0.1, 0.1), MATRIX, clip(0.1, 0.1)),
    SetCase(Box(), MATRIX, clip(-inf, inf), affine=True),
    SetCase(Box(-1e-3, 2e-3), MATRIX, clip(-1e-3, 2e-3), charts=INTERVAL_CHARTS),
    SetCase(
        Box(ROWS, ROWS + torch.tensor([1.0, 2.0, 3.0, 4.0])),
        MATRIX,
        clip(ROWS, ROWS + torch.tensor([1.0, 2.0, 3.0, 4.0])),
        charts=INTERVAL_CHARTS,
        misfits=[
            ((2, 4), "lower has shape (3, 1), which does not broadcast"),
            ((3, 1), "upper has shape (3, 4)"),
        ],
    ),
    SetCase(Box(0, ROWS + 2), MATRIX, clip(0, ROWS + 2), charts=INTERVAL_CHARTS),
    SetCase(Box(HALF_INFINITE), MATRIX, clip(HALF_INFINITE), charts=()),
    SetCase(Box(HALF_INFINITE, torch.tensor([1.0, 0.0, inf, inf])), MATRIX, charts=()),
    SetCase(NonNegative(), VECTORS, clip(0), charts=HALF_LINE_CHARTS, minus_infinity=True),
    # -- fixed values ------------------------------------------------------------------------------
    SetCase(
        Equal(0.1),
        VECTORS,
        clip(0.1, 0.1),
        affine=True,
        minus_infinity=True,
        rejects=[
            (lambda: Equal(inf), "Equal: value must be finite, got inf"),
            (lambda: Equal(None), "Equal: value must be finite, got None"),
            (lambda: Equal("one"), "value must be a number, a tensor or None, got 'one'"),
        ],
    ),
    SetCase(
        Equal(ROWS),
        MATRIX,
        affine=True,
        misfits=[((2, 4), "Equal: value has shape (3, 1), which does not broadcast")],
    ),
    SetCase(Frozen(), VECTORS, affine=True),
    SetCase(
        Frozen(torch.ones(3, 4)),
        MATRIX,
        affine=True,
        misfits=[((4, 3), "Frozen: value has shape (3, 4), which does not broadcast")],
    ),
    # -- vectors -----------------------------------------------------------------------------------
    SetCase(
        Simplex(),
        VECTORS,
        solver(lambda p: [p >= 0, cp.sum(p) == 1]),
        charts=SIMPLEX_CHARTS,
        minus_infinity=True,
        rejects=[
            (lambda: Simplex(0), "total must be positive, got 0"),
            (lambda: Simplex(-1), "total must be positive, got -1"),
            (lambda: Simplex(nan), "total must be finite, got nan"),
            (lambda: Simplex("one"), "total must be a number, got 'one'"),
            (lambda: Simplex(torch.ones(2)), "total must be a number"),
        ],
        misfits=[((2, 0), "is empty: a vector without entries"), ((), "works along dimension -1")],
    ),
    SetCase(
        Simplex(2.5, dim=0),
        MATRIX,
        solver(lambda p: [p >= 0, cp.sum(p) == 2.5], dim=0),
        charts=SIMPLEX_CHARTS,
    ),
    SetCase(
        Simplex(1e-3, dim=None),
        MATRIX,
        solver(lambda p: [p >= 0, cp.sum(p) == 1e-3], dim=None),
        charts=SIMPLEX_CHARTS,
    ),
    SetCase(
        SumTo(1.0),
        VECTORS,
        solver(lambda p: [cp.sum(p) == 1]),
        affine=True,
        rejects=[
            (lambda: SumTo(inf), "total must be finite, got inf"),
            (lambda: SumTo(None), "must be a number"),
        ],
        misfits=[
            ((2, 0), "is empty: a vector without entries cannot sum to 1"),
            ((), "works along dimension -1"),
        ],
    ),
    SetCase(SumTo(0.0, dim=-2), MATRIX, solver(lambda p: [cp.sum(p) == 0], dim=-2), affine=True),
    SetCase(SumTo(-3.0, dim=None), MATRIX, solver(lambda p: [cp.sum(p) == -3], dim=None), affine=True),
    SetCase(
        L2Ball(0.5),
        VECTORS,
        solver(lambda p: [cp.norm(p) <= 0.5]),
        rejects=[
            (lambda: L2Ball(-1), "radius must be ≥ 0, got -1"),
            (lambda: L2Ball(inf), "radius must be finite, got inf"),
            (lambda: L2Ball(torch.ones(2)), "radius must be a number"),
        ],
        misfits=[((), "works along dimension -1")],
    ),
    SetCase(L2Ball(2.0, dim=0), MATRIX, solver(lambda p: [cp.norm(p) <= 2], dim=0)),
    SetCase(L2Ball(1.0, dim=None), MATRIX, solver(lambda p: [cp.norm(p) <= 1], dim=None)),
    SetCase(L2Ball(0.0), MATRIX, affine=True),
    # -- some entries, other shapes ----------------------------------------------------------------
    SetCase(
        Box(0, 1).where(MASK),
        MATRIX,
        charts=INTERVAL_CHARTS,
        rejects=[
            (
                lambda: Box(0, 1).where(torch.ones(2)),
                "mask must be a bool tensor, got a tensor of torch.float32",
            ),
            (lambda: Box(0, 1).where(True), "mask must be a bool tensor, got True"),
            (lambda: Simplex().where(MASK), "picks the same entries of every vector along -1"),
        ],
        misfits=[((4, 3), "where: mask has shape (3, 4), which does not broadcast")],
    ),
    SetCase(NonNegative().where(MASK[:1]), MATRIX, charts=HALF_LINE_CHARTS),
    SetCase(Frozen().where(MASK), MATRIX, affine=True),
    SetCase(Equal(0.0).where(MASK).where(MASK[1]), MATRIX, affine=True),
    SetCase(
        L2Ball(1.0).flatten(1),
        ((2, 3, 2), (4, 3)),
        solver(lambda p: [cp.norm(p) <= 1], start_dim=1),
        misfits=[((3,), "flatten(1) needs a tensor with that dimension")],
    ),
    SetCase(Simplex().flatten(1), ((2, 3, 2),), solver(lambda p: [p >= 0, cp.sum(p) == 1], start_dim=1)),
    SetCase(SumTo(2.0).flatten(), ((2, 3), (4,), ()), affine=True),
    SetCase(NonNegative().flatten(-2).where(torch.tensor([True, False, True])), ((2, 2, 3),)),
    SetCase(Box(0, 1).where(torch.tensor([True, False] * 3)).flatten(1), ((2, 2, 3),)),
    SetCase(
        Simplex(dim=0).flatten(1),
        ((2, 2, 2),),
        solver(lambda p: [p >= 0, cp.sum(p) == 1], dim=0, start_dim=1),
    ),
    # -- intersections -----------------------------------------------------------------------------
    SetCase(Box(-1, 1) & Box(0.1, 3), VECTORS, clip(0.1, 1), charts=INTERVAL_CHARTS),
    SetCase(NonNegative() & Box(upper=ROWS + 2), MATRIX, clip(0, ROWS + 2), charts=INTERVAL_CHARTS),
    intersection(
        Box(0, 1) & SumTo(1.5),
        MATRIX,
        solver(lambda p: [p >= 0, p <= 1, cp.sum(p) == 1.5]),
        rejects=[
            (
                lambda: (Box(0, 1) & SumTo(9.0)).bind(torch.zeros(2, 4)),
                "is empty for a tensor of shape (2, 4)",
            ),
            (lambda: (Box(0, 1) & Equal(2.0)).bind(torch.zeros(3)), "is empty for a tensor of shape (3,)"),
            (lambda: (L2Ball(1.0) & SumTo(3.0)).bind(torch.zeros(4)), "is empty for a tensor of shape (4,)"),
            (lambda: Box(0, 1) & Box(2, 3), "lower must not exceed upper, got lower=2 and upper=1"),
        ],
        misfits=[((), "works along dimension -1"), ((2, 0), "is empty")],
    ),
    intersection(
        NonNegative() & L2Ball(1.0),
        ((3, 4), (6,)),
        solver(lambda p: [p >= 0, cp.norm(p) <= 1]),
        accuracy=1e-4,
    ),
    intersection(Simplex() & Box(upper=0.45), MATRIX, solver(lambda p: [p >= 0, p <= 0.45, cp.sum(p) == 1])),
    intersection(L2Ball(1.0) & SumTo(1.0) & Box(-0.1, 0.9), MATRIX, solver(three_parts)),
    intersection(
        SumTo(1.0, dim=0) & SumTo(4 / 3, dim=1) & NonNegative(), MATRIX, matrix_solver(transport_plan)
    ),
    intersection(Box(0, 1).where(MASK) & SumTo(1.0), MATRIX, matrix_solver(masked_rows), accuracy=1e-3),
    intersection(Box(0, 1).where(MASK) & Box(lower=-0.5), MATRIX, clip_masked),
    intersection(
        (L2Ball(1.0) & NonNegative()).flatten(1),
        ((2, 2, 2),),
        solver(lambda p: [p >= 0, cp.norm(p) <= 1], start_dim=1),
        accuracy=1e-4,
    ),
]
