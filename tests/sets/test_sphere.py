"""The sphere, beyond what the table checks."""

import torch

from feasible import Sphere


def test_the_zero_vector_goes_to_the_first_unit_vector():
    x = torch.zeros(2, 3)
    assert Sphere(2.0).project(x).tolist() == [[2.0, 0.0, 0.0]] * 2
    assert Sphere(2.0, dim=0).project(x).tolist() == [[2.0] * 3, [0.0] * 3]
    assert Sphere(2.0, dim=None).project(x).flatten().tolist() == [2.0, 0, 0, 0, 0, 0]
    assert Sphere(2.0).lmo(x).tolist() == [[2.0, 0.0, 0.0]] * 2


def test_vectors_without_a_direction_become_nan():
    x = torch.tensor([[torch.inf, 1.0], [torch.nan, 0.0], [3.0, 4.0]])
    projected = Sphere().project(x)
    assert projected[:2].isnan().all()
    assert projected[2].tolist() == [3 / 5, 4 / 5] or torch.allclose(projected[2], torch.tensor([0.6, 0.8]))


def test_lengths_at_the_ends_of_the_range_keep_their_direction():
    for scale in (1e-300, 1e-160, 1e160, 1e300):
        x = scale * torch.tensor([3.0, -4.0], dtype=torch.float64)
        torch.testing.assert_close(Sphere().project(x), torch.tensor([0.6, -0.8], dtype=torch.float64))


def test_the_reduced_gradient_is_tangential_and_vanishes_where_the_gradient_is_radial():
    sphere = Sphere(2.0)
    x = sphere.sample((5, 4), torch.Generator().manual_seed(0)).double()
    x = sphere.project(x)
    gradient = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    reduced = gradient.clone()
    sphere.reduce_gradients_([x], [reduced], 0.01)
    assert ((x * reduced).sum(-1).abs() < 1e-14).all()
    radial = 3 * x
    sphere.reduce_gradients_([x], [radial], 0.01)
    assert (radial.abs() < 1e-14).all()


def test_descent_along_the_sphere_finds_the_smallest_eigenvector():
    matrix = torch.diag(torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64))
    x = Sphere().project(torch.ones(3, dtype=torch.float64))
    for _ in range(400):
        gradient = 2 * matrix @ x
        Sphere().reduce_gradients_([x], [gradient], 0.01)
        x = Sphere().project(x - 0.1 * gradient)
    torch.testing.assert_close(x.abs(), torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), atol=1e-9, rtol=0)
