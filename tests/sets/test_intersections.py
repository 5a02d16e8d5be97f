"""Intersections with a closed form, and how sets find together: what once was wrong stays mended."""

import itertools
import warnings

import cvxpy as cp
import pytest
import torch

from feasible import (
    PSD,
    Affine,
    Box,
    Candidates,
    Equal,
    FiniteSet,
    Frozen,
    HalfSpace,
    L1Ball,
    L2Ball,
    LInfBall,
    Monotone,
    NonNegative,
    Polyhedron,
    SecondOrderCone,
    Set,
    Simplex,
    Sphere,
    SumTo,
    Symmetric,
    UnsupportedError,
)
from feasible.sets.acceleration import Units
from feasible.sets.dykstra import dykstra
from feasible.sets.intersection import Intersection

from .references import solver

DOUBLE = torch.float64


def exact(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=DOUBLE)


# -- digits -----------------------------------------------------------------------------------------


TENTHS = [
    Box(0, 1) & SumTo(1.3),
    Box(0, 1) & HalfSpace(torch.ones(4, dtype=DOUBLE), 0.3),
    Equal(0.1).where(torch.tensor([True, False, False, True])) & SumTo(0.7),
    Simplex(0.7) & Box(upper=0.3),
]


def shown(value):
    return repr(value) if isinstance(value, Set) else ""


@pytest.mark.parametrize("set", TENTHS, ids=repr)
def test_a_total_that_single_precision_does_not_hold(set: Set) -> None:
    x = 3 * torch.randn(20, 4, dtype=DOUBLE)
    for part in set.parts:
        assert part.contains(set.bind(x).project(x), tol=1e-14).all()


def test_a_trace_that_single_precision_does_not_hold() -> None:
    trace = Affine(torch.eye(3, dtype=DOUBLE).reshape(1, -1), exact(1.3)).flatten(-2)
    matrices = (PSD() & trace).project(torch.randn(5, 3, 3, dtype=DOUBLE))
    assert (matrices.diagonal(0, -2, -1).sum(-1) - 1.3).abs().max() <= 1e-14


def test_numbers_in_lists_keep_their_digits() -> None:
    third = 1 / 3
    assert Affine([[1.0, 1.0]], [third]).project(exact(0, 0)).sum() == third
    assert HalfSpace([0.1, 0.3], 0.0).normal[0] == 0.1
    assert Polyhedron([[0.1, 0.3]], [third]).h == third
    assert Affine([[1.0, 1.0]], [third]).project(torch.zeros(2)).dtype == torch.float32


def test_a_sum_survives_the_pooling_of_large_numbers() -> None:
    x = 1e6 * torch.randn(20, 50, dtype=DOUBLE)
    set = SumTo(0.37) & Monotone()
    assert set.contains(set.bind(x).project(x)).all()


# -- sums of magnitudes in a ball -------------------------------------------------------------------


IN_BALLS = [
    (L1Ball(1.3) & L2Ball(0.9), lambda p: [cp.norm1(p) <= 1.3, cp.norm(p) <= 0.9]),
    (L2Ball(0.9) & L1Ball(0.5), lambda p: [cp.norm1(p) <= 0.5]),
    (L1Ball(5.0) & L2Ball(0.9), lambda p: [cp.norm(p) <= 0.9]),
    (Simplex(1.1) & L2Ball(0.7), lambda p: [p >= 0, cp.sum(p) == 1.1, cp.norm(p) <= 0.7]),
    (Simplex(1.1) & L2Ball(2.0), lambda p: [p >= 0, cp.sum(p) == 1.1]),
]
TIES = exact(1, 1, 1, 1, 2, 2, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, -3, 3, 3, -3, 5, 0, 0, 0, 5, 1e-9, 0, 0).view(
    -1, 4
)


@pytest.mark.parametrize(("set", "constraints"), IN_BALLS, ids=shown)
def test_a_sum_of_magnitudes_in_a_ball(set, constraints) -> None:
    assert len(set.steps) == 1
    x = torch.cat([TIES, *(scale * torch.randn(8, 4, dtype=DOUBLE) for scale in (0.1, 1.0, 3.0))])
    projected = set.project(x)
    torch.testing.assert_close(projected, solver(constraints)(x), rtol=0, atol=5e-5)
    for scale in (1e-9, 1.0, 1e9):
        point = set.project(scale * x)
        assert set.contains(point).all()
        gain = ((scale * x - point).unsqueeze(1) * (projected - point.unsqueeze(1))).sum(-1)
        assert (gain <= 1e-12 * max(scale, 1)).all()


