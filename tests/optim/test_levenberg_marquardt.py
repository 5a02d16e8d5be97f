"""Levenberg–Marquardt: against scipy and certified values, under sets, resumed, and with bad input."""

from __future__ import annotations

import copy
import io
import itertools
import math
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import feasible as fs
from feasible.optim.least_squares import Dense, Products, flat_vjp
from feasible.optim.per_sample import PerSample
from feasible.optim.residuals import batched_jacobian

optimize = pytest.importorskip("scipy.optimize")
DOUBLE = torch.float64


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def fit(optimizer: fs.optim.LevenbergMarquardt, closure: Callable[[], Tensor], steps: int = 300) -> int:
    """Steps until it has converged."""
    for step in range(steps):
        optimizer.step(closure)
        if optimizer.last.converged:
            return step + 1
    raise AssertionError(optimizer.last)


MGH09 = (
    tensor(4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625),
    tensor(0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246),
)
MGH10 = (
    torch.arange(50, 126, 5, dtype=DOUBLE),
    tensor(
        34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872
    ),
)
MISRA = (
    tensor(77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0),
    tensor(10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78),
)


def rational(b: Tensor, x: Tensor) -> Tensor:
    return b[0] * (x * x + x * b[1]) / (x * x + x * b[2] + b[3])


def arrhenius(b: Tensor, x: Tensor) -> Tensor:
    return b[0] * torch.exp(b[1] / (x + b[2]))


def saturation(b: Tensor, x: Tensor) -> Tensor:
    return b[0] * (1 - torch.exp(-b[1] * x))


NIST = [
    ("MGH09 far", rational, MGH09, (25, 39, 41.5, 39), 3.0750560385e-04),
    ("MGH09 near", rational, MGH09, (0.25, 0.39, 0.415, 0.39), 3.0750560385e-04),
    ("MGH10 near", arrhenius, MGH10, (0.02, 4000, 250), 8.7945855171e01),
    ("Misra1a far", saturation, MISRA, (500, 0.0001), 1.2455138894e-01),
    ("Misra1a near", saturation, MISRA, (250, 0.0005), 1.2455138894e-01),
]


