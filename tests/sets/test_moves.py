"""Moves from member to member: they stay in the set, change something, and together reach every member."""

import dataclasses
import math

import pytest
import torch

import feasible as fs
from feasible.errors import UnsupportedError
from feasible.sets.moves import SHORT, Moves, discrete_entries, neighbours

MASK = torch.tensor([[True, False, True], [False, True, True]])
ROWS = torch.tensor([[True], [False]]).expand(2, 3)
TERNARY = fs.FiniteSet([-1, 0, 1])
# set, shape, how many neighbours every member has
CASES = {
    "list": (TERNARY, (2, 2), 2 * 4),
    "scalar": (TERNARY, (), 2),
    "one value": (fs.FiniteSet([3]), (2,), 0),
    "short range": (fs.Integers(-1, 2), (3,), 3 * 3),
    "one hot rows": (fs.OneHot(), (3, 4), 3 * 3),
    "one hot columns": (fs.OneHot(dim=0), (3, 2), 2 * 2),
    "one hot tensor": (fs.OneHot(dim=None), (2, 2), 3),
    "one hot channels": (fs.OneHot(dim=1), (2, 3, 2), 4 * 2),
    "one hot filters": (fs.OneHot().flatten(1), (2, 2, 2), 2 * 3),
    "permutations": (fs.Permutation(), (2, 3, 3), 2 * 3),
    "candidates": (fs.Candidates(torch.arange(12.0).reshape(3, 2, 2)), (2, 2), 2),
    "union of lists": (fs.FiniteSet([0.5]) | fs.Integers(5, 6), (2,), 2 * 2),
    "fixed": (fs.Equal(1.0), (2,), 0),
}
PARTLY = {
    "masked list": (TERNARY.where(MASK), (2, 3), 2 * 4),
    "some vectors": (fs.OneHot().where(ROWS), (2, 3), 2),
    "some entries of every vector": (fs.OneHot().where(torch.tensor([True, True, False])), (2, 3), 2),
    "flattened mask": (TERNARY.where(MASK.flatten()).flatten(0), (2, 3), 2 * 4),
}
EVERY = {**CASES, **PARTLY}


def member(set, shape, seed=1, dtype=torch.float32):
    x = set.sample(shape, torch.Generator().manual_seed(seed)).to(dtype)
    bound = set.bind(x)
    return bound, bound.project(x)


def every(set, x):
    return [block[torch.tensor([row])] for block in neighbours(set, x) for row in range(len(block))]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_move_leads_to_another_member_and_none_comes_twice(name, dtype):
    set, shape, count = EVERY[name]
    set, x = member(set, shape, dtype=dtype)
    reached = [move.apply(x) for move in every(set, x)]
    assert len(reached) == count
    assert len({tuple(y.flatten().tolist()) for y in reached}) == count
    for y in reached:
        assert y.dtype == dtype
        assert y.shape == x.shape
        assert bool(set.contains(y).all())
        assert not torch.equal(y, x)
        assert torch.equal(torch.where(discrete_entries(set, x), x, y), x)  # free entries stay


@pytest.mark.parametrize("name", CASES)
def test_moves_reach_every_member(name):
    set, shape, _ = CASES[name]
    set, x = member(set, shape)
    seen, open_ = {tuple(x.flatten().tolist())}, [x]
    while open_:
        here = open_.pop()
        for move in every(set, here):
            there = move.apply(here)
            key = tuple(there.flatten().tolist())
            if key not in seen:
                seen.add(key)
                open_.append(there)
    assert len(seen) == (set.count(shape) if set.offers("count") else 1)


@pytest.mark.parametrize("name", EVERY)
def test_moves_without_a_common_unit_go_together(name):
    set, shape, _ = EVERY[name]
    set, x = member(set, shape, seed=2)
    moves = every(set, x)
    for first in moves:
        for second in moves:
            if not {*first.unit.flatten().tolist()} & {*second.unit.flatten().tolist()}:
                both = second.apply(first.apply(x))
                assert bool(set.contains(both).all())
                assert torch.equal(both, first.apply(second.apply(x)))


