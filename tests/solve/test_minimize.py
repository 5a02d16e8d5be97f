"""``minimize`` against known answers: smooth problems, kinks, sets, multipliers of convex solvers."""

from __future__ import annotations

import math

import cvxpy as cp
import numpy as np
import pytest
import torch

import feasible as fs

from .hock_schittkowski import HS, PROBLEMS
from .hock_schittkowski_hard import HARD

ROOT2 = math.sqrt(2)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def tensor(*entries: float) -> torch.Tensor:
    return torch.tensor(entries, dtype=torch.float64)


def check_optimal(result: fs.Result, optimum: float, tol: float = 1e-5) -> None:
    assert result.success, result.message
    assert abs(result.fun - optimum) <= tol * max(1.0, abs(optimum))
    assert result.maxcv <= 1e-6
    assert result.kkt.stationarity <= 1e-6
    assert result.kkt.complementarity <= 1e-6


@pytest.mark.parametrize("problem", [*PROBLEMS, *HARD], ids=str)
def test_hock_schittkowski(problem: HS) -> None:
    result = fs.minimize(problem.fun, problem.x0, problem.constraints)
    nearest = min((problem.optimum, problem.elsewhere or math.inf), key=lambda value: abs(value - result.fun))
    check_optimal(result, nearest)


@pytest.mark.parametrize("number", [6, 12, 14, 35, 39, 43, 71, 76, 100, 113])
def test_the_augmented_lagrangian_finds_them_too(number: int) -> None:
    problem = next(problem for problem in PROBLEMS if problem.number == number)
    result = fs.minimize(
        problem.fun, problem.x0, problem.constraints, method="augmented-lagrangian", max_iterations=5000
    )
    check_optimal(result, problem.optimum)


def test_a_cusp_has_no_multipliers() -> None:
    result = fs.minimize(
        lambda x: (x[0] - 2) ** 2 + x[1] ** 2,
        tensor(-2, -2),
        [(lambda x: (1 - x[0]) ** 3 - x[1], fs.NonNegative()), fs.NonNegative()],
    )
    assert result.status is fs.Status.NO_MULTIPLIERS
    assert not result.success
    assert result.maxcv <= 1e-6
    assert abs(result.x[0].item() - 1) < 1e-2


# -- multipliers ---------------------------------------------------------------------------------


def convex_data(seed: int, n: int = 6, m: int = 4, k: int = 2):
    torch.manual_seed(seed)
    root = randn(n, n)
    return (
        root @ root.mT + 0.1 * torch.eye(n).double(),
        randn(n),
        randn(m, n),
        randn(m).abs(),
        randn(k, n),
        randn(k),
    )


@pytest.mark.parametrize("method", ["auto", "sqp", "augmented-lagrangian"])
@pytest.mark.parametrize("seed", range(4))
def test_multipliers_of_a_quadratic_program_are_those_of_cvxpy(seed: int, method: str) -> None:
    P, q, G, h, A, b = convex_data(seed)
    result = fs.minimize(
        lambda x: 0.5 * x @ P @ x + q @ x,
        torch.zeros(6).double(),
        [(lambda x: G @ x - h, fs.Box(upper=0.0)), (lambda x: A @ x - b, fs.Equal(0.0)), fs.Box(-0.8, 0.8)],
        method=method,
        max_iterations=5000,
    )
    x = cp.Variable(6)
    rows = [G.numpy() @ x <= h.numpy(), A.numpy() @ x == b.numpy(), x >= -0.8, x <= 0.8]
    problem = cp.Problem(cp.Minimize(0.5 * cp.quad_form(x, cp.psd_wrap(P.numpy())) + q.numpy() @ x), rows)
    problem.solve(solver=cp.CLARABEL)
    if problem.status == "infeasible":
        assert result.status is fs.Status.INFEASIBLE
        return
    assert result.success, result.message
    expected = [rows[0].dual_value, rows[1].dual_value, rows[3].dual_value - rows[2].dual_value]
    np.testing.assert_allclose(result.x.numpy(), x.value, atol=1e-6)
    for multiplier, dual in zip(result.multipliers, expected, strict=True):
        np.testing.assert_allclose(multiplier.numpy(), dual, atol=1e-5 * max(1, np.abs(dual).max()))


@pytest.mark.parametrize("seed", range(4))
def test_multipliers_of_second_order_cones_are_those_of_cvxpy(seed: int) -> None:
    P, q, G, _, _, _ = convex_data(seed)
    shift = torch.cat([randn(3), tensor(1.0)])
    result = fs.minimize(
        lambda x: 0.5 * x @ P @ x + 5 * q @ x,
        torch.zeros(6).double(),
        [(lambda x: G @ x + shift, fs.SecondOrderCone()), fs.L2Ball(0.9)],
    )
    x = cp.Variable(6)
    value = G.numpy() @ x + shift.numpy()
    cone, ball = cp.SOC(value[3], value[:3]), cp.SOC(cp.Constant(0.9), x)
    problem = cp.Problem(
        cp.Minimize(0.5 * cp.quad_form(x, cp.psd_wrap(P.numpy())) + 5 * q.numpy() @ x), [cone, ball]
    )
    problem.solve(solver=cp.CLARABEL)
    if problem.status != "optimal":
        assert not result.success
        return
    assert result.success, result.message
    assert abs(result.fun - problem.value) <= 1e-6 * max(1, abs(problem.value))
    np.testing.assert_allclose(result.x.numpy(), x.value, atol=1e-4)
    cone_dual = -np.append(np.ravel(cone.dual_value[1]), cone.dual_value[0])
    np.testing.assert_allclose(
        result.multipliers[0].numpy(), cone_dual, atol=2e-4 * max(1, np.abs(cone_dual).max())
    )


