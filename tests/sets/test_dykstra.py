"""Intersections by iteration: right, honest about convergence, and not fooled by empty ones."""

import warnings

import cvxpy as cp
import pytest
import torch

from feasible import Box, Equal, Frozen, HalfSpace, L2Ball, NonNegative, Polyhedron, Set, Simplex, SumTo
from feasible.sets.dykstra import dykstra, meet
from feasible.sets.intersection import Intersection

from .references import solver

DOUBLE = torch.float64


def parts_of(*parts: Set) -> tuple:
    return [part.project for part in parts], Intersection(parts)._all_contain


def test_it_reports_how_it_ended() -> None:
    projections, contained = parts_of(NonNegative(), SumTo(1.0))
    found = dykstra(torch.tensor([2.0, 0.0], dtype=DOUBLE), projections, contained)
    assert found.converged
    assert 1 < found.iterations < 100
    assert found.gap <= 1e-15
    assert torch.allclose(found.point, torch.tensor([1.0, 0.0], dtype=DOUBLE))


def test_a_member_takes_one_round() -> None:
    projections, contained = parts_of(NonNegative(), SumTo(1.0))
    x = torch.tensor([0.25, 0.75], dtype=DOUBLE)
    found = dykstra(x, projections, contained)
    assert found.iterations == 1
    assert torch.equal(found.point, x)


def test_it_says_where_it_stopped() -> None:
    projections, contained = parts_of(NonNegative(), SumTo(1.0))
    found = dykstra(torch.tensor([30.0, 0.0], dtype=DOUBLE), projections, contained, most=3)
    assert not found.converged
    assert found.iterations == 3
    assert found.gap > 0.01


def test_a_slow_case_is_reported_not_hidden() -> None:
    """The ball touches the half space in a single point: the gap shrinks like one over the rounds."""
    set = L2Ball(1.0) & HalfSpace(-torch.ones(4), -2.0)
    with pytest.warns(UserWarning, match=r"not reached in 2000 rounds; the parts are still .* apart"):
        nearest = set.project(torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=DOUBLE))
    assert torch.allclose(nearest, torch.full((4,), 0.5, dtype=DOUBLE), atol=0.1)
    assert set.bind(torch.randn(4)) == set, "touching parts are not refused"


