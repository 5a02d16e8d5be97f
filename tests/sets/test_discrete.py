"""Lists of values and whole numbers, against exact arithmetic with fractions."""

import math
import re
from fractions import Fraction
from itertools import islice, pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feasible import Box, Equal, FiniteSet, Integers, NonNegative, OneHot, Simplex
from feasible.errors import UnsupportedError
from feasible.sets.discrete import common_values
from feasible.testing.subject import same_bits

SINGLE = st.floats(width=32, allow_nan=False, allow_infinity=False)
DOUBLE = st.floats(-1e150, 1e150)


def nearest(values: list[float], x: float) -> float:
    """By exact arithmetic; of equally near values the smaller one."""
    return min(sorted(values), key=lambda value: abs(Fraction(value) - Fraction(x)))


@pytest.mark.parametrize("length", [1, 2, 3, 7, 40])
@pytest.mark.parametrize(("dtype", "numbers"), [(torch.float32, SINGLE), (torch.float64, DOUBLE)], ids=str)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_nearest_value_is_exact(length, dtype, numbers, data) -> None:
    values = data.draw(st.lists(numbers, min_size=length, max_size=length))
    middles = [float(torch.tensor((a / 2 + b / 2), dtype=dtype)) for a, b in pairwise(values)]
    beside = [float(np.nextafter(np.float32(m), np.float32(0))) for m in middles if abs(m) < 1e38]
    x = [*data.draw(st.lists(numbers, min_size=1, max_size=5)), *middles, *beside, *values]
    point = torch.tensor(x, dtype=dtype)
    projected = FiniteSet(values).bind(point).project(point)
    assert projected.tolist() == [nearest(values, entry) for entry in point.tolist()]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_exact_too(dtype) -> None:
    given_values = [-0.3, 0.1, 0.2, 0.7, 3.0, 3.01]
    values = sorted({float(v) for v in torch.tensor(given_values, dtype=dtype)})
    point = torch.linspace(-1, 4, 5_000).to(dtype)
    projected = FiniteSet(given_values).bind(point).project(point)
    assert projected.tolist() == [nearest(values, entry) for entry in point.tolist()]


@pytest.mark.parametrize(
    ("values", "x", "expected"),
    [
        ([0, 1], 0.5, 0.0),
        ([-1, 1], 0.0, -1.0),
        ([-1e-20, 1], 0.5, 1.0),  # the middle is half an ulp below 0.5
        ([1e-20, 1], 0.5, 1e-20),
        ([-1.7e308, 1.7e308], 1.0, 1.7e308),
        ([1.6e308, 1.7e308], 1.6e308, 1.6e308),
        ([5e-324, 1.0], 0.0, 5e-324),
    ],
)
def test_ties_and_extremes(values, x, expected) -> None:
    assert FiniteSet(values).project(torch.tensor([x], dtype=torch.float64)).item() == expected


@pytest.mark.parametrize(
    "values",
    [(1, -1, 0), [0, 1, -1, 1, 0], range(-1, 2), torch.tensor([1, 0, -1]), np.array([1.0, -1.0, -0.0])],
    ids=["tuple", "duplicates", "range", "tensor", "array"],
)
def test_values_come_in_any_form_and_order(values) -> None:
    assert FiniteSet(values) == FiniteSet([-1.0, 0.0, 1.0])
    assert repr(FiniteSet(values)) == "FiniteSet([-1, 0, 1])"


def test_binding_merges_values_that_the_dtype_cannot_tell_apart() -> None:
    bound = FiniteSet([1.0, 1.0001, 2.0]).bind(torch.zeros(2, dtype=torch.bfloat16))
    assert bound.numbers == (1.0, 2.0)
    assert bound.count((2,)) == 4
    assert all(member.dtype == torch.bfloat16 for member in bound.members((2,)))


def test_members_come_in_order_and_lazily() -> None:
    values = FiniteSet([3, 1, 2])
    assert [tuple(m.tolist()) for m in values.members((2,))] == list(product((1.0, 2.0, 3.0), repeat=2))
    assert values.count((3, 4)) == 3**12
    assert values.count((1000, 1000)) == 3**1_000_000
    assert [m.sum().item() for m in islice(values.members((30, 30)), 2)] == [900, 901]
    assert values.count((0, 3)) == len(list(values.members((0, 3)))) == 1


def test_nan_inf_and_the_sign_of_zero() -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 0.0, -0.2])
    for values in (FiniteSet([-1, 0, 1]), FiniteSet(range(-40, 41)), Integers(-1, 1)):
        projected = values.bind(x).project(x)
        assert projected[0].isnan()
        assert projected[2] == -projected[1] == values.project(torch.tensor([-1e9]))
        assert same_bits(projected[3:5], x[3:5])
        assert values.contains(x).tolist() == [False, False, False, True, True, False]


@settings(deadline=None)
@given(st.integers(-5, 5), st.integers(0, 8), st.lists(SINGLE.map(lambda v: v % 16 - 8), min_size=1))
def test_whole_numbers_agree_with_their_list(lower, width, numbers) -> None:
    x = torch.tensor([*numbers, *(torch.arange(-18, 19) / 2).tolist()])
    listed = FiniteSet(range(lower, lower + width + 1))
    assert torch.equal(Integers(lower, lower + width).project(x), listed.project(x))
    g = torch.tensor([-1.0, 0.0, 2.0])
    assert torch.equal(Integers(lower, lower + width).lmo(g), listed.lmo(g))
    assert torch.equal(Integers(lower, lower + width).support(g), listed.support(g))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "x", [0.49999997, 0.5, 0.50000006, 8388609.0, 16777217.0, -0.49999997, -0.5, 1.5, 1e30]
)
def test_rounding_is_exact_at_every_size(x, dtype) -> None:
    entry = Fraction(torch.tensor(x, dtype=dtype).item())
    floor = entry.__floor__()
    expected = floor if entry - floor <= Fraction(1, 2) else floor + 1
    assert Integers().project(torch.tensor([x], dtype=dtype)).item() == expected


