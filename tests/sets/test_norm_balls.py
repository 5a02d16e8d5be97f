"""Balls with corners, beyond what the table checks."""

import pytest
import torch

from feasible import Box, L1Ball, LInfBall, Simplex


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e3, 1e9])
def test_the_l1_ball_is_a_simplex_in_each_orthant(scale):
    x = torch.randn(50, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * scale
    expected = torch.where(x.abs().sum(-1, keepdim=True) <= 2, x, x.sign() * Simplex(2.0).project(x.abs()))
    torch.testing.assert_close(L1Ball(2.0).project(x), expected, rtol=1e-14, atol=1e-14)


def test_the_l1_projection_has_zeros_and_keeps_signs():
    projected = L1Ball(1.0).project(torch.tensor([[3.0, -0.5, 0.0, -2.9]]))
    torch.testing.assert_close(projected, torch.tensor([[0.55, 0.0, 0.0, -0.45]]))
    assert (projected == 0).sum() == 2


def test_the_tangent_of_the_l1_ball_lets_entries_at_0_grow_only_at_others_cost():
    x = torch.tensor([1.0, 0.0, 0.0])
    tangent = L1Ball(1.0).tangent(x, torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(tangent, torch.tensor([-0.5, 0.5, 0.0]))


def test_l1_samples_fill_the_ball():
    norms = L1Ball(2.0).sample((4000, 3), torch.Generator().manual_seed(0)).abs().sum(-1) / 2
    # A share r³ of a three-dimensional ball lies within r.
    shares = torch.stack([(norms <= r).float().mean() for r in (0.3, 0.6, 0.9)])
    torch.testing.assert_close(shares, torch.tensor([0.3, 0.6, 0.9]) ** 3, atol=0.03, rtol=0)


def test_the_largest_magnitude_is_a_box_that_counts_vectors():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(LInfBall(0.5).project(x), Box(-0.5, 0.5).project(x))
    assert LInfBall(0.5).contains(x).shape == (3,)
    torch.testing.assert_close(LInfBall(0.5).support(x), Box(-0.5, 0.5).support(x).sum(-1))