def test_a_stalling_case_arrives() -> None:
    """Far outside a corner the corrections have to be used up first: many rounds without visible progress."""
    x = torch.tensor([60.0, 59.5, -60.0, 0.0], dtype=DOUBLE)
    found = dykstra(x, *parts_of(SumTo(1.0), Box(0, 1)))
    assert found.converged
    assert torch.allclose(found.point, Simplex().project(x), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_a_solver_on_random_parts(seed: int) -> None:
    torch.manual_seed(seed)
    lower = torch.rand(6, dtype=DOUBLE) - 1
    total = float(lower.sum()) + 2.5
    set = Box(lower, lower + 1) & SumTo(total) & L2Ball(5.0)
    x = 3 * torch.randn(2, 6, dtype=DOUBLE)
    bounds = lower.numpy()
    reference = solver(lambda p: [p >= bounds, p <= bounds + 1, cp.sum(p) == total, cp.norm(p) <= 5])
    assert torch.allclose(set.project(x), reference(x), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_gets_the_rounded_exact_point(dtype: torch.dtype) -> None:
    x = torch.randn(5, 8).to(dtype)
    exact = Simplex().project(x.double())
    error = (dykstra(x, *parts_of(SumTo(1.0), NonNegative())).point.double() - exact).abs()
    assert (error <= torch.finfo(dtype).eps * exact.clamp_min(0.1)).all()


def test_rows_of_very_different_size_are_all_right() -> None:
    x = torch.randn(3, 4) * torch.tensor([[1e-6], [1.0], [30.0]])
    set = NonNegative() & SumTo(0.5) & HalfSpace(torch.tensor([1.0, 0.0, 0.0, 1.0]), 0.4)
    together = set.project(x)
    alone = torch.stack([set.project(row) for row in x])
    assert torch.allclose(together, alone, rtol=1e-6, atol=1e-9)


EMPTY = [
    (Box(0, 1) & SumTo(9.0), (2, 4)),
    (Box(0, 1) & SumTo(-1e-3), (3,)),
    (Simplex() & L2Ball(0.3), (4,)),
    (L2Ball(1.0) & SumTo(3.0), (4,)),
    (SumTo(1.0, dim=0) & SumTo(1.0, dim=1), (3, 4)),
    (Simplex() & Box(upper=0.2) & NonNegative(), (4,)),
    (Box(0, 1) & Equal(2.0), (3,)),
    (Box(0, 1e-6) & SumTo(1e-3), (4,)),
    (Equal(0.0) & Equal(1e-3), (2,)),
]


@pytest.mark.parametrize(("set", "shape"), EMPTY, ids=lambda value: repr(value))
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_an_empty_intersection_is_diagnosed(set: Intersection, shape: tuple[int, ...], scale: float) -> None:
    with pytest.raises(ValueError, match=r"is empty for a tensor of shape .*\n  Loosen one of the parts"):
        set.bind(scale * torch.randn(shape))


def test_frozen_parts_are_diagnosed_with_their_value() -> None:
    assert (Frozen() & NonNegative()).bind(torch.ones(3)).project(torch.zeros(3)).eq(1).all()
    with pytest.raises(ValueError, match="is empty"):
        (Frozen() & NonNegative()).bind(-torch.ones(3))


def test_the_search_for_a_common_point_is_quick_where_there_is_one() -> None:
    projections, contained = parts_of(Box(0, 1), SumTo(1.5))
    found = meet(1e6 * torch.randn(3, 4, dtype=DOUBLE), projections, contained)
    assert not found.apart
    assert found.iterations < 100


def test_nan_and_infinite_units_do_not_hold_up_the_others() -> None:
    set = NonNegative() & SumTo(1.0) & HalfSpace(torch.tensor([1.0, 0.0]), 1.0)
    x = torch.tensor([[2.0, 0.0], [torch.nan, 0.0], [torch.inf, 0.0], [0.5, 0.5]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        projected = set.project(x)
    assert torch.allclose(projected[[0, 3]], torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    assert projected[[1, 2]].isnan().all()


def test_binding_skips_what_it_cannot_look_at() -> None:
    set = Box(0, 1) & SumTo(9.0)
    assert set.bind(torch.zeros(4, device="meta")) == set
    assert set.bind(torch.full((4,), torch.nan)) == set


def test_gradients_run_through_the_iteration() -> None:
    """Those of its end, not those of its rounds: first and second, for flat and for curved parts."""
    set = SumTo(1.0) & L2Ball(0.9) & Box(-0.1, 0.85)
    for point in ([0.9, 0.4, -0.3, 0.2], [2.0, 0.1, 0.2, -0.1], [3.0, 2.0, -1.0, 0.7]):
        x = torch.tensor(point, dtype=DOUBLE, requires_grad=True)
        assert len(set.steps) == 2
        assert torch.autograd.gradcheck(set.project, x, atol=1e-6)
        assert torch.autograd.gradgradcheck(set.project, x, atol=1e-5)


def test_gradients_of_a_long_search_take_no_memory() -> None:
    set = Polyhedron(-torch.eye(3), torch.zeros(3)) & L2Ball(1.0) & HalfSpace(-torch.ones(3), -1.5)
    x = torch.tensor([3.0, 0.1, -0.2], dtype=DOUBLE, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        set.project(x).square().sum().backward()
    assert len(kept) < dykstra(x.detach(), *parts_of(*set.parts)).iterations
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    "set",
    [Simplex(dim=0) & L2Ball(0.9), Simplex() & HalfSpace(torch.arange(12.0).reshape(3, 4), 12.0, dim=None)],
)
def test_vmap_does_not_move_the_dimensions_that_the_parts_speak_of(set: Set) -> None:
    batch = torch.randn(2, 3, 4, dtype=DOUBLE)
    alone = torch.stack([set.project(x) for x in batch])
    torch.testing.assert_close(torch.vmap(set.project)(batch), alone, rtol=0, atol=1e-13)
