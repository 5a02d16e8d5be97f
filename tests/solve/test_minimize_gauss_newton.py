"""``minimize`` on residual vectors: least squares under bounds, equations and inequalities, against known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import nn

import feasible as fs
from feasible import pde

WAVE = 4 * math.pi


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def tensor(*entries: float) -> torch.Tensor:
    return torch.tensor(entries, dtype=torch.float64)


def close(actual: torch.Tensor, expected: object, atol: float = 1e-6) -> None:
    np.testing.assert_allclose(actual.detach().double().numpy(), np.asarray(expected), atol=atol)


A, B = randn(20, 6), randn(20, seed=1)
C, E = randn(3, 6, seed=2), randn(3, seed=3)


def line(x: torch.Tensor) -> torch.Tensor:
    return A @ x - B


def rows(x: torch.Tensor) -> torch.Tensor:
    return C @ x - E


def with_equations() -> tuple[np.ndarray, np.ndarray]:
    """``min ½‖Ax − b‖²`` subject to ``Cx = e``: the solution of its KKT system."""
    kkt = np.block([[(A.mT @ A).numpy(), C.mT.numpy()], [C.numpy(), np.zeros((3, 3))]])
    solution = np.linalg.solve(kkt, np.concatenate([(A.mT @ B).numpy(), E.numpy()]))
    return solution[:6], solution[6:]


def beale(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([y - x[0] * (1 - x[1] ** n) for n, y in ((1, 1.5), (2, 2.25), (3, 2.625))])


def rosenbrock(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


TIMES = torch.linspace(0, 3, 25, dtype=torch.float64)
DECAY = 2 * torch.exp(-1.3 * TIMES) + 0.5 + 0.05 * randn(25, seed=4)


def decay(x: torch.Tensor) -> torch.Tensor:
    return x[0] * torch.exp(-x[1] * TIMES) + x[2] - DECAY


# -- without constraints, and under bounds ---------------------------------------------------------

FITS = {
    "linear": (line, torch.zeros(6).double(), None),
    "linear in a box": (line, torch.zeros(6).double(), (-0.1, 0.1)),
    "linear above a bound": (line, 0.1 * torch.ones(6).double(), (0.05, math.inf)),
    "beale": (beale, tensor(1, 1), None),
    "beale below a bound": (beale, tensor(0.3, 0.2), (-math.inf, 0.4)),
    "rosenbrock": (rosenbrock, tensor(-1.2, 1), None),
    "rosenbrock in a box": (rosenbrock, tensor(-0.5, 0.3), (-1.0, 0.5)),
    "decay": (decay, tensor(1, 1, 0), None),
    "decay in a box": (decay, tensor(1, 1, 0), (0.0, 1.2)),
}


@pytest.mark.parametrize("name", FITS)
def test_fits_are_those_of_scipy(name: str) -> None:
    fun, x0, bounds = FITS[name]
    given = {} if bounds is None else {"bounds": bounds}
    expected = scipy.optimize.least_squares(
        lambda x: fun(torch.from_numpy(x)).numpy(), x0.numpy(), xtol=1e-15, ftol=1e-15, gtol=1e-12, **given
    )
    result = fs.minimize(fun, x0, [] if bounds is None else [fs.Box(*bounds)])
    assert result.success, result.message
    assert result.method == "gauss-newton"
    assert result.fun == pytest.approx(expected.cost, abs=1e-9)
    close(result.x, expected.x, 2e-5)
    if bounds is not None:
        gradient = expected.jac.T @ expected.fun
        held = (expected.x < bounds[0] + 1e-6) | (expected.x > bounds[1] - 1e-6)
        close(result.multipliers[0], np.where(held, -gradient, 0.0), 1e-4)


# -- equations and inequalities --------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "gauss-newton"])
def test_linear_equations_give_the_solution_of_the_kkt_system(method: str) -> None:
    result = fs.minimize(line, torch.zeros(6).double(), [(rows, fs.Equal(0.0))], method=method)
    x, multipliers = with_equations()
    assert result.success, result.message
    close(result.x, x)
    close(result.multipliers[0], multipliers)
    assert result.fun == pytest.approx(float(0.5 * line(torch.from_numpy(x)).square().sum()), abs=1e-6)
    assert (result.kkt.active, result.kkt.rank) == (3, 3)


def test_rows_that_are_given_twice_are_told_and_no_trouble() -> None:
    result = fs.minimize(
        line, torch.zeros(6).double(), [(lambda x: torch.cat([rows(x), 2 * rows(x)]), fs.Equal(0.0))]
    )
    x, multipliers = with_equations()
    assert result.success, result.message
    close(result.x, x)
    first, second = result.multipliers[0].chunk(2)
    close(first + 2 * second, multipliers)
    assert (result.kkt.active, result.kkt.rank) == (6, 3)
    assert "rank 3" in result.message


def test_scales_of_rows_do_not_matter() -> None:
    result = fs.minimize(
        line,
        torch.zeros(6).double(),
        [(lambda x: 1e3 * rows(x)[:1], fs.Equal(0.0)), (lambda x: 1e-3 * rows(x)[1:], fs.Equal(0.0))],
        tol=1e-9,
    )
    x, multipliers = with_equations()
    assert result.success, result.message
    close(result.x, x, 1e-5)
    close(result.multipliers[0] * 1e3, multipliers[:1], 1e-5)
    close(result.multipliers[1] * 1e-3, multipliers[1:], 1e-5)


SETS = {
    "inequalities": (fs.NonNegative(), lambda v: v, "ineq"),
    "a ball": (fs.L2Ball(0.3), lambda v: [0.09 - v @ v], "ineq"),
    "a sphere": (fs.Sphere(0.3), lambda v: [0.09 - v @ v], "eq"),
    "a sum": (fs.SumTo(1.0), lambda v: [v.sum() - 1], "eq"),
    "a half space": (fs.HalfSpace(tensor(1, 2, 3), -1.0), lambda v: [-1 - v @ [1, 2, 3]], "ineq"),
}


@pytest.mark.parametrize("name", SETS)
def test_sets_of_a_function_as_slsqp_finds_them(name: str) -> None:
    set, condition, kind = SETS[name]
    result = fs.minimize(line, 0.1 * torch.ones(6).double(), [(rows, set), fs.Box(-0.6, 0.6)])
    expected = scipy.optimize.minimize(
        lambda x: 0.5 * np.sum((A.numpy() @ x - B.numpy()) ** 2),
        0.1 * np.ones(6),
        bounds=[(-0.6, 0.6)] * 6,
        constraints={"type": kind, "fun": lambda x: np.asarray(condition(C.numpy() @ x - E.numpy()))},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert expected.success
    assert result.success, result.message
    assert result.fun == pytest.approx(expected.fun, abs=1e-6)
    close(result.x, expected.x, 1e-4)
    assert result.maxcv <= 1e-7
    assert result.kkt.complementarity <= 1e-7


def circle(x: torch.Tensor) -> torch.Tensor:
    angle = torch.linspace(0, 2, 15, dtype=torch.float64)
    points = torch.stack([2 + 1.5 * angle.cos(), 1 + 1.5 * angle.sin()], 1) + 0.05 * randn(15, 2, seed=5)
    return (points - x[:2]).norm(dim=1) - x[2]


def test_a_circle_through_the_origin_as_slsqp_finds_it() -> None:
    """Nonlinear rows on both sides: distances to a circle, which has to pass through 0."""
    result = fs.minimize(
        circle, tensor(1, 1, 1), [(lambda x: x[0] ** 2 + x[1] ** 2 - x[2] ** 2, fs.Equal(0.0))]
    )
    expected = scipy.optimize.minimize(
        lambda x: 0.5 * circle(torch.from_numpy(x)).square().sum().item(),
        np.ones(3),
        constraints={"type": "eq", "fun": lambda x: x[0] ** 2 + x[1] ** 2 - x[2] ** 2},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    assert result.success, result.message
    close(result.x, expected.x, 1e-4)
    assert result.fun == pytest.approx(expected.fun, abs=1e-8)


def test_multipliers_are_shadow_prices() -> None:
    def fun(shift: float) -> fs.Result:
        return fs.minimize(circle, tensor(1, 1, 1), [(lambda x: x[0] * x[1] - shift, fs.Box(upper=0.0))])

    lower, middle, upper = fun(1.0 - 1e-3), fun(1.0), fun(1.0 + 1e-3)
    assert middle.success, middle.message
    assert middle.multipliers[0] > 0.01
    assert (lower.fun - upper.fun) / 2e-3 == pytest.approx(middle.multipliers[0].item(), rel=1e-3)


@pytest.mark.parametrize(
    "constraints",
    [
        [(lambda x: torch.stack([x[0], x[0] - 1]), fs.Equal(0.0))],
        [(lambda x: x.square().sum() + 1, fs.Box(upper=0.0))],
        [(lambda x: x[:2].sum(), fs.Box(3.0)), fs.Box(-1.0, 1.0)],
        [(lambda x: x[0] - 1, fs.NonNegative()), (lambda x: x[0] + 1, fs.Box(upper=0.0))],
    ],
    ids=["equations", "curved", "bounds", "inequalities"],
)
def test_conflicts_are_told(constraints: list) -> None:
    result = fs.minimize(line, 0.3 * torch.ones(6).double(), constraints)
    assert result.status is fs.Status.INFEASIBLE
    assert not result.success
    assert result.maxcv > 0.1
    assert "stays" in result.message


# -- forms of x0, dtypes, bookkeeping --------------------------------------------------------------


def test_a_list_of_tensors() -> None:
    def fun(x: list) -> torch.Tensor:
        return line(torch.cat([x[0].reshape(-1), x[1]]))

    x0 = [torch.zeros(2, 2).double(), torch.zeros(2).double()]
    result = fs.minimize(fun, x0, [(0, fs.NonNegative()), (lambda x: x[0].sum() - x[1].sum(), fs.Equal(0.5))])
    expected = scipy.optimize.minimize(
        lambda x: 0.5 * np.sum((A.numpy() @ x - B.numpy()) ** 2),
        np.zeros(6),
        bounds=[(0, None)] * 4 + [(None, None)] * 2,
        constraints={"type": "eq", "fun": lambda x: x[:4].sum() - x[4:].sum() - 0.5},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    assert result.success, result.message
    close(torch.cat([part.reshape(-1) for part in result.x]), expected.x, 1e-5)
    assert not any(part.any() for part in x0)
    assert [each.shape for each in result.multipliers] == [(2, 2), ()]


def network(seed: int = 0, width: int = 8) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1)).double()


@pytest.mark.parametrize("takes_module", [True, False], ids=["of the module", "of nothing"])
def test_a_module_is_fitted_in_place(takes_module: bool) -> None:
    model = network()
    x = torch.linspace(-1, 1, 15, dtype=torch.float64)[:, None]
    ends = tensor(-1, 1)[:, None]
    fun = (lambda m: m(x) - x**2) if takes_module else (lambda: model(x) - x**2)
    condition = (lambda m: m(ends).sum()) if takes_module else (lambda: model(ends).sum())
    # 15 rows of shape (15, 1), two values that the data contradict
    result = fs.minimize(fun, model, [(condition, fs.Equal(1.0)), ("2.weight", fs.Box(-2, 2))], tol=1e-5)
    assert result.success, result.message
    assert result.x is model
    assert model(ends).sum().item() == pytest.approx(1.0, abs=2e-5)
    assert model[2].weight.abs().max() <= 2
    assert result.multipliers[1].shape == (1, 8)
    residual = (model(x) - x**2).detach()
    assert result.fun == pytest.approx(float(0.5 * residual.square().sum()), rel=1e-12)
    gradient = torch.autograd.grad(
        0.5 * (model(x) - x**2).square().sum() + result.multipliers[0] * model(ends).sum(), model[0].weight
    )
    assert gradient[0].abs().max() < 1e-4


def test_single_precision_says_what_is_reachable() -> None:
    x0 = torch.zeros(6)
    with pytest.warns(UserWarning, match="float32"):
        result = fs.minimize(
            lambda x: A.float() @ x - B.float(), x0, [(lambda x: C.float() @ x - E.float(), fs.Equal(0.0))]
        )
    x, multipliers = with_equations()
    assert result.success, result.message
    assert result.x.dtype == result.multipliers[0].dtype == torch.float32
    close(result.x, x, 1e-4)
    close(result.multipliers[0], multipliers, 1e-3)


def test_a_function_may_return_its_argument() -> None:
    result = fs.minimize(lambda x: x, tensor(3, 4), [(lambda x: x, fs.SumTo(1.0))])
    close(result.x, [0.5, 0.5])
    close(result.multipliers[0], [-0.5, -0.5])


def test_functions_may_differentiate_by_their_inputs() -> None:
    """Derivatives by ``autograd.grad`` inside a residual need grad mode wherever it is evaluated."""
    points = torch.linspace(0, 1, 12, dtype=torch.float64)[:, None]

    def slope(model: nn.Module) -> torch.Tensor:
        x = points.clone().requires_grad_()
        return torch.autograd.grad(model(x).sum(), x, create_graph=True)[0]

    model = network(1)
    result = fs.minimize(
        lambda m: slope(m) - 2 * points, model, [(lambda m: m(points[:1]), fs.Equal(1.0))], tol=1e-5
    )
    assert result.success, result.message
    close(model(points), 1 + points**2, 1e-2)


def test_points_are_counted() -> None:
    calls = []

    def fun(x: torch.Tensor) -> torch.Tensor:
        calls.append(x.detach().clone())
        return rosenbrock(x)

    seen: list[fs.Intermediate] = []
    result = fs.minimize(fun, tensor(-1.2, 1), callback=seen.append)
    assert result.nit == len(seen) - 1
    different = {tuple(call.tolist()) for call in calls}
    assert len(different) <= result.nfev <= len(different) + 2
    assert result.njev <= result.nit + 2


def test_two_runs_agree_to_the_bit() -> None:
    first, second = (fs.minimize(line, torch.zeros(6).double(), [(rows, fs.NonNegative())]) for _ in range(2))
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.multipliers[0], second.multipliers[0])


def test_the_limit_on_iterations() -> None:
    result = fs.minimize(rosenbrock, tensor(-1.2, 1), max_iterations=3)
    assert result.status is fs.Status.ITERATION_LIMIT
    assert result.nit == 3


def test_nan_on_the_way_is_backed_out_of() -> None:
    result = fs.minimize(lambda x: torch.log(x) - tensor(-3, 2), tensor(20, 1e-3))
    assert result.success, result.message
    close(result.x, np.exp([-3.0, 2.0]), 1e-5)


def test_noise_is_no_solution() -> None:
    torch.manual_seed(0)
    result = fs.minimize(lambda x: line(x) + 0.1 * torch.randn(20).double(), torch.zeros(6).double())
    assert not result.success
    assert "random numbers" in result.message


# -- bad input -------------------------------------------------------------------------------------


def shrinking() -> object:
    sizes = iter([20, 20, 19, 19])
    return lambda x: line(x)[: next(sizes, 19)]


BAD = {
    "vector for another method": (line, [], "sqp", ValueError, r"shape \(20,\)[\s\S]*gauss-newton"),
    "a number": (lambda x: line(x).square().sum(), [], "gauss-newton", ValueError, "needs the residuals"),
    "nothing": (lambda x: line(x)[:0], [], "gauss-newton", ValueError, r"shape \(0,\)"),
    "another size": (shrinking(), [], "auto", ValueError, "gave 20 numbers at x0, and 19"),
    "a set with kinks": (
        line,
        [(lambda x: x, fs.L1Ball(1.0))],
        "auto",
        fs.UnsupportedError,
        "augmented-lagrangian",
    ),
    "discrete": (line, [fs.FiniteSet([0, 1])], "auto", fs.UnsupportedError, "exhaustive_search"),
    "no gradient": (lambda x: line(x.detach()), [], "auto", ValueError, "fun has no gradient"),
    "nan": (lambda x: torch.log(x - 1), [], "auto", ValueError, "fun is nan"),
}


def test_a_matrix_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feasible.solve.minimization.methods.LARGEST", 100)
    with pytest.raises(fs.UnsupportedError, match="20 × 6 numbers"):
        fs.minimize(line, torch.zeros(6).double())


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    fun, constraints, method, error, message = BAD[case]
    with pytest.raises(error, match=message):
        fs.minimize(fun, torch.zeros(6).double(), constraints, method=method)


# -- equations of differential equations -----------------------------------------------------------


def solution(x: torch.Tensor) -> torch.Tensor:
    return (1 + x) * torch.sin(WAVE * x) + x**2


def helmholtz(points: int) -> pde.System:
    space = pde.Interval(0, 1)
    equation = pde.Helmholtz(k=WAVE, source=lambda x: 2 * WAVE * torch.cos(WAVE * x) + 2 + (WAVE * x) ** 2)
    ends = [pde.Dirichlet(space, "left", 0.0), pde.Neumann(space, "right", 2 * WAVE + 2)]
    return pde.System(
        equation, space, ends, points=torch.linspace(0, 1, points, dtype=torch.float64)[:, None]
    )


def tanh_network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
    return nn.Sequential(*layers).double()


@pytest.mark.slow
def test_a_network_fits_data_and_obeys_helmholtz() -> None:
    """202 rows, of whose slopes about 45 are independent to 1e-8: multipliers are not unique, the function is."""
    model = tanh_network(0)
    x = torch.linspace(0.02, 0.98, 30, dtype=torch.float64)[:, None]
    result = fs.minimize(lambda m: m(x) - solution(x), model, [(helmholtz(200), fs.Equal(0.0))], tol=1e-5)
    assert result.success, result.message
    assert result.maxcv <= 1e-5
    assert result.kkt.rank < result.kkt.active == 202
    grid = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
    assert (model(grid) - solution(grid)).norm() <= 1e-5 * solution(grid).norm()


@pytest.mark.slow
def test_noisy_data_under_an_equation_are_fitted_by_the_best_of_its_solutions() -> None:
    """``u″ + (2π)² u = 0`` leaves ``a sin + b cos``: the best of them is a least-squares problem of two unknowns."""
    space, model = pde.Interval(-1, 1), tanh_network(0)
    x = torch.linspace(-0.98, 0.98, 20, dtype=torch.float64)[:, None]
    data = torch.sin(2 * math.pi * x + 0.3) + 0.05 * randn(20, 1, seed=7)
    points = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]
    rows = pde.System(pde.Helmholtz(k=2 * math.pi), space, points=points)
    result = fs.minimize(lambda m: m(x) - data, model, [(rows, fs.Equal(0.0))], tol=1e-6)
    waves = torch.cat([torch.sin(2 * math.pi * x), torch.cos(2 * math.pi * x)], 1)
    best = waves @ torch.linalg.lstsq(waves, data).solution
    assert result.success, result.message
    assert result.maxcv <= 1e-6
    assert result.fun == pytest.approx(float(0.5 * (best - data).square().sum()), rel=1e-5)
    assert (model(x) - best).abs().max() <= 1e-5