@pytest.mark.parametrize("scaling", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize(("name", "model", "data", "start", "squares"), NIST, ids=[row[0] for row in NIST])
def test_certified_regressions(name, model, data, start, squares, scaling):
    x, y = data
    b = tensor(*start).requires_grad_()
    optimizer = fs.optim.LevenbergMarquardt([b], scaling=scaling)
    fit(optimizer, lambda: model(b, x) - y)
    assert 2 * optimizer.last.new_loss == pytest.approx(squares, rel=1e-9)


def test_bennett_like_against_scipy():
    x = torch.linspace(7.4, 9.9, 154, dtype=DOUBLE)
    noise = torch.randn(154, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    y = -2523.5 * (46.7 + x) ** (-1 / 0.9322) + 1e-3 * noise
    b = tensor(-2000, 50, 0.8).requires_grad_()

    def residual(v: Tensor) -> Tensor:
        return v[0] * (v[1] + x) ** (-1 / v[2]) - y

    optimizer = fs.optim.LevenbergMarquardt([b], scaling=True)
    fit(optimizer, lambda: residual(b))
    reference = optimize.least_squares(
        lambda v: residual(torch.tensor(v)).numpy(),
        (-2000, 50, 0.8),
        x_scale="jac",
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )
    assert optimizer.last.new_loss <= reference.cost * (1 + 1e-6)


@pytest.mark.parametrize("jacobian", ["auto", "batched", "products"])
@pytest.mark.parametrize("acceleration", [0.0, 0.75], ids=["plain", "accelerated"])
def test_rosenbrock(jacobian, acceleration):
    x = tensor(-1.2, 1).requires_grad_()
    optimizer = fs.optim.LevenbergMarquardt(
        [x], jacobian=jacobian, acceleration=acceleration, solver_tolerance=1e-12
    )
    fit(optimizer, lambda: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
    assert torch.allclose(x, torch.ones_like(x), rtol=0, atol=1e-12)


@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    seed=st.integers(0, 10**6),
    jacobian=st.sampled_from(["auto", "batched", "products"]),
)
@settings(max_examples=40, deadline=None)
def test_linear_problems_end_at_the_shortest_least_squares_solution(rows, columns, seed, jacobian):
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(rows, columns, dtype=DOUBLE, generator=generator)
    b = torch.randn(rows, dtype=DOUBLE, generator=generator)
    x = torch.zeros(columns, dtype=DOUBLE, requires_grad=True)
    optimizer = fs.optim.LevenbergMarquardt([x], damping=1e-8, jacobian=jacobian, solver_tolerance=1e-13)
    for _ in range(20):
        optimizer.step(lambda: A @ x - b)
    expected = torch.linalg.lstsq(A, b[:, None], driver="gelsd").solution[:, 0]
    assert torch.allclose((A @ x - b), A @ expected - b, atol=1e-6)
    assert float(x.detach().norm()) <= float(expected.norm()) * (1 + 1e-4) + 1e-6


BOUNDED = [
    ("lower", fs.Box(lower=0.5), (0.5, -np.inf, np.inf, np.inf)),
    ("upper", fs.Box(upper=0.8), (-np.inf, -np.inf, 0.8, 0.8)),
    ("box", fs.Box(-2.0, 0.5), None),
    ("negative", fs.Box(-3.0, -0.1), None),
]


@pytest.mark.parametrize("jacobian", ["auto", "batched", "products"])
@pytest.mark.parametrize("set", [row[1] for row in BOUNDED], ids=[row[0] for row in BOUNDED])
def test_rosenbrock_in_a_box_against_scipy(set, jacobian):
    start = [-0.9, 0.2]
    x = tensor(*start).requires_grad_()
    optimizer = fs.optim.LevenbergMarquardt([x], sets=set, jacobian=jacobian, solver_tolerance=1e-12)
    begin = x.detach().tolist()
    fit(optimizer, lambda: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
    lower = -np.inf if set.lower is None else set.lower
    upper = np.inf if set.upper is None else set.upper
    inside = np.clip(
        begin, lower + 1e-3 if np.isfinite(lower) else lower, upper - 1e-3 if np.isfinite(upper) else upper
    )
    reference = optimize.least_squares(
        lambda v: np.array([10 * (v[1] - v[0] ** 2), 1 - v[0]]),
        inside,
        bounds=(lower, upper),
        xtol=1e-15,
        gtol=1e-15,
    )
    assert bool(set.contains(x.detach()).all())
    assert optimizer.last.new_loss <= reference.cost * (1 + 1e-8) + 1e-12


def test_non_negative_least_squares():
    generator = torch.Generator().manual_seed(3)
    A, b = (torch.randn(*shape, dtype=DOUBLE, generator=generator) for shape in ((60, 40), (60,)))
    x = torch.ones(40, dtype=DOUBLE, requires_grad=True)
    optimizer = fs.optim.LevenbergMarquardt([{"params": [x], "set": fs.NonNegative()}])
    steps = fit(optimizer, lambda: A @ x - b)
    expected = torch.tensor(optimize.nnls(A.numpy(), b.numpy())[0])
    assert torch.allclose(x.detach(), expected, atol=1e-9)
    assert steps < 40


@pytest.mark.parametrize(
    "set", [fs.Simplex(), fs.L2Ball(0.3), fs.Sphere()], ids=["simplex", "ball", "sphere"]
)
def test_coupled_sets_end_at_stationary_points(set):
    generator = torch.Generator().manual_seed(5)
    A, b = (torch.randn(*shape, dtype=DOUBLE, generator=generator) for shape in ((20, 6), (20,)))
    x = torch.full((6,), 0.4, dtype=DOUBLE, requires_grad=True)
    optimizer = fs.optim.LevenbergMarquardt([x], sets=set)
    for _ in range(200):
        optimizer.step(lambda: A @ x - b)
        if optimizer.last.converged:
            break
    assert bool(set.contains(x.detach(), 1e-9).all())
    assert optimizer.last.stationarity < 1e-6


def network(
    seed: int, *widths: int, dtype: torch.dtype = DOUBLE, activation: type[nn.Module] = nn.Tanh
) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [layer for n, m in itertools.pairwise(widths) for layer in (nn.Linear(n, m), activation())]
    return nn.Sequential(*layers[:-1]).to(dtype)


def helmholtz(seed: int, joined: bool = True):
    """The 1-D row of the yardsticks: the model, its residual, and its error."""
    model, k = network(seed, 1, 32, 32, 1), 4 * math.pi
    x = torch.linspace(0, 1, 200, dtype=DOUBLE)[:, None]
    source = 2 * k * torch.cos(k * x) + 2 + (k * x) ** 2
    left, right = tensor(0)[:, None], tensor(1)[:, None]
    slope = (1 + 1) * k + 2

    def residual():
        inner, end = x.clone().requires_grad_(), right.clone().requires_grad_()
        u, at_end = model(inner), model(end)
        (first,) = torch.autograd.grad(u.sum(), inner, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), inner, create_graph=True)
        (end_slope,) = torch.autograd.grad(at_end.sum(), end, create_graph=True)
        rows = (
            model(left),
            (end_slope - slope) / k,
            (second + k**2 * u - source) / (k**2 * math.sqrt(len(x))),
        )
        return torch.cat(rows).squeeze(1) if joined else rows

    grid = torch.linspace(0, 1, 1001, dtype=DOUBLE)[:, None]
    truth = (1 + grid) * torch.sin(k * grid) + grid**2
    return model, residual, lambda: float(((model(grid) - truth).norm() / truth.norm()).detach())


@pytest.mark.parametrize("joined", [True, False], ids=["joined", "tuple"])
def test_helmholtz_jacobian_is_put_together_per_sample(joined):
    model, residual, _ = helmholtz(0, joined)
    optimizer = fs.optim.LevenbergMarquardt(model.parameters(), jacobian="per-sample")
    for _ in range(30):
        optimizer.step(residual)
        assert optimizer.last.jacobian == "per-sample"
    assert optimizer.last.new_loss < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_helmholtz_is_solved(seed):
    model, residual, error = helmholtz(seed)
    optimizer = fs.optim.LevenbergMarquardt(model.parameters())
    start = time.process_time()
    while time.process_time() - start < 30 and error() > 3e-8:
        optimizer.step(residual)
    assert error() <= 3e-7


def test_a_regression_with_many_weights():
    model = network(0, 2, 64, 70, 1)  # 4,813 weights
    x = torch.rand(150, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    y = torch.sin(3 * x[:, :1]) * x[:, 1:]
    optimizer = fs.optim.LevenbergMarquardt(model.parameters())
    for _ in range(40):
        optimizer.step(lambda: model(x) - y)
    assert optimizer.last.jacobian == "per-sample"
    assert optimizer.last.new_loss < 1e-7


@pytest.mark.parametrize("shape", [(12, 30), (30, 12)], ids=["wide", "tall"])
@pytest.mark.parametrize("damping", [1e-12, 1e-3, 1.0])
@pytest.mark.parametrize("masked", [False, True], ids=["all", "some"])
def test_three_ways_to_solve_agree(shape, damping, masked):
    generator = torch.Generator().manual_seed(0)
    J, r = (torch.randn(*size, dtype=DOUBLE, generator=generator) for size in (shape, shape[:1]))
    x = torch.zeros(shape[1], dtype=DOUBLE, requires_grad=True)
    free = torch.rand(shape[1], generator=generator) > 0.4 if masked else None
    chosen = J if free is None else J * free
    stacked = torch.cat([chosen, math.sqrt(damping) * torch.eye(shape[1], dtype=DOUBLE)])
    right = torch.cat([-r, torch.zeros(shape[1], dtype=DOUBLE)])
    expected = torch.linalg.lstsq(stacked, right[:, None], driver="gelsd").solution[:, 0]
    products = Products(lambda: (J @ x + r, None), [x], tolerance=1e-14, rounds=500)
    for system in (Dense(J), products):
        assert torch.allclose(system.solve(r, damping, free), expected, rtol=1e-6, atol=1e-6)
    assert Dense(J).rank(damping) == pytest.approx(
        float((torch.linalg.svdvals(J) ** 2 / (torch.linalg.svdvals(J) ** 2 + damping)).sum()), rel=1e-6
    )


def test_units_of_a_step():
    generator = torch.Generator().manual_seed(0)
    J, r = (torch.randn(*size, dtype=DOUBLE, generator=generator) for size in ((7, 5), (7,)))
    units = tensor(1, 10, 0.1, 3, 2)
    expected = torch.linalg.solve(J.T @ J + 0.3 * torch.diag(units**-2), -J.T @ r)
    assert torch.allclose(Dense(J, units).solve(r, 0.3), expected)


def test_matrix_free_training():
    x = torch.rand(80, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    y = torch.sin(3 * x[:, :1]) * x[:, 1:]
    model = network(0, 2, 16, 1)
    optimizer = fs.optim.LevenbergMarquardt(model.parameters(), jacobian="products")
    for _ in range(30):
        optimizer.step(lambda: model(x) - y, weights=torch.ones(1, dtype=DOUBLE))
    assert optimizer.last.jacobian == "products"
    assert optimizer.last.rank is None
    assert optimizer.last.new_loss < 2e-3


def test_float32_reaches_its_rounding():
    model = network(0, 1, 16, 16, 1, dtype=torch.float32)
    x = torch.linspace(-1, 1, 60)[:, None]
    optimizer = fs.optim.LevenbergMarquardt(model.parameters())
    for _ in range(150):
        optimizer.step(lambda: model(x) - torch.sin(3 * x))
    assert math.sqrt(2 * optimizer.last.new_loss / 60) < 3e-5


def test_weights_multiply_the_squares():
    A, b = tensor(1, 2, 3, 4)[:, None], tensor(1, 3, 2, 5)
    weights = tensor(1, 0, 4, 2)
    x = tensor(0).requires_grad_()
    optimizer = fs.optim.LevenbergMarquardt([x], damping=1e-12)
    loss = optimizer.step(lambda: (A @ x - b).view(2, 2), weights=weights.view(2, 2))
    assert float(loss) == pytest.approx(0.5 * float((weights * b * b).sum()))
    expected = float((weights * A[:, 0] * b).sum() / (weights * A[:, 0] ** 2).sum())
    for _ in range(5):
        optimizer.step(lambda: A @ x - b, weights=weights)
    assert float(x.detach()) == pytest.approx(expected, rel=1e-9)
    optimizer.step(lambda: (A[:2] @ x - b[:2], A[2:] @ x - b[2:]), weights=(1.0, 0.0))
    for _ in range(5):
        optimizer.step(lambda: (A[:2] @ x - b[:2], A[2:] @ x - b[2:]), weights=(1.0, 0.0))
    assert float(x.detach()) == pytest.approx(7 / 5, rel=1e-9)


def test_a_rejected_step_keeps_every_bit():
    x = tensor(1.0, -0.0, 3.1).requires_grad_()
    before = x.detach().clone()
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        return x - 1 if calls <= 4 else (x - 1) * math.nan

    optimizer = fs.optim.LevenbergMarquardt([x], max_trials=3, jacobian="batched")
    optimizer.step(lambda: closure() if torch.equal(x.detach(), before) else closure() * math.nan)
    assert not optimizer.last.accepted
    assert optimizer.last.trials == 3
    assert torch.equal(x.detach(), before)
    assert torch.equal(torch.signbit(x.detach()), torch.signbit(before))


def test_trials_that_are_not_finite_are_rejected():
    x = tensor(0.01).requires_grad_()  # the Gauss–Newton step goes far below 0
    optimizer = fs.optim.LevenbergMarquardt([x], damping=1e-9)
    fit(optimizer, lambda: torch.log(x) - 1)
    assert float(x.detach()) == pytest.approx(math.e)


def test_an_interrupted_trial_gives_the_weights_back():
    x = tensor(-1.2, 1).requires_grad_()
    before = x.detach().clone()

    def closure():
        if not torch.equal(x.detach(), before):
            raise KeyboardInterrupt
        return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])

    with pytest.raises(KeyboardInterrupt):
        fs.optim.LevenbergMarquardt([x]).step(closure)
    assert torch.equal(x.detach(), before)


@pytest.mark.parametrize("through", ["state_dict", "deepcopy", "pickle"])
def test_resumes_bit_for_bit(through):
    x = torch.linspace(-1, 1, 30, dtype=DOUBLE)[:, None]

    def run(model: nn.Module, optimizer: fs.optim.LevenbergMarquardt, steps: int) -> None:
        for _ in range(steps):
            optimizer.step(lambda: model(x) - torch.sin(3 * x))

    model = network(0, 1, 8, 1)
    optimizer = fs.optim.LevenbergMarquardt(model.parameters(), scaling=True)
    run(model, optimizer, 25)
    if through == "state_dict":
        buffer = io.BytesIO()
        torch.save((model.state_dict(), optimizer.state_dict()), buffer)
        buffer.seek(0)
        weights, state = torch.load(buffer, weights_only=True)
        twin = network(1, 1, 8, 1)
        twin.load_state_dict(weights)
        again = fs.optim.LevenbergMarquardt(twin.parameters(), scaling=True)
        again.load_state_dict(state)
    elif through == "deepcopy":
        twin, again = copy.deepcopy((model, optimizer))
    else:
        buffer = io.BytesIO()
        torch.save((model, optimizer), buffer)
        buffer.seek(0)
        twin, again = torch.load(buffer, weights_only=False)
    run(model, optimizer, 25)
    run(twin, again, 25)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)
    assert optimizer.last == again.last


def test_groups_frozen_parameters_and_late_ones():
    model = network(0, 1, 8, 1)
    model[0].bias.requires_grad_(False)
    kept = model[0].bias.clone()
    x = torch.linspace(-1, 1, 30, dtype=DOUBLE)[:, None]
    optimizer = fs.optim.LevenbergMarquardt([{"params": model[0].parameters()}])
    optimizer.step(lambda: model(x) - x**2)
    untouched = model[2].weight.clone()
    optimizer.add_param_group({"params": list(model[2].parameters()), "set": fs.NonNegative()})
    for _ in range(30):
        optimizer.step(lambda: model(x) - x**2)
    assert torch.equal(model[0].bias, kept)
    assert not torch.equal(model[2].weight, untouched)
    assert bool((model[2].weight >= 0).all())
    assert optimizer.last.new_loss < 0.05


def test_random_numbers_are_drawn_alike_in_a_step():
    model = nn.Sequential(network(0, 1, 8, 8), nn.Dropout(0.5), nn.Linear(8, 1, dtype=DOUBLE))
    x = torch.linspace(-1, 1, 30, dtype=DOUBLE)[:, None]
    optimizer = fs.optim.LevenbergMarquardt(model.parameters())
    for _ in range(3):
        optimizer.step(lambda: model(x) - x)
        assert optimizer.last.accepted
    assert optimizer.last.jacobian == "per-sample"


def test_stops_where_nothing_is_left():
    x = tensor(0.3).requires_grad_()
    optimizer = fs.optim.LevenbergMarquardt([x], max_iter=100, tolerance_grad=1e-10)
    optimizer.step(lambda: torch.exp(x) - 1)
    assert optimizer.last.converged
    moved = x.detach().clone()
    optimizer.step(lambda: torch.exp(x) - 1)
    assert torch.equal(x.detach(), moved)


ERRORS = [
    ({"damping": 0.0}, "damping"),
    ({"max_iter": 0}, "max_iter"),
    ({"max_trials": 1.5}, "max_trials"),
    ({"increase": 1.0}, "increase"),
    ({"decrease": 0.5}, "decrease"),
    ({"acceleration": -1.0}, "acceleration"),
    ({"tolerance_grad": math.nan}, "tolerance_grad"),
    ({"jacobian": "dense"}, "per-sample"),
    ({"chunk_size": 0}, "chunk_size"),
    ({"scaling": True, "jacobian": "products"}, "columns"),
]


@pytest.mark.parametrize(("options", "word"), ERRORS, ids=[row[1] + str(i) for i, row in enumerate(ERRORS)])
def test_arguments_are_checked(options, word):
    with pytest.raises(ValueError, match=word):
        fs.optim.LevenbergMarquardt([tensor(1).requires_grad_()], **options)


def test_closures_are_checked():
    x = tensor(1, 2).requires_grad_()
    optimizer = fs.optim.LevenbergMarquardt([x])
    with pytest.raises(ValueError, match="needs a closure"):
        optimizer.step()
    with pytest.raises(ValueError, match="must return the residual"):
        optimizer.step(lambda: None)
    with pytest.raises(ValueError, match="must return the residual"):
        optimizer.step(lambda: torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="does not depend"):
        optimizer.step(lambda: x.detach() - 1)
    with pytest.raises(ValueError, match="do not broadcast"):
        optimizer.step(lambda: x - 1, weights=tensor(1, 2, 3))
    with pytest.raises(ValueError, match="≥ 0"):
        optimizer.step(lambda: x - 1, weights=tensor(1, -2))
    with pytest.raises(ValueError, match="no parameter requires"):
        fs.optim.LevenbergMarquardt([tensor(1)]).step(lambda: x)
    with pytest.raises(fs.UnsupportedError, match="discrete"):
        fs.optim.LevenbergMarquardt([x], sets=fs.FiniteSet([0.0, 1.0]))
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: x / (1 // 0))


def test_what_is_not_finite_is_named():
    x = tensor(1, 2).requires_grad_()
    optimizer = fs.optim.LevenbergMarquardt([("scale", x)])
    with pytest.raises(FloatingPointError, match="1 of 2 residuals are not finite, the first one row 1"):
        optimizer.step(lambda: torch.log(tensor(1, -1) * x))
    with pytest.raises(FloatingPointError, match="derivative by scale is not"):
        optimizer.step(lambda: torch.sqrt(x - tensor(1, 0)))
    assert torch.equal(x.detach(), tensor(1, 2))
    with torch.no_grad():
        x[0] = math.nan
    with pytest.raises(FloatingPointError, match="scale is not finite"):
        optimizer.step(lambda: x - 1)


def test_rows_are_not_mixed_silently():
    model = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5, affine=False), nn.Linear(5, 1)).double()
    x = torch.rand(20, 2, dtype=DOUBLE)
    optimizer = fs.optim.LevenbergMarquardt(model.parameters(), jacobian="per-sample")
    with pytest.raises(ValueError, match="several rows depend on one sample"):
        optimizer.step(lambda: model(x))
    optimizer = fs.optim.LevenbergMarquardt(model.parameters())
    optimizer.step(lambda: model(x))
    assert optimizer.last.jacobian == "batched"


