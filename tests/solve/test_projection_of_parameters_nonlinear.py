"""Constraints that bend: the least move against SLSQP, products alone, Adam, and a differential equation."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import nn

import feasible as fs

X = torch.linspace(-1, 1, 3, dtype=torch.float64)[:, None]
Y = torch.tensor([[0.6], [0.1], [-0.3]], dtype=torch.float64)


def network(seed: int = 1, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1)).double()


def values(model: nn.Module) -> torch.Tensor:
    return model(X)


def equations(v: np.ndarray) -> np.ndarray:
    return v - Y[:, 0].numpy()


CASES = {
    "equal": (fs.Equal(Y), [("eq", equations)]),
    "box": (fs.Box(0.3, 0.5), [("ineq", lambda v: v - 0.3), ("ineq", lambda v: 0.5 - v)]),
    "simplex": (fs.Simplex(dim=0), [("ineq", lambda v: v), ("eq", lambda v: v.sum() - 1)]),
    "ball": (fs.L2Ball(0.1, dim=0), [("ineq", lambda v: 0.01 - v @ v)]),
    "sphere": (fs.Sphere(1.2, dim=0), [("eq", lambda v: v @ v - 1.44)]),
}


def slsqp(model: nn.Module, conditions: list, points: torch.Tensor | None) -> float:
    """The least cost that several starts find."""
    twin = copy.deepcopy(model)
    start = nn.utils.parameters_to_vector(model.parameters()).detach().numpy()

    def put(theta: np.ndarray, x: torch.Tensor) -> np.ndarray:
        nn.utils.vector_to_parameters(torch.from_numpy(theta.copy()), twin.parameters())
        with torch.no_grad():
            return twin(x)[:, 0].numpy()

    before = None if points is None else put(start, points).copy()

    def cost(theta: np.ndarray) -> float:
        change = theta - start if points is None else put(theta, points) - before
        return float(change @ change) / 2

    rows = [
        {"type": kind, "fun": lambda theta, g=g: np.atleast_1d(g(put(theta, X)))} for kind, g in conditions
    ]
    best = math.inf
    for seed in range(3):
        noise = 0.2 * np.random.RandomState(seed).randn(len(start)) * (seed > 0)
        found = optimize.minimize(
            cost, start + noise, constraints=rows, method="SLSQP", options={"maxiter": 500, "ftol": 1e-14}
        )
        if found.success:
            best = min(best, found.fun)
    return best


@pytest.mark.filterwarnings("ignore:project_parameters. the outputs' root mean square fell")
@pytest.mark.parametrize("name", CASES)
def test_the_least_move_against_slsqp(name: str) -> None:
    wanted, conditions = CASES[name]
    model = network()
    expected = slsqp(model, conditions, None)
    result = fs.project_parameters(model, [(values, wanted)], max_iterations=300)
    assert result.success
    assert not result.is_affine
    assert wanted.distance(model(X).detach()).max() < 1e-7
    assert result.fun == pytest.approx(expected, rel=1e-5)
    assert result.status is fs.Status.CONVERGED


def test_the_least_change_of_outputs_against_slsqp() -> None:
    points = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    options = {"metric": "outputs", "points": points, "max_iterations": 300}
    expected = slsqp(network(), CASES["equal"][1], points)
    result = fs.project_parameters(network(), [(values, CASES["equal"][0])], **options)
    assert result.success
    assert math.isfinite(expected)
    assert result.fun <= 1.01 * expected
    parameters = fs.project_parameters(network(), [(values, CASES["equal"][0])], points=points)
    assert result.output_change < parameters.output_change
    result = fs.project_parameters(network(), [(values, CASES["box"][0])], **options)
    other = fs.project_parameters(network(), [(values, CASES["box"][0])], points=points)
    assert result.success
    assert result.output_change < other.output_change


def test_a_feasible_model_keeps_its_bits() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    result = fs.project_parameters(model, [(values, fs.Box(-50.0, 50.0))])
    assert (result.success, result.nit, result.relative_move) == (True, 0, 0.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_cannot_hold_is_never_worse() -> None:
    model = network()
    before = values(model).detach()
    result = fs.project_parameters(model, [(lambda m: torch.tanh(m(X)), fs.Equal(2.0))], max_iterations=30)
    assert not result.success
    assert result.residual[1] <= result.residual[0]
    assert values(model).isfinite().all()
    stuck = network()
    result = fs.project_parameters(stuck, [(values, fs.Equal(9.0))], max_iterations=0)
    assert (result.success, result.status) == (False, fs.Status.ITERATION_LIMIT)
    assert torch.equal(values(stuck), before)


@pytest.mark.parametrize("is_affine", [True, False], ids=["affine", "bent"])
def test_products_alone_lead_there_too(is_affine: bool) -> None:
    names = "2.*" if is_affine else "*"
    dense, free = network(width=16), network(width=16)
    constraints = [(values, fs.Equal(Y)), (lambda m: m(X + 0.5), fs.Box(lower=-0.1))]
    first = fs.project_parameters(dense, constraints, names)
    second = fs.project_parameters(free, constraints, names, method="matrix-free")
    assert first.success
    assert second.success
    assert second.maxcv < 1e-8
    assert second.relative_move <= 1.5 * first.relative_move
    if is_affine:
        equal = network(width=16), network(width=16)
        for model, method in zip(equal, ("dense", "matrix-free"), strict=True):
            fs.project_parameters(model, [(values, fs.Equal(Y))], names, method=method)
        assert torch.allclose(equal[0][2].weight, equal[1][2].weight, atol=1e-7)


def test_the_study_s_own_way_is_adam() -> None:
    model, twin = network(), network()
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-3)
    for _ in range(50):
        optimizer.zero_grad()
        (twin(X) - Y).square().mean().backward()
        optimizer.step()
    result = fs.project_parameters(model, [(values, fs.Equal(Y))], method="adam", max_iterations=50)
    assert (result.method, result.nit, result.success) == ("adam", 50, False)
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-12)


def helmholtz(count: int) -> list:
    """Rows of u″ + k² u = f on [0, 1] for (1 + x) sin kx + x², with u(0) and u′(1)."""
    k = 4 * math.pi
    x = torch.linspace(0, 1, count, dtype=torch.float64)[:, None]
    f = 2 * k * torch.cos(k * x) + 2 + k**2 * x**2

    def derivatives(model: nn.Module, at: torch.Tensor) -> tuple:
        at = at.clone().requires_grad_()
        u = model(at)
        (slope,) = torch.autograd.grad(u.sum(), at, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), at, create_graph=True)
        return u, slope, bend

    def residual(model: nn.Module) -> torch.Tensor:
        u, _, bend = derivatives(model, x)
        return (bend + k**2 * u - f) / k**2 / math.sqrt(count)

    return [
        (residual, fs.Equal(0.0)),
        (lambda model: model(x[:1]), fs.Equal(0.0)),
        (lambda model: derivatives(model, x[-1:])[1] / k, fs.Equal(2 + 2 / k)),
    ]


def true(x: torch.Tensor) -> torch.Tensor:
    return (1 + x) * torch.sin(4 * math.pi * x) + x**2


def relative_error(model: nn.Module) -> float:
    x = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        return float((model(x) - true(x)).norm() / true(x).norm())


def test_a_linear_equation_is_one_solve_for_the_last_layer() -> None:
    model = network(0, 128)
    with torch.no_grad():
        model[0].weight.uniform_(-12, 12)
        model[0].bias.copy_(-model[0].weight[:, 0] * torch.rand(128))
    result = fs.project_parameters(model, helmholtz(200), "2.*")
    assert result.is_affine
    assert result.nit == 1
    assert relative_error(model) < 2e-11


@pytest.mark.slow
def test_a_trained_network_comes_down_by_four_decades() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
    ).double()
    x = torch.linspace(0, 1, 200, dtype=torch.float64)[:, None]
    with torch.no_grad():
        model[0].weight.mul_(5)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(2000):
        optimizer.zero_grad()
        (model(x) - true(x)).square().mean().backward()
        optimizer.step()
    before = relative_error(model)
    result = fs.project_parameters(model, helmholtz(200), tol=2e-6, max_iterations=150)
    assert result.residual[1] < 1e-4 * result.residual[0]
    assert relative_error(model) < 1e-3 * before