@pytest.mark.parametrize("set", [L1Ball(1.3) & L2Ball(0.9), Simplex(1.1) & L2Ball(0.7)], ids=repr)
def test_gradients_of_a_sum_of_magnitudes_in_a_ball(set: Set) -> None:
    x = torch.randn(12, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(set.project, x)
    assert torch.autograd.gradgradcheck(set.project, x)


def test_a_simplex_that_touches_the_ball_or_misses_it() -> None:
    x = torch.randn(3, 4, dtype=DOUBLE)
    touching = (Simplex() & L2Ball(0.5)).bind(x)
    assert torch.allclose(touching.project(x), torch.full_like(x, 0.25), atol=1e-7)
    with pytest.raises(ValueError, match="is empty for a tensor"):
        (Simplex() & L2Ball(0.4999)).bind(x)


# -- flat sets and spheres --------------------------------------------------------------------------


@pytest.mark.parametrize("A", [[[1.0, 0, 0]], [[1.0, 0, 0], [0, 1, 0]], [[1.0, 2, 3]]])
@pytest.mark.parametrize("dim", [-1, None])
def test_the_centre_of_a_sphere_in_a_flat_set_across_the_first_axis(A, dim: int | None) -> None:
    set = Affine(A, [0.5, 0.1][: len(A)]) & Sphere(1.0, dim)
    for x in (exact(0, 0, 0), exact(3, 0, 0), exact(1, 2, 3)):
        assert set.contains(set.bind(x).project(x)).all()


# -- iterations: members up to rounding, whatever the order --------------------------------------------


STUBBORN = [
    (Box(exact(-0.1, -0.3, 0.2, 0.1), exact(0.1, 0.3, 0.4, 0.9)), Monotone()),
    (Monotone(), Box(-0.1, 0.2).where(torch.tensor([True, False, True, True]))),
    (SecondOrderCone(), Monotone(increasing=False)),
    (Affine([[0.3, -1.2, 0.7, 0.4]], [0.13]), Simplex(1.7)),
    (L1Ball(0.9), SumTo(0.37)),
    (SumTo(0.37, dim=0), L2Ball(0.8)),
    (Simplex(), L2Ball(1.0, dim=0)),
]


@pytest.mark.parametrize("parts", STUBBORN, ids=repr)
def test_an_iteration_is_not_held_up_by_the_last_bit(parts: tuple[Set, ...]) -> None:
    x = torch.randn(3, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    found = []
    for first, second in itertools.permutations(parts):
        set = (first & second).bind(x)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            points = [set.project(scale * x) for scale in (0.3, 1.0, 10.0)]
        for point in points:
            assert set.contains(point).all()
            assert torch.equal(set.project(point), point)
            assert all(part.distance(point).max() <= 1e-14 for part in parts)
        found.append(points)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_parts_whose_nearest_points_have_vanishing_entries_are_found_apart() -> None:
    """Three rows that sum to 1.1 do not sum to 1.7 together."""
    for seed in range(10):
        x = torch.randn(3, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
        with pytest.raises(ValueError, match="is empty for a tensor"):
            (Simplex(1.1) & Simplex(1.7, dim=None)).bind(x)


FAR = [
    (SecondOrderCone() & Affine([[0.3, -1.2, 0.7, 0.4]], [0.13]), 300),
    (L2Ball(0.8) & Polyhedron([[1.0, 2.0, 0.0, -1.0], [0.0, 1.0, 1.0, 1.0]], [0.3, 0.1]), 100),
    (SumTo(0.37, dim=0) & L2Ball(0.8), 150),
]


@pytest.mark.parametrize(("set", "most"), FAR, ids=repr)
def test_the_iteration_arrives_soon_from_far_away(set: Intersection, most: int) -> None:
    """Without extrapolation these take from one to several thousand rounds."""
    x = 30 * torch.randn(3, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    units = Units(set.sum_units, set.spread)
    maps = [part.project for part in set.parts]
    found = dykstra(x, maps, set._are_members, set._length, units=units)
    assert found.converged
    assert found.iterations <= most
    other = torch.stack([set.project(torch.randn(3, 4, dtype=DOUBLE)) for _ in range(10)])
    assert ((x - found.point) * (other - found.point)).sum((-2, -1)).max() <= 1e-11


# -- values that are taken when a set is bound --------------------------------------------------------


def test_frozen_entries_go_with_sets_that_ask_for_ranges() -> None:
    ordered = torch.tensor([0.125, 0.25, 0.875])
    for set in (Monotone(), Simplex(1.25), LInfBall(1.0), SumTo(1.25).flatten(0)):
        for both in (set & Frozen(), Frozen() & set):
            assert torch.equal(both.bind(ordered).project(torch.zeros(3)), ordered)
    assert torch.equal((Symmetric() & Frozen()).bind(torch.eye(3)).project(torch.zeros(3, 3)), torch.eye(3))


@pytest.mark.parametrize("set", [FiniteSet([0, 1]), Candidates([torch.zeros(2), torch.ones(2)])], ids=repr)
@pytest.mark.parametrize(
    "frozen", [Frozen(), Frozen().flatten(0), Frozen().where(torch.tensor([True, False]))]
)
def test_a_choice_does_not_swallow_values_that_are_not_known_yet(set: Set, frozen: Set) -> None:
    with pytest.raises(UnsupportedError, match="is not convex"):
        _ = set & frozen


def test_single_precision_values_are_judged_as_such() -> None:
    values = torch.tensor([0.1, 0.2, 0.9])  # their sum is 5e-8 above 1.2
    bound = (SumTo(1.2) & Frozen().where(torch.tensor(True))).bind(values)
    assert torch.equal(bound.project(torch.zeros(3)), values)


# -- masks in views ----------------------------------------------------------------------------------


def test_a_mask_of_no_block_keeps_its_shape_in_intersections() -> None:
    mask = torch.zeros(2, 3, 2, dtype=torch.bool)
    mask[:, 0, 0] = mask[:, 1, 1] = True
    masked, rows = L2Ball(0.5).flatten(1).where(mask), L2Ball(0.7).flatten(1)
    for set in (masked & NonNegative(), NonNegative() & masked, masked & rows, rows & masked):
        set.bind(torch.zeros(2, 3, 2))
        with pytest.raises(ValueError, match="mask has shape"):
            set.bind(torch.zeros(2, 2, 3))
