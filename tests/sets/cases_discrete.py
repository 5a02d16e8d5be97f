"""Rows of the table: discrete and combinatorial sets, candidates, unions."""

from math import inf, nan

import torch

from feasible import (
    Box,
    Candidates,
    FiniteSet,
    Frozen,
    Integers,
    KSparse,
    L2Ball,
    NofM,
    NonNegative,
    OneHot,
    Simplex,
    Union,
)

from .cases import MASK, MATRIX, VECTORS, SetCase
from .enumeration import among, nearest_of, one_hot_vectors, sparse_vectors, up_to

TERNARY = (-1.0, 0.0, 1.0)
UNEVEN = (-2.5, -0.1, 0.3, 0.30001, 4.0)
FOUR = torch.tensor([[[1.0, 0, 0, 0]], [[0, 1, 0, 0]], [[-1, 0, 0, 0]], [[1, 0, 0, 0]]]).expand(4, 3, 4)

DISCRETE_CASES: list[SetCase] = [
    # -- lists of values ---------------------------------------------------------------------------
    SetCase(
        FiniteSet(TERNARY),
        VECTORS,
        among(TERNARY),
        minus_infinity=True,
        rejects=[
            (lambda: FiniteSet([]), "values must be a list of at least one number"),
            (lambda: FiniteSet([0.0, nan]), "values must be finite, got nan"),
            (lambda: FiniteSet([inf]), "values must be finite, got inf"),
            (lambda: FiniteSet(["one"]), "values must be a list of numbers, got ['one']"),
            (lambda: FiniteSet(1.0), "values must be a list of at least one number, got shape ()"),
            (lambda: FiniteSet(torch.zeros(2, 2)), "got shape (2, 2)"),
            (lambda: FiniteSet([1e6]).bind(torch.zeros(1).half()), "does not fit into torch.float16"),
        ],
    ),
    SetCase(FiniteSet(UNEVEN), MATRIX, among(UNEVEN), minus_infinity=True),
    SetCase(FiniteSet(torch.linspace(-3, 3, 41)), MATRIX, among(torch.linspace(-3, 3, 41).tolist())),
    SetCase(FiniteSet([0.7]), MATRIX, among([0.7])),
    SetCase(FiniteSet([1e-12, 2e-12]), MATRIX, among([1e-12, 2e-12])),
    SetCase(
        Integers(-2, 3),
        VECTORS,
        among(range(-2, 4)),
        minus_infinity=True,
        rejects=[
            (lambda: Integers(2, 1), "no whole number between lower=2 and upper=1"),
            (lambda: Integers(0.2, 0.8), "no whole number between lower=0.2 and upper=0.8"),
            (lambda: Integers(nan), "lower must be a number or None, got nan"),
            (lambda: Integers(inf), "lower must be a number or None, got inf"),
            (lambda: Integers(upper="one"), "upper must be a number or None, got 'one'"),
            (lambda: Integers(2**24 + 1, 2**24 + 1).bind(torch.zeros(1)), "is empty in torch.float32"),
            (lambda: Integers(lower=10**6).bind(torch.zeros(1).half()), "is empty in torch.float16"),
        ],
    ),
    SetCase(Integers(), MATRIX, up_to()),
    SetCase(Integers(lower=-0.5), MATRIX, up_to(lower=0)),
    SetCase(Integers(upper=1), MATRIX, up_to(upper=1)),
    SetCase(FiniteSet(TERNARY).where(MASK), MATRIX),
    SetCase(FiniteSet(TERNARY).flatten(1), ((2, 2, 2),)),
    # -- which entries differ from zero ------------------------------------------------------------
    SetCase(
        OneHot(),
        VECTORS,
        nearest_of(one_hot_vectors),
        minus_infinity=True,
        misfits=[((2, 0), "is empty: a vector without entries"), ((), "works along dimension -1")],
    ),
    SetCase(OneHot(dim=0), MATRIX, nearest_of(one_hot_vectors, dim=0)),
    SetCase(OneHot(dim=None), MATRIX, nearest_of(one_hot_vectors, dim=None)),
    SetCase(OneHot(dim=0).flatten(1), ((2, 2, 2),)),
    SetCase(
        KSparse(2),
        VECTORS,
        sparse_vectors(2),
        rejects=[
            (lambda: KSparse(0), "k must be a whole number ≥ 1, got 0"),
            (lambda: KSparse(1.5), "k must be a whole number ≥ 1, got 1.5"),
            (lambda: KSparse(True), "k must be a whole number ≥ 1, got True"),
        ],
        misfits=[((3, 1), "asks for k=2 of 1 entries"), ((), "works along dimension -1")],
    ),
    SetCase(KSparse(1, dim=0), MATRIX, sparse_vectors(1, dim=0)),
    SetCase(KSparse(5, dim=None), MATRIX, sparse_vectors(5, dim=None)),
    SetCase(KSparse(4), MATRIX),
    SetCase(KSparse(3), ((2, 20),), sparse_vectors(3)),
    SetCase(
        NofM(2, 4),
        ((3, 4), (8,), (2, 1, 4)),
        sparse_vectors(2, group=4),
        rejects=[
            (lambda: NofM(3, 2), "with 1 ≤ n ≤ m, got n=3 and m=2"),
            (lambda: NofM(0, 2), "with 1 ≤ n ≤ m, got n=0 and m=2"),
            (lambda: NofM(1, 2.0), "with 1 ≤ n ≤ m, got n=1 and m=2.0"),
        ],
        misfits=[((4, 6), "needs vectors whose length divides by m=4"), ((), "works along dimension -1")],
    ),
    SetCase(NofM(1, 3, dim=0), MATRIX, sparse_vectors(1, dim=0, group=3)),
    SetCase(NofM(2, 3, dim=None), MATRIX, sparse_vectors(2, dim=None, group=3)),
    SetCase(NofM(2, 2), MATRIX),
    SetCase(NofM(3, 20), ((2, 40),), sparse_vectors(3, group=20)),
    # -- one of several tensors --------------------------------------------------------------------
    SetCase(
        Candidates(FOUR),
        MATRIX,
        nearest_of(lambda length: FOUR.reshape(4, length).double(), dim=None),
        rejects=[
            (lambda: Candidates([]), "Candidates is empty: give at least one tensor"),
            (lambda: Candidates([torch.zeros(2), torch.zeros(3)]), "must have one shape, got (2,), (3,)"),
            (lambda: Candidates([torch.zeros(2), torch.full((2,), nan)]), "number 1 is not, as given"),
            (
                lambda: Candidates([torch.full((2,), 1e6)]).bind(torch.zeros(2).half()),
                "number 0 is not, as torch.float16 holds them",
            ),
        ],
        misfits=[((4, 3), "holds tensors of shape (3, 4), but the tensor has shape (4, 3)")],
    ),
    SetCase(Candidates([torch.tensor(0.5)]), ((),)),
    # -- unions ------------------------------------------------------------------------------------
    SetCase(
        Box(-2, -1) | Box(1, 2),
        VECTORS,
        rejects=[
            (lambda: Box(0, 1) | OneHot(), "needs sets that speak of the same unit"),
            (lambda: OneHot(dim=0) | OneHot(dim=1), "needs sets that speak of the same unit"),
            (lambda: Union(()), "Union is empty"),
        ],
    ),
    SetCase(FiniteSet([0]) | Box(lower=1), VECTORS),
    SetCase(OneHot() | L2Ball(0.5), VECTORS, misfits=[((), "works along dimension -1")]),
    SetCase(Simplex() | KSparse(1), MATRIX),
    SetCase(OneHot() | KSparse(1), MATRIX),
    SetCase(Frozen() | FiniteSet(TERNARY), MATRIX),
    SetCase((NonNegative() | Box(upper=-1)).where(MASK), MATRIX),
    SetCase(Integers(0, 2) | FiniteSet([0.5]), ((2, 2), ())),
    SetCase(OneHot(dim=None) | Candidates(FOUR), MATRIX),
]
