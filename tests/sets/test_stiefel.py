"""Orthonormal matrices: the polar factor from any start, its speed-up near by, the charts."""

import pytest
import scipy.linalg
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from feasible import Stiefel
from feasible.sets import polar

SHAPES = [(6, 6), (9, 4), (4, 9), (1, 5), (64, 64)]


def perturbed(shape: tuple[int, int], size: float, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (Stiefel().sample(shape, generator).double() + size * noise).to(dtype)


def by_scipy(x: Tensor) -> Tensor:
    side = "right" if x.shape[0] >= x.shape[1] else "left"
    return torch.from_numpy(scipy.linalg.polar(x.double().numpy(), side=side)[0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e-3, 0.02, 0.1, 1.0, 1e9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_polar_factor_from_any_distance(shape, size, dtype) -> None:
    x = perturbed(shape, size, dtype)
    projected = Stiefel().project(x)
    assert bool(Stiefel().contains(projected))
    singular = torch.linalg.svdvals(x.double())
    rounding = 30 * torch.finfo(dtype).eps * float(singular[0] / singular[-1])
    assert float((projected.double() - by_scipy(x)).abs().max()) <= rounding


def test_near_the_manifold_no_decomposition_is_needed(monkeypatch) -> None:
    def refuse(x: Tensor) -> Tensor:
        raise AssertionError("a singular value decomposition was made")

    monkeypatch.setattr(polar, "_from_svd", refuse)
    for size in (1e-10, 1e-5, 1e-3):
        for dtype in (torch.float32, torch.float64):
            x = perturbed((64, 64), size, dtype)
            assert bool(Stiefel().contains(Stiefel().project(x)))


def test_near_and_far_matrices_in_one_batch() -> None:
    near, far, flipped = perturbed((5, 3), 1e-3), perturbed((5, 3), 5.0), -3 * perturbed((5, 3), 0.0)
    batch = torch.stack([near, far, flipped, torch.zeros(5, 3, dtype=torch.float64)])
    projected = Stiefel().project(batch)
    assert bool(Stiefel().contains(projected).all())
    torch.testing.assert_close(projected[:3], torch.stack([by_scipy(x) for x in batch[:3]]))


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_rank_deficient_matrices_have_a_nearest_point_and_always_the_same(rank) -> None:
    x = torch.randn(5, rank, dtype=torch.float64) @ torch.randn(rank, 3, dtype=torch.float64)
    projected = Stiefel().project(x)
    assert bool(Stiefel().contains(projected))
    assert torch.equal(projected, Stiefel().project(x.clone()))
    # ‖x − q‖² is least exactly where ⟨x, q⟩ is the sum of the singular values.
    torch.testing.assert_close((x * projected).sum(), torch.linalg.svdvals(x).sum())


@pytest.mark.parametrize("shape", [(4, 4), (5, 2), (2, 5)])
def test_derivatives_off_and_on_the_manifold(shape) -> None:
    for x in (perturbed(shape, 1.0), Stiefel().project(perturbed(shape, 1.0))):
        leaf = x.requires_grad_()
        assert gradcheck(Stiefel().project, leaf)
        assert gradgradcheck(Stiefel().project, leaf)


@pytest.mark.parametrize("shape", SHAPES)
def test_tangent_is_the_limit_of_projections(shape) -> None:
    x = Stiefel().project(perturbed(shape, 0.1))
    direction = torch.randn(shape, dtype=torch.float64)
    limit = (Stiefel().project(x + 1e-7 * direction) - x) / 1e-7
    torch.testing.assert_close(Stiefel().tangent(x, direction), limit, rtol=0, atol=1e-4)
    gradient = direction.clone()
    Stiefel().reduce_gradients_([x], [gradient], 0.01)
    torch.testing.assert_close(gradient, -Stiefel().tangent(x, -direction))


@pytest.mark.parametrize("kind", ["cayley", "householder", "matrix_exp"])
@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6), (1, 1), (2, 5, 3)])
def test_charts_reach_every_orthogonal_matrix(kind, shape) -> None:
    chart = Stiefel().chart(kind)
    eye = torch.eye(*shape[-2:], dtype=torch.float64).expand(shape)
    sampled = Stiefel().sample(shape).double()
    for member in (sampled, -sampled, eye, -eye, eye.flip(-1), eye.flip(-2), sampled.flip(-1)):
        member = Stiefel().project(member)
        latent = chart.right_inverse(member)
        assert latent.shape == member.shape
        torch.testing.assert_close(chart(latent), member, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["cayley", "householder", "matrix_exp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_charts_stay_orthonormal_far_out(kind, dtype) -> None:
    for shape in ((64, 64), (100, 20)):
        for scale in (0.1, 1.0, 30.0):
            latent = scale * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
            assert bool(Stiefel().contains(Stiefel().chart(kind)(latent)))


def test_samples_are_spread_evenly() -> None:
    samples = Stiefel().sample((4000, 3, 2), torch.Generator().manual_seed(0))
    assert float(samples.mean(0).abs().max()) < 0.04
    torch.testing.assert_close(samples.square().mean(0), torch.full((3, 2), 1 / 3), rtol=0, atol=0.03)


def test_linear_minimum_is_minus_the_sum_of_singular_values() -> None:
    gradient = perturbed((5, 3), 2.0)
    least = (gradient * Stiefel().lmo(gradient)).sum()
    torch.testing.assert_close(least, -Stiefel().support(gradient))
