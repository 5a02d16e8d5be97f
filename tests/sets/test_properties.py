"""Properties of projections that hypothesis tries to break."""

import hypothesis.extra.numpy as arrays
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from feasible import Box, Equal, L2Ball, NonNegative, Set, Simplex, SumTo
from feasible.testing import same_bits

SETS = [
    Box(-1, 1), Box(lower=0.1), Box(torch.tensor([-1.0, -torch.inf, 0.0, 0.5]), 2.0), NonNegative(), Equal(0.25),
    Simplex(), Simplex(1e-3, dim=0), SumTo(1.0), SumTo(0.0, dim=None), L2Ball(1.0), L2Ball(1e3, dim=0),
    Box(0, 1).where(torch.tensor([True, True, False, False])), Simplex().flatten(0), L2Ball(0.1).flatten(0),
]  # fmt: skip
EVERY_SET = pytest.mark.parametrize("set", SETS, ids=repr)

finite = st.floats(-1e12, 1e12, allow_subnormal=True)
shapes = st.tuples(st.integers(1, 3), st.just(4))
quick = settings(max_examples=40, deadline=None, derandomize=True)


def tensors(dtype: str = "float64", elements: st.SearchStrategy[float] = finite) -> st.SearchStrategy[Tensor]:
    if dtype == "float32":
        elements = st.floats(-(2.0**40), 2.0**40, width=32)
    return shapes.flatmap(lambda shape: arrays.arrays(dtype, shape, elements=elements)).map(torch.from_numpy)


@EVERY_SET
@quick
@given(x=tensors())
def test_projections_are_members_and_stay(set: Set, x: Tensor) -> None:
    projected = set.project(x)
    assert set.contains(projected).all()
    assert same_bits(set.project(projected), projected)
    assert (set.distance(x) >= 0).all()


@EVERY_SET
@quick
@given(x=tensors("float32"))
def test_in_single_precision_too(set: Set, x: Tensor) -> None:
    projected = set.project(x)
    assert set.contains(projected).all()
    assert same_bits(set.project(projected), projected)
    exact = set.project(x.double())
    error = set.norm(projected.double() - exact)
    unit = torch.finfo(torch.float32).eps
    assert (error <= 20 * unit * (set.norm(exact) + set.size)).all()


@EVERY_SET
@quick
@given(data=st.data())
def test_no_two_points_move_apart(set: Set, data: st.DataObject) -> None:
    x = data.draw(tensors(), label="x")
    y = data.draw(arrays.arrays("float64", tuple(x.shape), elements=finite).map(torch.from_numpy), label="y")
    before, after = set.norm(x - y), set.norm(set.project(x) - set.project(y))
    assert (after <= before * (1 + 1e-12) + 1e-14 * (set.norm(x) + set.norm(y) + set.size)).all()


@EVERY_SET
@quick
@given(data=st.data())
def test_the_angle_at_the_projection_is_obtuse(set: Set, data: st.DataObject) -> None:
    x = data.draw(tensors(), label="x")
    y = data.draw(arrays.arrays("float64", tuple(x.shape), elements=finite).map(torch.from_numpy), label="y")
    nearest, member = set.project(x), set.project(y)
    product = set.sum_units((x - nearest) * (member - nearest))
    lengths = set.norm(member) + set.norm(nearest) + set.size
    assert (product <= 1e-9 * set.norm(x - nearest) * lengths).all()


@quick
@given(x=tensors())
@example(x=torch.zeros(2, 4, dtype=torch.float64))
@example(x=torch.full((1, 4), 1e12, dtype=torch.float64))
def test_simplex_projection_does_not_see_common_shifts(x: Tensor) -> None:
    shifted = Simplex().project(x + 0.5)
    allowed = 1e-12 + 4 * torch.finfo(torch.float64).eps * x.abs().max()
    assert (Simplex().project(x) - shifted).abs().max() <= allowed


@quick
@given(x=tensors(elements=st.floats(-1e6, 1e6)), share=st.floats(0, 1))
def test_distance_is_convex(x: Tensor, share: float) -> None:
    y = x.flip(-1) + 1
    for set in (Simplex(), SumTo(2.0), L2Ball(1.0), Box(0, 1)):
        between = set.distance(share * x + (1 - share) * y)
        chord = share * set.distance(x) + (1 - share) * set.distance(y)
        assert (between <= chord + 1e-9 * (1 + set.norm(x))).all()


@quick
@given(
    bounds=st.lists(st.tuples(finite, finite), min_size=4, max_size=4),
    x=arrays.arrays("float64", (4,), elements=finite).map(torch.from_numpy),
)
def test_boxes_with_any_bounds(bounds: list[tuple[float, float]], x: Tensor) -> None:
    lower = torch.tensor([min(pair) for pair in bounds], dtype=torch.float64)
    upper = torch.tensor([max(pair) for pair in bounds], dtype=torch.float64)
    box = Box(lower, upper)
    projected = box.project(x)
    assert ((projected >= lower) & (projected <= upper)).all()
    assert ((projected == x) | (projected == lower) | (projected == upper)).all()
    assert torch.equal((Box(lower) & Box(upper=upper)).project(x), projected)