@pytest.mark.parametrize("name", EVERY)
def test_the_change_is_the_difference(name):
    set, shape, _ = EVERY[name]
    set, x = member(set, shape)
    for move in every(set, x):
        difference = (move.apply(x) - x).flatten()
        assert torch.equal(difference[move.index[0]], move.change(x)[0])
        assert int((difference != 0).sum()) <= move.index.shape[1]


@pytest.mark.parametrize(
    ("set", "x", "expected"),
    [
        (fs.FiniteSet(range(SHORT + 1)), [0.0, 5.0], [1.0, 4.0, 6.0]),
        (fs.FiniteSet(range(SHORT + 1)), [float(SHORT)], [SHORT - 1.0]),
        (fs.Integers(), [3.0], [2.0, 4.0]),
        (fs.Integers(lower=3), [3.0], [4.0]),
        (fs.Integers(-(2**30), 2**30), [2.0**24], [2.0**24 - 1]),  # float32 has no 2²⁴ + 1
    ],
    ids=["long list", "its end", "whole numbers", "bounded", "beyond float32"],
)
def test_long_lists_offer_the_adjacent_values(set, x, expected):
    x = torch.tensor(x)
    assert [value for move in every(set.bind(x), x) for value in move.value.flatten().tolist()] == expected


def test_unions_of_vectors_jump_between_their_parts():
    union = fs.OneHot(dim=None) | fs.Candidates([torch.tensor([0.0, 0.0, 2.0])])
    first, other = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 2.0])
    assert [move.apply(first).tolist() for move in every(union.bind(first), first)] == [
        [0.0, 1.0, 0.0],
        [0.0, 0.0, 1.0],
        [0.0, 0.0, 2.0],
    ]
    assert [move.apply(other).tolist() for move in every(union.bind(other), other)] == [[0.0, 0.0, 1.0]]


def test_other_discrete_sets_are_tried_member_by_member_if_they_are_few():
    @dataclasses.dataclass(frozen=True, eq=False, repr=False)
    class Pair(fs.Set):
        """Both entries equal, 0 or 1."""

        discrete = True
        convex = False
        unit = "tensor"

        def project(self, x):
            return x.mean().round().clamp(0, 1).expand_as(x).clone()

        def norm(self, displacement):
            return displacement.norm()

        def spread(self, values, x):
            return values.expand_as(x)

        def sum_units(self, entries):
            return entries.sum()

        def members(self, shape):
            return iter([torch.zeros(shape), torch.ones(shape)])

        def count(self, shape):
            return 2 if len(shape) == 1 else 10**6

    assert [move.apply(torch.zeros(2)).tolist() for move in every(Pair(), torch.zeros(2))] == [[1.0, 1.0]]
    with pytest.raises(UnsupportedError, match="1,000,000 members"):
        next(neighbours(Pair(), torch.zeros(2, 2)))
    with pytest.raises(UnsupportedError, match="no moves"):
        next(neighbours(fs.NonNegative(), torch.zeros(2)))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_nothing_moves_in_an_empty_tensor(shape):
    x = torch.zeros(shape)
    assert not every(TERNARY.bind(x), x)
    assert discrete_entries(TERNARY, x).shape == shape


def test_discrete_entries_are_those_that_the_set_decides_about():
    x = torch.zeros(2, 3)
    assert torch.equal(discrete_entries(TERNARY.where(MASK).bind(x), x), MASK)
    assert torch.equal(discrete_entries(fs.OneHot().where(ROWS).bind(x), x), ROWS)
    assert torch.equal(discrete_entries(TERNARY.where(MASK.flatten()).flatten(0), x), MASK)
    assert not discrete_entries(fs.NonNegative(), x).any()
    assert not discrete_entries(fs.Frozen(), x).any()


def test_a_block_of_moves_is_made_at_once():
    x = torch.zeros(4)
    moves = Moves(torch.tensor([[0], [2]]), torch.tensor([[1.0], [-1.0]]), torch.tensor([[0], [2]]))
    assert moves.apply(x).tolist() == [1.0, 0.0, -1.0, 0.0]
    assert x.tolist() == [0.0] * 4


def test_large_tensors_come_in_blocks():
    x = torch.zeros(300, 300)
    blocks = [len(block) for block in neighbours(TERNARY.bind(x), x)]
    assert len(blocks) > 1
    assert sum(blocks) == 2 * math.prod(x.shape)
