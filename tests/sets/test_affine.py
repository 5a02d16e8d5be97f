"""Linear equations and one linear inequality, beyond what the table checks."""

import numpy as np
import pytest
import torch

from feasible import Affine, HalfSpace, SumTo


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_nearly_parallel_and_badly_scaled_equations_are_met(scale):
    A = normal(4, 9)
    A = torch.cat([A, A[:1] + 1e-5 * A[1:2], 1e9 * A[2:3], 1e-9 * A[3:]])
    b = A @ normal(9, seed=1)
    affine, x = Affine(A, b), scale * normal(6, 9, seed=2)
    projected = affine.project(x)
    rows = A / A.norm(dim=1, keepdim=True)
    gap = (projected @ rows.T - b / A.norm(dim=1)).abs().max()
    assert gap <= 1e-9 + 1e-14 * scale
    # What was taken away is a combination of the rows.
    rest = (x - projected).numpy()
    combination = np.linalg.lstsq(rows.numpy().T, rest.T, rcond=None)[0]
    assert np.abs(rows.numpy().T @ combination - rest.T).max() <= 1e-12 * max(scale, 1)


def test_float32_equations_that_agree_up_to_rounding_are_no_contradiction():
    A = torch.tensor([[0.1, 0.2], [0.3, 0.6]])
    assert Affine(A, torch.tensor([0.1, 0.3])).bind(torch.zeros(2)).contains(torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="has no solution"):
        Affine(A, torch.tensor([0.1, 0.301]))
    with pytest.raises(ValueError, match="has no solution"):
        Affine(A.double(), torch.tensor([0.1, 0.3 + 1e-9], dtype=torch.float64))


def test_one_equation_of_ones_is_a_sum():
    x = normal(5, 7)
    torch.testing.assert_close(
        Affine(torch.ones(1, 7), torch.tensor([2.0])).project(x), SumTo(2.0).project(x)
    )


def test_a_weight_starts_and_stays_on_its_own_equations():
    b = normal(3, 2)
    affine = Affine(normal(2, 5, seed=1), b).bind(torch.zeros(3, 5))
    x = affine.project(torch.zeros(3, 5))
    torch.testing.assert_close(x.double() @ affine.A.double().T, b, atol=1e-5, rtol=0)
    gradient = torch.ones(3, 5)
    affine.reduce_gradients_([x], [gradient], 0.01)
    assert affine.contains(x - gradient).all()


def test_the_scale_of_a_normal_does_not_matter():
    x, n = normal(4, 3), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    expected = HalfSpace(n, 0.3).project(x)
    for scale in (1e-150, 1e-20, 1e20, 1e150):
        torch.testing.assert_close(HalfSpace(scale * n, scale * 0.3).project(x), expected)


def test_half_precision_keeps_the_inequality_as_it_was_given():
    half_space = HalfSpace(torch.tensor([1 / 3, 1 / 7]), 1.0).bind(torch.zeros(2, dtype=torch.bfloat16))
    torch.testing.assert_close(half_space.derived.direction.norm(), torch.tensor(1.0, dtype=torch.float64))
    projected = half_space.project(torch.tensor([9.0, 5.0], dtype=torch.bfloat16)).double()
    assert abs(projected[0] / 3 + projected[1] / 7 - 1) < 0.01


def test_the_reduced_gradient_stops_at_the_boundary_only():
    half_space = HalfSpace(torch.tensor([1.0, 0.0]), 1.0)
    points = torch.tensor([[0.0, 0.0], [0.999, 0.0], [1.0, 0.0]])
    gradient = torch.tensor([[-1.0, 1.0]] * 3)
    half_space.reduce_gradients_([points], [gradient], 0.01)
    torch.testing.assert_close(
        gradient, torch.tensor([[-1.0, 1.0], [-0.1, 1.0], [0.0, 1.0]]), atol=1e-5, rtol=0
    )
