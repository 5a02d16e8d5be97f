"""Sets inside sets inside sets: whatever fits together obeys the rules, and the rest is refused with a sentence."""

import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from feasible import (
    Box,
    FiniteSet,
    L1Ball,
    L2Ball,
    Monotone,
    NonNegative,
    OneHot,
    Set,
    Simplex,
    Sphere,
    SumTo,
)
from feasible.testing import same_bits

SHAPE = (2, 3, 2)
SIMPLE = [
    Box(-0.5, 1), NonNegative(), FiniteSet([-1, 0, 2]), Simplex(), Simplex(dim=None), L2Ball(0.5), L2Ball(1.0, dim=0),
    SumTo(1.0), L1Ball(0.7), Monotone(), Sphere(), OneHot(), OneHot(dim=None),
]  # fmt: skip


def made(make: Callable[[], Set]) -> Set:
    """The set; an example that is refused is another one's turn, but not without a sentence."""
    sentence, set = "", None
    try:
        set = make()
    except ValueError as error:  # an UnsupportedError is one
        sentence = str(error)
    assert set is not None or len(sentence) > 40
    assume(set is not None)
    assert set is not None
    return set


def bools(size: int) -> st.SearchStrategy[list[bool]]:
    return st.lists(st.booleans(), min_size=size, max_size=size)


@st.composite
def masks(draw: st.DrawFn) -> Tensor:
    """Some entries of the last dimension, a block, or anything."""
    kind = draw(st.sampled_from(["vector", "block", "any"]))
    if kind == "any":
        return torch.tensor(draw(bools(12))).reshape(SHAPE)
    vectors = [torch.tensor(draw(bools(size))) for size in SHAPE]
    return vectors[-1] if kind == "vector" else vectors[0][:, None, None] & vectors[1][:, None] & vectors[2]


def nested(inner: st.SearchStrategy[Set]) -> st.SearchStrategy[Set]:
    @st.composite
    def one_more(draw: st.DrawFn) -> Set:
        first = draw(inner)
        operation = draw(st.sampled_from(["flatten", "where", "and", "or"]))
        if operation == "flatten":
            return first.flatten(draw(st.sampled_from([0, 1, -2, -1])))
        if operation == "where":
            mask = draw(masks())
            return made(lambda: first.where(mask))
        second = draw(inner)
        return made(lambda: first & second if operation == "and" else first | second)

    return one_more()


NESTED = st.recursive(st.sampled_from(SIMPLE), nested, max_leaves=3)
settled = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much]
)


@settled
@given(set=NESTED, seed=st.integers(0, 99))
def test_any_nesting_projects_onto_its_members(set: Set, seed: int) -> None:
    x = 2 * torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    bound = made(lambda: set.bind(x))
    with warnings.catch_warnings(record=True) as given_up:
        warnings.filterwarnings("always", message="The nearest point of")
        projected = bound.project(x)
        again = bound.project(projected)
        member = bound.project(bound.sample(SHAPE, torch.Generator().manual_seed(seed)).double())
    assume(not given_up)  # an iteration that has not arrived says so
    assert projected.shape == x.shape
    assert bound.contains(projected).all()
    assert same_bits(again, projected)
    assert same_bits(bound.project(member), member)
    assert (bound.norm(x - projected) <= bound.norm(x - member) * (1 + 1e-9) + 1e-9).all()
    assert bound.spread(bound.norm(x), x).shape == x.shape
    assert bound.contains(x).shape == bound.norm(x).shape == bound.sum_units(x).shape


SOME = torch.tensor([True, False, True])
KERNEL = torch.tensor([[[False, True], [True, True], [False, True]]]).expand(
    SHAPE
)  # no block, the same in each
SAME = [
    (Simplex(dim=1).where(SOME[:, None]), Simplex(dim=1).where(SOME[:, None].expand(SHAPE))),
    (L2Ball(0.5).flatten(1).where(KERNEL), L2Ball(0.5).where(KERNEL.flatten(1)).flatten(1)),
    (L2Ball(0.5, dim=None).where(KERNEL), L2Ball(0.5).where(KERNEL.flatten()).flatten()),
    (
        (Simplex(dim=1) | L2Ball(0.5, dim=1)).where(SOME[:, None]),
        Simplex(dim=1).where(SOME[:, None]) | L2Ball(0.5, dim=1).where(SOME[:, None]),
    ),
    ((L2Ball(0.5) & NonNegative()).flatten(1), L2Ball(0.5).flatten(1) & NonNegative().flatten(1)),
    (
        (L2Ball(0.5) & NonNegative()).flatten(1).where(KERNEL),
        (L2Ball(0.5).flatten(1) & NonNegative()).where(KERNEL),
    ),
    (Simplex().flatten(1).flatten(1), Simplex().flatten(1)),
    (Simplex(dim=1).where(SOME[:, None]).where(KERNEL[0, :, 1:] | True), Simplex(dim=1).where(SOME[:, None])),
]


@pytest.mark.parametrize(("one", "other"), SAME, ids=repr)
def test_the_same_in_two_ways(one: Set, other: Set) -> None:
    x = 2 * torch.randn(20, *SHAPE, dtype=torch.float64)
    for point in x:
        torch.testing.assert_close(one.bind(point).project(point), other.bind(point).project(point))


REFUSED = [
    (lambda: Simplex().where(KERNEL), "picks the same entries of every vector along -1"),
    (lambda: (L2Ball(1.0) & SumTo(1.0, dim=0)).where(KERNEL), "picks the same entries of every tensor"),
    (lambda: Simplex().where(SOME & False), "picks no entry"),
    (lambda: Simplex().where(SOME).where(SOME[:2]), "do not fit together"),
    (lambda: Simplex() | NonNegative(), "speak of the same unit"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_does_not_fit_together_is_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_only_some_rows_of_a_layer_are_on_the_simplex() -> None:
    rows = torch.tensor([True, False, True])
    set = Simplex().where(rows[:, None])
    x = torch.randn(3, 4)
    projected = set.project(x)
    assert torch.equal(projected[1], x[1])
    assert torch.equal(projected[rows], Simplex().project(x[rows]))
    assert set.contains(x).tolist() == [False, True, False]
    assert L2Ball(9.0).where(rows[:, None]).barrier(x)[1] == 0
    assert Simplex().where(rows[:, None]).support(x)[1] == torch.inf


def test_a_support_that_sees_nan_says_so_even_where_it_is_unbounded() -> None:
    set = Simplex().where(torch.tensor([True, False, True]))
    y = torch.tensor([[torch.nan, 1.0, 0.0], [0.0, torch.nan, 0.0], [0.0, 1.0, 0.0], [2.0, 0.0, 1.0]])
    assert str(set.support(y).tolist()) == "[nan, nan, inf, 2.0]"
