"""Eigenvalues and singular values: repeated ones, tangent cones, an independent solver."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from feasible import PSD, LowRank, NuclearBall, Set, SpectralBall
from feasible.sets.spectral_values import eigenvalues, singular_values

from .references import Constraints, matrix_solver

SPECTRA = ([2.0, 2, -1, -1], [1.0, 1, 1], [-1.0, -1], [0.3, 0, 0])


def orthogonal(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    factor: Tensor = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    return factor


def symmetric(spectrum: list[float], rotate: bool = True) -> Tensor:
    values = torch.tensor(spectrum, dtype=torch.float64)
    basis = orthogonal(len(spectrum)) if rotate else torch.eye(len(spectrum), dtype=torch.float64)
    x = (basis * values) @ basis.T
    return (x + x.T) / 2


def tall(spectrum: list[float]) -> Tensor:
    """A matrix with these singular values and one row more than columns."""
    values = torch.tensor(spectrum, dtype=torch.float64).abs()
    return (orthogonal(len(spectrum) + 1)[:, :-1] * values) @ orthogonal(len(spectrum), seed=1)


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("rotate", [True, False], ids=["rotated", "diagonal"])
def test_eigenvalue_functions_are_differentiable_where_eigenvalues_repeat(spectrum, rotate) -> None:
    x = symmetric([value + 0.05 for value in spectrum], rotate).requires_grad_()
    for set in (PSD(), PSD(-2, 1.5), PSD(-9, 9)):
        assert gradcheck(set.project, x)
        assert gradgradcheck(set.project, x)
    assert gradcheck(PSD(-3, 4).barrier, x)
    assert gradgradcheck(PSD(-3, 4).barrier, x)


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("transpose", [False, True], ids=["tall", "wide"])
def test_singular_value_functions_are_differentiable_where_singular_values_repeat(
    spectrum, transpose
) -> None:
    x = tall([value + 0.05 for value in spectrum])
    x = (x.T.contiguous() if transpose else x).requires_grad_()
    for set in (SpectralBall(0.7), SpectralBall(9), NuclearBall(1.6), NuclearBall(99)):
        assert gradcheck(set.project, x)
        assert gradgradcheck(set.project, x)
    assert gradcheck(SpectralBall(4).barrier, x)
    assert gradgradcheck(SpectralBall(4).barrier, x)


def test_no_third_derivative_is_made_up() -> None:
    x = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    first = torch.autograd.grad(PSD().project(x).pow(3).sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.pow(2).sum(), x, create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="no third derivative"):
        second.sum().backward()


@pytest.mark.parametrize(
    ("set", "start"),
    [
        (PSD(), symmetric([2.0, 1, 0, 0, 0])),
        (PSD(-1, 1), symmetric([1.0, 1, 0.5, -1, -1])),
        (PSD(-1, 1), symmetric([1.0, 1, 1, 1, 1])),
        (SpectralBall(1.0), tall([1.0, 1, 1, 0.5, 0])),
        (SpectralBall(1.0), tall([1.0, 1, 1, 1, 1]).T.contiguous()),
        (NuclearBall(2.0), tall([1.5, 0.5, 0, 0, 0])),
        (NuclearBall(2.0), tall([0.4, 0.4, 0.4, 0.4, 0.4]).T.contiguous()),
        (NuclearBall(2.0), tall([0.1, 0.1, 0, 0, 0])),
        (LowRank(2), tall([3.0, 2, 0, 0, 0])),
        (LowRank(3), tall([3.0, 0, 0, 0, 0])),
        (LowRank(2), tall([0.0, 0, 0, 0, 0])),
    ],
    ids=repr,
)
def test_tangent_is_the_limit_of_projections(set: Set, start: Tensor) -> None:
    x = set.project(start)
    for seed in range(3):
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        limit = (set.project(x + 1e-7 * direction) - x) / 1e-7
        torch.testing.assert_close(set.tangent(x, direction), limit, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("set", "shape", "constraints"),
    [
        (PSD(), (4, 4), lambda p: [p == p.T, p >> 0]),
        (PSD(0.2), (4, 4), lambda p: [p == p.T, p - 0.2 * np.eye(4) >> 0]),
        (PSD(0.2, 1), (4, 4), lambda p: [p == p.T, p - 0.2 * np.eye(4) >> 0, np.eye(4) - p >> 0]),
        (SpectralBall(1.0), (4, 3), lambda p: [cp.sigma_max(p) <= 1]),
        (NuclearBall(2.0), (3, 5), lambda p: [cp.normNuc(p) <= 2]),
    ],
    ids=lambda value: None if callable(value) else repr(value),
)
def test_agrees_with_a_semidefinite_solver(
    set: Set, shape: tuple[int, int], constraints: Constraints
) -> None:
    for seed in range(3):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        expected = matrix_solver(constraints)(x)
        torch.testing.assert_close(set.project(x), expected, rtol=0, atol=3e-5)


def test_the_barrier_is_minus_log_det() -> None:
    x = PSD(0.1).sample((5, 5)).double() + 0.1 * torch.eye(5)
    expected = -torch.logdet(x - 0.1 * torch.eye(5))
    torch.testing.assert_close(PSD(0.1).barrier(x), expected)


def test_the_barrier_grows_towards_the_boundary() -> None:
    x = symmetric([2.0, 1, -1, -1, -3])
    heights = [float(PSD().barrier(PSD().interior(x, margin))) for margin in (1e-1, 1e-3, 1e-6)]
    assert heights == sorted(heights)
    assert PSD().barrier(x) == torch.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_matrices_stay_members(dtype) -> None:
    x = torch.randn(256, 2, dtype=dtype) @ torch.randn(2, 256, dtype=dtype)
    for set in (PSD(), SpectralBall(3.0), NuclearBall(5.0), LowRank(1)):
        projected = set.project(x)
        assert bool(set.contains(projected))
        assert torch.equal(set.project(projected), projected)


def test_projections_work_under_vmap_of_jacobians() -> None:
    batch = torch.randn(3, 4, 3, dtype=torch.float64)
    for set in (SpectralBall(0.5), NuclearBall(1.0), LowRank(2)):
        mapped = torch.func.vmap(torch.func.jacrev(set.project))(batch)
        looped = torch.stack([torch.autograd.functional.jacobian(set.project, x) for x in batch])
        torch.testing.assert_close(mapped, looped)


def test_the_cholesky_chart_starts_at_the_matrix() -> None:
    x = PSD(0.5).sample((2, 4, 4)).double()
    chart = PSD(0.5).chart("cholesky")
    latent = chart.right_inverse(x)
    assert torch.equal(latent, latent.tril())
    assert bool((chart(latent) - x).abs().max() < 1e-3)


def test_values_that_are_not_finite_are_nan() -> None:
    x = torch.eye(3).repeat(3, 1, 1)
    x[0, 0, 1], x[1, 2, 2] = torch.nan, torch.inf
    for values in (eigenvalues(x), singular_values(x)):
        assert values.isnan().all(-1).tolist() == [True, True, False]