@pytest.mark.parametrize("kind", ["quadratic", "linear", "degenerate"])
@pytest.mark.parametrize("seed", range(12))
def test_random_programs_end_as_clarabel_says(seed: int, kind: str) -> None:
    """Solved, infeasible or unbounded; degenerate: every row twice, whole numbers, dependent equations."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return drawn.round() if kind == "degenerate" else drawn

    n = 2 + seed % 7
    root, q, G, h = draw(n, n // 2), draw(n), draw(n + 3, n), draw(n + 3) + 0.7 * (seed % 3)
    A = draw(n // 3, n)
    b = A @ draw(n)
    if kind == "degenerate":
        G, h, A, b = G.repeat(2, 1), h.repeat(2), A.repeat(2, 1), b.repeat(2)
    curved = 0.0 if kind == "linear" else 1.0
    rows = [(lambda x: h - G @ x, fs.NonNegative()), (lambda x: A @ x - b, fs.Equal(0.0))]
    result = fs.minimize(
        lambda x: curved * 0.5 * ((root.mT @ x) ** 2).sum() + q @ x, torch.zeros(n).double(), rows
    )
    x = cp.Variable(n)
    objective = cp.Minimize(curved * 0.5 * cp.sum_squares(root.mT.numpy() @ x) + q.numpy() @ x)
    problem = cp.Problem(objective, [G.numpy() @ x <= h.numpy(), A.numpy() @ x == b.numpy()])
    problem.solve(solver=cp.CLARABEL)
    expected = {"optimal": "CONVERGED", "infeasible": "INFEASIBLE", "unbounded": "UNBOUNDED"}
    assert result.status.name == expected[problem.status], result.message
    if problem.status == "optimal":
        check_optimal(result, problem.value)


@pytest.mark.parametrize("method", ["auto", "augmented-lagrangian"])
@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_the_scale_of_a_constraint_does_not_move_the_solution(scale: float, method: str) -> None:
    result = fs.minimize(
        lambda x: ((x - 2) ** 2).sum(),
        torch.zeros(3).double(),
        [(lambda x: scale * (x.sum() - 1), fs.Equal(0.0))],
        method=method,
    )
    check_optimal(result, 25 / 3)


def test_signs() -> None:
    """Negative at lower bounds, positive at upper ones; ``∇f + Jᵀλ = 0``."""
    result = fs.minimize(
        lambda x: x[0] - 2 * x[1] + x[2] ** 2,
        tensor(0.5, 0.5, 0.5),
        [fs.Box(0, 1), (lambda x: x.sum(), fs.Box(upper=10.0))],
    )
    assert result.x.tolist() == pytest.approx([0, 1, 0], abs=1e-7)
    assert result.multipliers[0].tolist() == pytest.approx([-1, 2, 0], abs=1e-6)
    assert result.multipliers[1].item() == 0


SETS_ON_X = [
    fs.Simplex(),
    fs.SumTo(2.0),
    fs.HalfSpace(torch.ones(5), -1.0),
    fs.Affine(torch.ones(1, 5), torch.ones(1)),
    fs.Polyhedron(torch.eye(5), -torch.ones(5)),
    fs.Monotone(),
    fs.Monotone(increasing=False),
    fs.L1Ball(0.5),
    fs.L2Ball(0.5),
    fs.LInfBall(0.25),
    fs.SecondOrderCone(),
    fs.NonNegative() & fs.L2Ball(0.5),
    fs.Box(-0.1, 0.1).where(torch.tensor([True, False, True, False, True])),
    fs.Simplex().where(torch.tensor([True, False, True, False, True])),
]


@pytest.mark.parametrize("method", ["auto", "augmented-lagrangian"])
@pytest.mark.parametrize("set", SETS_ON_X, ids=repr)
def test_the_nearest_point_is_the_projection(set: fs.Set, method: str) -> None:
    target = randn(3, 5)
    for constraint in (set, (lambda x: x.clone(), set)):
        result = fs.minimize(
            lambda x: 0.5 * ((x - target) ** 2).sum(),
            0.3 * randn(3, 5),
            [constraint],
            method=method,
            max_iterations=5000,
        )
        assert result.success, result.message
        expected = set.bind(target).project(target)
        torch.testing.assert_close(result.x, expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(result.multipliers[0], target - expected, atol=1e-6, rtol=0)


MATRIX_SETS = [
    fs.PSD(),
    fs.PSD(0.5, 2.0),
    fs.Symmetric(),
    fs.SkewSymmetric(),
    fs.SpectralBall(0.5),
    fs.NuclearBall(0.5),
    fs.DoublyStochastic(),
]


@pytest.mark.parametrize("set", MATRIX_SETS, ids=repr)
def test_the_nearest_matrix_is_the_projection(set: fs.Set) -> None:
    target = randn(2, 3, 3)
    for constraint in (set, (lambda x: x + 0, set)):
        result = fs.minimize(
            lambda x: 0.5 * ((x - target) ** 2).sum(), torch.zeros(2, 3, 3).double(), [constraint]
        )
        assert result.success, result.message
        torch.testing.assert_close(result.x, set.bind(target).project(target), atol=2e-6, rtol=0)


def test_orthonormal_columns_span_the_leading_eigenvectors() -> None:
    A = randn(6, 6)
    A = A + A.mT
    result = fs.minimize(lambda X: -(X * (A @ X)).sum(), torch.linalg.qr(randn(6, 2)).Q, [fs.Stiefel()])
    check_optimal(result, -torch.linalg.eigvalsh(A)[-2:].sum().item(), 1e-7)


def test_the_sphere_of_pygranso() -> None:
    torch.manual_seed(0)
    A = torch.randn(300, 300).double()
    A = (A + A.mT) / 2
    x0 = torch.nn.functional.normalize(randn(300), dim=0)
    for constraint in (fs.Sphere(1.0), (lambda x: x @ x - 1, fs.Equal(0.0))):
        check_optimal(fs.minimize(lambda x: -x @ (A @ x), x0, [constraint]), -24.285922, 1e-7)


# -- kinks ---------------------------------------------------------------------------------------


def nonsmooth_rosenbrock(x: torch.Tensor) -> torch.Tensor:
    return 8 * (x[0] ** 2 - x[1]).abs() + (1 - x[0]) ** 2


KINKED = {
    "one max": (lambda x: torch.maximum(ROOT2 * x[0], 2 * x[1]), fs.Box(upper=1.0)),
    "two rows": (lambda x: torch.stack([ROOT2 * x[0], 2 * x[1]]), fs.Box(upper=1.0)),
}


@pytest.mark.parametrize("start", [(0.5, 0.5), (-1.2, 1.0), (1.0, 1.0), (0.0, 0.0), (3.0, 2.0)], ids=str)
@pytest.mark.parametrize("kind", KINKED)
@pytest.mark.parametrize("method", ["auto", "nonsmooth"])
def test_the_nonsmooth_rosenbrock_function(kind: str, start: tuple[float, float], method: str) -> None:
    result = fs.minimize(nonsmooth_rosenbrock, tensor(*start), [KINKED[kind]], method=method)
    check_optimal(result, 0.0857864376, 1e-6)


def test_the_largest_eigenvalue() -> None:
    """min λ_max(A + Diag(x)) with Σx = 0, an eigenvalue problem whose solution is a kink; cvxpy's answer."""
    A = randn(5, 5)
    A = A + A.mT
    result = fs.minimize(
        lambda x: torch.linalg.eigvalsh(A + torch.diag(x))[-1], torch.zeros(5).double(), [fs.SumTo(0.0)]
    )
    x = cp.Variable(5)
    problem = cp.Problem(cp.Minimize(cp.lambda_max(A.numpy() + cp.diag(x))), [cp.sum(x) == 0])
    problem.solve(solver=cp.CLARABEL)
    check_optimal(result, problem.value, 1e-6)


