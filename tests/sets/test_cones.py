"""Cones, beyond what the table checks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from feasible import Monotone, SecondOrderCone
from feasible.sets import pooling
from feasible.sets.pooling import pool_violators


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_scipy(x):
    return torch.from_numpy(np.stack([isotonic_regression(row).x for row in x.numpy()]))


ROWS = {
    "normal": normal(20, 60),
    "trend": 0.1 * normal(20, 60) + torch.linspace(0, 1, 60, dtype=torch.float64),
    "walk": normal(20, 200).cumsum(-1),
    "ties": (2 * normal(20, 60)).round(),
    "falling": -normal(20, 60).sort(-1).values,
    "one neighbour a round": torch.cat([torch.arange(99.0), torch.tensor([-1e9])]).double().expand(3, -1),
    "uneven": torch.cat([1e9 * normal(3, 20), 1e-9 * normal(3, 20, seed=1)], -1),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("rounds", [1, 3, 32])
def test_pooling_is_isotonic_regression(name, rounds, monkeypatch):
    monkeypatch.setattr(pooling, "MOST_ROUNDS", rounds)
    x = ROWS[name]
    pooled = pool_violators(x)
    torch.testing.assert_close(pooled, by_scipy(x), atol=1e-14 * float(x.abs().max()), rtol=1e-13)
    assert (pooled.diff(dim=-1) >= 0).all()


@given(st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_pooling_of_small_integers(rows):
    x = torch.tensor(rows, dtype=torch.float64)
    torch.testing.assert_close(pool_violators(x), by_scipy(x), atol=1e-14, rtol=0)


def test_stretches_are_pooled_by_themselves():
    x = torch.tensor([[3.0, 1.0, 2.0, 0.0]], dtype=torch.float64)
    starts = torch.tensor([[True, False, True, False]])
    assert pool_violators(x, starts).tolist() == [[2.0, 2.0, 1.0, 1.0]]


def test_long_walks_in_stretches_are_pooled_by_themselves():
    x = normal(30, 200, seed=2).cumsum(-1)
    is_start = normal(30, 200, seed=3) > 1.5
    cuts = is_start.reshape(-1).nonzero().squeeze(1).tolist() + list(range(0, x.numel(), 200))
    pieces = x.reshape(-1).tensor_split(sorted(set(cuts) - {0}))
    expected = torch.cat([by_scipy(piece[None])[0] for piece in pieces]).reshape(x.shape)
    torch.testing.assert_close(pool_violators(x, is_start), expected, atol=1e-12, rtol=0)


def test_nan_takes_its_row_and_infinities_stay_in_place():
    x = torch.tensor([[3.0, torch.nan, 1.0], [-torch.inf, 2.0, 1.0], [1.0, 2.0, torch.inf]])
    projected = Monotone().project(x)
    assert projected[0].isnan().all()
    assert projected[1:].tolist() == [[-torch.inf, 1.5, 1.5], [1.0, 2.0, torch.inf]]


def test_blocks_share_their_gradient():
    x = torch.tensor([1.0, 3.0, 2.0, 4.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(Monotone().project(x)[1], x)
    assert gradient.tolist() == [0.0, 0.5, 0.5, 0.0]


def test_the_tangent_at_equal_entries_is_monotone():
    tangent = Monotone().tangent(torch.tensor([1.0, 1.0, 2.0]), torch.tensor([3.0, 1.0, -5.0]))
    assert tangent.tolist() == [2.0, 2.0, -5.0]


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_cone_splits_every_vector_into_two_orthogonal_parts(scale):
    x = scale * normal(50, 5)
    cone = SecondOrderCone()
    nearest = cone.project(x)
    polar = nearest - x
    assert cone.contains(nearest).all()
    assert (polar[:, :-1].norm(dim=-1) <= polar[:, -1] + 1e-14 * scale).all()
    assert ((nearest * polar).sum(-1).abs() <= 1e-14 * scale**2).all()


def test_the_tangent_of_the_cone_far_from_its_tip():
    cone = SecondOrderCone()
    x = cone.project(1e3 * normal(20, 5))
    direction, step = normal(20, 5, seed=1), 1e-4
    limit = (cone.project(x + step * direction) - x) / step
    torch.testing.assert_close(cone.tangent(x, direction), limit, atol=1e-5, rtol=0)


def test_a_single_entry_is_its_own_bound():
    assert SecondOrderCone().project(torch.tensor([[-2.0], [3.0]])).tolist() == [[0.0], [3.0]]
