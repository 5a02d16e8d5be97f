"""Tuples of choices that are not listed in advance."""

from itertools import permutations, product

import pytest
import torch

from feasible import Integers, OneHot, Permutation
from feasible.sets.tuples import tuples


@pytest.mark.parametrize("count", range(4))
@pytest.mark.parametrize("length", range(4))
def test_as_the_standard_library(count, length) -> None:
    assert list(tuples(lambda: range(count), length)) == list(product(range(count), repeat=length))


def test_iterators_start_anew_at_every_place() -> None:
    orders = list(permutations(range(3)))
    assert list(tuples(lambda: permutations(range(3)), 2)) == list(product(orders, repeat=2))


@pytest.mark.parametrize(
    ("set", "shape"),
    [(Integers(0, 10**9), (1,)), (Permutation(), (2, 12, 12)), (OneHot(), (2, 10**5))],
    ids=["Integers", "Permutation", "OneHot"],
)
def test_the_first_member_of_very_many_comes_at_once(set, shape) -> None:
    members = set.members(shape)
    first, second = next(members), next(members)
    assert first.shape == shape
    assert bool(set.contains(first).all())
    assert bool(set.contains(second).all())
    assert not torch.equal(first, second)