def helmholtz_2d(seed: int):
    torch.manual_seed(seed)

    class Sine(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(x)

    model = nn.Sequential(nn.Linear(2, 32), Sine(), nn.Linear(32, 32), Sine(), nn.Linear(32, 1)).double()
    with torch.no_grad():
        model[0].weight.mul_(4)  # the features' waves are as short as the solution's
    count, k = 24, 4 * math.pi
    centres = (torch.arange(count, dtype=DOUBLE) + 0.5) / count
    points, line = torch.cartesian_prod(centres, centres), torch.linspace(0, 1, 101, dtype=DOUBLE)
    grid = torch.cartesian_prod(line, line)
    waves = torch.sin(k * points).prod(1, keepdim=True)
    truth = torch.sin(k * grid).prod(1, keepdim=True)

    def u(x: Tensor) -> Tensor:
        return 16 * (x * (1 - x)).prod(1, keepdim=True) * model(x)

    def residual() -> Tensor:
        x = points.clone().requires_grad_()
        value = u(x)
        (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        second = [
            torch.autograd.grad(first[:, i].sum(), x, create_graph=True)[0][:, i : i + 1] for i in range(2)
        ]
        return (-sum(second) - k**2 * value - k**2 * waves) / (k**2 * count)

    return model, residual, lambda: float(((u(grid) - truth).norm() / truth.norm()).detach())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_helmholtz_in_two_dimensions_is_solved(seed):
    model, residual, error = helmholtz_2d(seed)
    optimizer = fs.optim.LevenbergMarquardt(model.parameters())
    start = time.process_time()
    while time.process_time() - start < 60 and error() > 5e-6:
        optimizer.step(residual)
    assert error() <= 2e-5


def forward_over_reverse(model: nn.Module, x: Tensor) -> Tensor:
    return torch.vmap(
        lambda point: torch.func.hessian(lambda z: model(z).squeeze(0))(point).diagonal().sum()
    )(x)


def jvp_twice(model: nn.Module, x: Tensor) -> Tensor:
    way = torch.ones_like(x)
    return torch.func.jvp(lambda z: torch.func.jvp(model, (z,), (way,))[1], (x,), (way,))[1]


def periodic(model: nn.Module, x: Tensor) -> Tensor:
    return model(x) - model(x + 1)


def several(model: nn.Module, x: Tensor) -> Tensor:
    value = model(x)
    return torch.cat([value.square(), value.sin(), model(2 * x).mean(0, keepdim=True)])


def transposed(model: nn.Module, x: Tensor) -> Tensor:
    return torch.tanh(model(x) @ model[-1].weight[:, :3].exp() + model[0].bias[:3])


def products_of(residual: Callable[[], Tensor], parameters: list[Tensor]):
    """The residual and ``cᵀ J`` as a function of c."""

    def plain(c: Tensor) -> tuple[Tensor, Tensor]:
        rows = residual().reshape(-1)
        return rows.detach(), flat_vjp(rows, parameters, c)

    return plain


RESIDUALS = [forward_over_reverse, jvp_twice, periodic, several, transposed]


@pytest.mark.usefixtures("forward_mode")
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("residual", RESIDUALS)
def test_per_sample_jacobians_are_the_batched_ones(residual, dtype):
    model = network(0, 2, 6, 6, 1, dtype=dtype)
    x = torch.rand(9, 2, dtype=dtype)
    parameters = list(model.parameters())
    rows = PerSample(parameters)

    def plain() -> Tensor:
        return residual(model, x)

    for _ in range(3):
        _, jacobian = rows.jacobian(plain, products_of(plain, parameters))
        expected = batched_jacobian(plain().reshape(-1), parameters)
        assert torch.allclose(jacobian, expected, rtol=1e-4, atol=1e-5 if dtype == torch.float32 else 1e-12)


def test_samples_that_awake_are_mapped_anew():
    model = network(0, 1, 4, 1, activation=nn.ReLU)
    with torch.no_grad():
        model[0].weight.fill_(1)
        model[0].bias.fill_(0)
    x = torch.tensor([[-1.0], [2.0], [-3.0]], dtype=DOUBLE)
    parameters = list(model.parameters())
    rows = PerSample(parameters)

    def plain() -> Tensor:
        return model(x)

    for shift in (0.0, 1.5, 4.0):
        with torch.no_grad():
            model[0].bias.fill_(shift)
        _, jacobian = rows.jacobian(plain, products_of(plain, parameters))
        assert torch.equal(jacobian, batched_jacobian(plain().reshape(-1), parameters))


def test_rows_that_change_places_are_mapped_anew():
    model = network(0, 1, 6, 1)
    x = torch.linspace(-1, 1, 11, dtype=DOUBLE)[:, None]
    parameters = list(model.parameters())
    rows = PerSample(parameters)
    for seed in range(3):
        order = torch.randperm(11, generator=torch.Generator().manual_seed(seed))

        def plain(order: Tensor = order) -> Tensor:
            return model(x)[order]

        _, jacobian = rows.jacobian(plain, products_of(plain, parameters))
        assert torch.allclose(jacobian, batched_jacobian(plain().reshape(-1), parameters))


def test_a_problem_hands_its_sets_over():
    model = network(0, 1, 8, 1)
    problem = fs.Problem(model)
    problem.constrain("0.weight", fs.NonNegative())
    optimizer = problem.attach(fs.optim.LevenbergMarquardt(model.parameters()))
    x = torch.linspace(-1, 1, 30, dtype=DOUBLE)[:, None]
    for _ in range(30):
        optimizer.step(lambda: model(x) - torch.tanh(2 * x))
    problem.finish()
    assert bool((model[0].weight >= 0).all())
    assert optimizer.last.new_loss < 1e-3


@pytest.mark.parametrize("by", [fs.Penalty(1.0), fs.AugmentedLagrangian()], ids=["penalty", "multipliers"])
@pytest.mark.parametrize("first", ["attached", "required"])
def test_terms_of_a_loss_are_refused(by, first):
    model = network(0, 1, 4, 1)
    problem, optimizer = fs.Problem(model), fs.optim.LevenbergMarquardt(model.parameters())
    steps = [lambda: problem.attach(optimizer), lambda: problem.require("mean", fs.Equal(0.3), by=by)]
    one, other = steps if first == "attached" else reversed(steps)
    one()
    with pytest.raises(fs.UnsupportedError, match="its closure returns residuals"):
        other()


def test_chunks_do_not_matter():
    model = network(0, 2, 5, 3)
    x = torch.rand(7, 2, dtype=DOUBLE)
    whole, parts = (
        batched_jacobian(model(x).reshape(-1), list(model.parameters()), size) for size in (None, 4)
    )
    assert torch.equal(whole, parts)
