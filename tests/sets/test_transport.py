"""Doubly stochastic matrices and permutations: certificates at every scale, ties, members."""

from itertools import islice
from math import inf, nan

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.autograd import gradcheck

from feasible import DoublyStochastic, Permutation


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


HARD = {
    "normal": normal(20, 20),
    "large": normal(20, 20) * 1e9,
    "larger": normal(30, 30) * 1e15,
    "tiny": normal(20, 20) * 1e-9,
    "far from 0": normal(20, 20) + 1e9,
    "ties": normal(20, 20).round(),
    "large ties": normal(20, 20).sign() * 1e6,
    "heavy tails": normal(20, 20).pow(9),
    "one row": torch.zeros(9, 9, dtype=torch.float64).index_fill(0, torch.tensor([2]), 50.0),
    "product": normal(20, 1) * normal(1, 20) * 100,
    "big": normal(80, 80) * 100,
    "a batch of scales": normal(6, 7, 7) * torch.logspace(-9, 9, 6, dtype=torch.float64)[:, None, None],
}


@pytest.mark.parametrize("x", HARD.values(), ids=HARD)
def test_projection_carries_its_certificate(x: Tensor) -> None:
    """``⟨x − p, s − p⟩ ≤ 0`` for every doubly stochastic s: an assignment problem tells the largest."""
    point = DoublyStochastic().project(x)
    assert bool(DoublyStochastic().contains(point).all())
    outward = x - point
    flat = [tensor.reshape(-1, *x.shape[-2:]) for tensor in (x, outward, point)]
    for given, matrix, nearest in zip(*flat, strict=True):
        rows, columns = linear_sum_assignment(matrix.numpy(), maximize=True)
        gap = matrix[rows, columns].sum() - (matrix * nearest).sum()
        assert float(gap) <= 1e-9 * max(1.0, float(given.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_numbers(dtype) -> None:
    for x in HARD.values():
        point = DoublyStochastic().project(x.to(dtype))
        assert point.dtype == dtype
        assert bool(DoublyStochastic().contains(point).all())


def test_derivative_at_an_ordinary_point_and_within_a_face() -> None:
    assert gradcheck(DoublyStochastic().project, normal(2, 4, 4).requires_grad_())
    assert gradcheck(DoublyStochastic().project, (normal(4, 4) * 0.01 + 0.25).requires_grad_())
    # All of it at a corner: nothing moves.
    x = (100 * torch.eye(3, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(DoublyStochastic().project(x)[0, 0], x)
    assert float(gradient.abs().max()) < 1e-12


def test_tangent_is_the_limit_of_projections() -> None:
    for seed in range(5):
        x, direction = DoublyStochastic().project(normal(5, 5, seed=seed)), normal(5, 5, seed=seed + 50)
        limit = (DoublyStochastic().project(x + 1e-7 * direction) - x) / 1e-7
        torch.testing.assert_close(DoublyStochastic().tangent(x, direction), limit, rtol=0, atol=1e-6)


def test_works_under_vmap_of_gradients() -> None:
    batch, weights = normal(3, 4, 4), normal(4, 4, seed=1)
    slope = torch.func.grad(lambda x: (DoublyStochastic().project(x) * weights).sum())
    torch.testing.assert_close(torch.func.vmap(slope)(batch), torch.stack([slope(x) for x in batch]))


def test_permutations_are_listed_in_order_and_counted() -> None:
    chosen = [p.argmax(-1).tolist() for p in islice(Permutation().members((3, 3)), 4)]
    assert chosen == [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0]]
    assert Permutation().count((3, 3)) == 6
    assert Permutation().count((2, 4, 4)) == 24**2
    assert len(list(Permutation().members((2, 2, 2)))) == Permutation().count((2, 2, 2)) == 4


def test_ties_have_one_answer() -> None:
    x = torch.zeros(4, 4)
    first = Permutation().project(x)
    assert all(torch.equal(Permutation().project(x.clone()), first) for _ in range(3))
    assert torch.equal(first, torch.eye(4))


def test_infinite_scores_are_taken_or_shunned() -> None:
    x = torch.tensor([[inf, 1.0, 2.0], [-inf, 0.0, 1.0], [3.0, 4.0, 5.0]])
    assert Permutation().project(x).argmax(-1).tolist() == [0, 2, 1]
    assert bool(Permutation().project(torch.tensor([[nan, 1.0], [1.0, 0.0]])).isnan().all())


def test_sampled_permutations_are_uniform() -> None:
    samples = Permutation().sample((3000, 3, 3), torch.Generator().manual_seed(0))
    assert float((samples.mean(0) - 1 / 3).abs().max()) < 0.04


def test_linear_minimum_is_an_assignment() -> None:
    gradient = normal(3, 6, 6)
    for set in (DoublyStochastic(), Permutation()):
        least = (gradient * set.lmo(gradient)).sum((-2, -1))
        expected = [m[linear_sum_assignment(m)].sum() for m in gradient.numpy()]
        np.testing.assert_allclose(least.numpy(), expected)
        torch.testing.assert_close(set.support(-gradient), -least)