def test_least_absolute_deviations() -> None:
    A, b = randn(30, 4), randn(30)
    result = fs.minimize(lambda x: (A @ x - b).abs().sum(), torch.zeros(4).double())
    x = cp.Variable(4)
    problem = cp.Problem(cp.Minimize(cp.norm1(A.numpy() @ x - b.numpy())))
    problem.solve(solver=cp.CLARABEL)
    check_optimal(result, problem.value, 1e-6)


# -- bounds --------------------------------------------------------------------------------------


def test_nonnegative_least_squares() -> None:
    from scipy.optimize import nnls

    A, b = randn(80, 50), randn(80)
    result = fs.minimize(lambda x: ((A @ x - b) ** 2).sum() / 2, torch.zeros(50).double(), [fs.NonNegative()])
    assert result.success
    assert result.method == "projected"
    np.testing.assert_allclose(result.x.numpy(), nnls(A.numpy(), b.numpy())[0], atol=1e-7)
    gradient = A.mT @ (A @ result.x - b)
    torch.testing.assert_close(result.multipliers[0], -gradient.clamp_min(0), atol=1e-6, rtol=0)


def test_two_sets_of_bounds_share_the_multiplier() -> None:
    result = fs.minimize(
        lambda x: x.sum(), tensor(3.0, 3.0), [fs.Box(tensor(0.0, 1.0)), fs.Box(tensor(0.5, 0.0))]
    )
    assert result.x.tolist() == [0.5, 1.0]
    assert result.multipliers[0].tolist() == [0.0, -1.0]
    assert result.multipliers[1].tolist() == [-1.0, 0.0]