@pytest.mark.parametrize(
    ("bounds", "dtype", "low", "high"),
    [
        ((-2.5, 2.5), torch.float32, -2, 2),
        ((-2049, 2049), torch.float16, -2048, 2048),
        ((-(2**24) - 1, 2**24 + 1), torch.float32, -(2**24), 2**24),
        ((2**24 + 1, None), torch.float32, 2**24 + 2, None),
        ((-(10**6), 10**6), torch.float16, -65504, 65504),
        ((-10, -1), torch.float32, -10, -1),
    ],
)
def test_bounds_that_the_dtype_lacks_are_rounded_inwards(bounds, dtype, low, high) -> None:
    far = torch.tensor([-torch.inf, torch.inf], dtype=dtype)
    projected = Integers(*bounds).bind(far).project(far).tolist()
    assert projected[0] == low
    assert high is None or projected[1] == high


def test_whole_numbers_are_listed_where_there_are_finitely_many() -> None:
    assert Integers(-1, 1).count((3, 4)) == 3**12
    assert [m.item() for m in Integers(-1.5, 1.5).members((1,))] == [-1, 0, 1]
    for unbounded in (Integers(), Integers(0), Integers(upper=0)):
        for ask in (unbounded.members, unbounded.count):
            with pytest.raises(UnsupportedError, match="it is not finite; give both bounds"):
                ask((2,))
        with pytest.raises(UnsupportedError, match="unbounded"):
            unbounded.lmo(torch.ones(2))


@pytest.mark.parametrize("values", [FiniteSet([-2, 0.5, 3]), Integers(-2, 1)])
def test_linear_minima_and_support_by_trying_all(values) -> None:
    g = torch.tensor([[-1.0, 0.0, 2.0]])
    choices = [(sum(m.mul(g).flatten().tolist()), tuple(m[0].tolist())) for m in values.members((1, 3))]
    assert tuple(values.lmo(g)[0].tolist()) == min(choices)[1]
    assert values.support(g).sum().item() == max(choices)[0]


@pytest.mark.parametrize("values", [FiniteSet([-2, 0.5, 3]), Integers(-2, 1)])
def test_samples_reach_every_member(values) -> None:
    seen = values.sample((200,), torch.Generator().manual_seed(0)).unique().tolist()
    assert seen == [m.item() for m in values.members((1,))]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (FiniteSet([-1, 0.5, 2]), Box(0, 2), FiniteSet([0.5, 2])),
        (NonNegative(), FiniteSet([-1, 0, 1]), FiniteSet([0, 1])),
        (FiniteSet([-1, 0, 1]), FiniteSet([0, 1, 2]), FiniteSet([0, 1])),
        (FiniteSet([0.5, 1, 7]), Integers(upper=5), FiniteSet([1])),
        (FiniteSet([0, 1]), Equal(1.0), FiniteSet([1])),
        (Integers(), Box(-1.5, 2.5), Integers(-1, 2)),
        (Integers(0), Integers(-3, 4), Integers(0, 4)),
        (Box(upper=1.5), Integers(-3), Integers(-3, 1)),
        (FiniteSet([0, 1]), Simplex(), None),
        (FiniteSet([0, 1]), Box(torch.zeros(2)), None),
        (Box(0, 1), Box(0, 2), None),
        (OneHot(), Simplex(), None),
    ],
)
def test_values_in_two_sets(first, second, expected) -> None:
    assert common_values(first, second) == expected


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (FiniteSet([0, 1]), Box(2, 3), "no value is in both"),
        (FiniteSet([0, 1]), FiniteSet([2]), "no value is in both"),
        (Integers(), Box(0.2, 0.8), "no whole number between lower=0.2 and upper=0.8"),
    ],
)
def test_no_value_in_two_sets(first, second, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        common_values(first, second)


@pytest.mark.parametrize(
    "set",
    [
        FiniteSet([0, 1]),
        Integers(),
        OneHot(),
        FiniteSet([0, 1]).where(torch.tensor([True, False])),
        OneHot().where(torch.tensor([True, False, True])),
        OneHot().flatten(1),
        OneHot() | OneHot().where(torch.tensor([True, False, True])),
        FiniteSet([0, 1]) & Box(0, 0.5),
    ],
    ids=repr,
)
def test_discrete_sets_train_straight_through_by_themselves(set) -> None:
    assert set.default_method == "StraightThrough"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 40])
def test_pieces_of_large_tensors_have_the_bits_of_small_ones(count, dtype) -> None:
    generator = torch.Generator().manual_seed(count)
    values = torch.randn(count, generator=generator, dtype=torch.float64) * 10 ** torch.arange(
        count
    ).remainder(4)
    set = FiniteSet([0.0, *values]).bind(torch.zeros(1, dtype=dtype))
    cuts = set.cuts[:-1]
    entries = torch.cat(
        [cuts, cuts.nextafter(cuts + 1), set.table, torch.tensor([-0.0, 0.0, math.inf, -math.inf])]
    )
    x = torch.cat([entries.to(dtype), (100 * torch.randn(140_000, generator=generator)).to(dtype)])
    nearest = set.project(x)
    reference = torch.cat([set.table[torch.bucketize(part, set.cuts)] for part in x.split(1000)])
    assert same_bits(nearest + 0.0, reference + 0.0)
    is_member = x == nearest
    assert same_bits(nearest[is_member], x[is_member])
