"""Self-scaled Broyden: the update itself, known minima, resumed runs, and bad input."""

from __future__ import annotations

import copy
import io
import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import feasible as fs
from feasible.optim.self_scaled import scales, update_

optimize = pytest.importorskip("scipy.optimize")
DOUBLE = torch.float64
VARIANTS = ["broyden", "bfgs"]


def spd(n: int, condition: float, seed: int = 0) -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(n, n, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed)))
    return q @ torch.diag(torch.logspace(0, math.log10(condition), n, dtype=DOUBLE)) @ q.T


def closure_of(optimizer: torch.optim.Optimizer, loss):
    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_update_is_the_formula(variant, n):
    generator = torch.Generator().manual_seed(n)
    H, A = spd(n, 30, 1), spd(n, 10, 2)
    g = torch.randn(n, dtype=DOUBLE, generator=generator)
    s = -0.7 * H @ g
    y = A @ s
    expected = H.clone()
    ys, Hy = float(y @ s), H @ y
    yHy = float(y @ Hy)
    descent = float(s @ torch.linalg.solve(H, s))
    tau, phi = scales(descent / ys, yHy / ys, n, variant, False)
    v = s / ys - Hy / yHy
    expected = (H - torch.outer(Hy, Hy) / yHy + phi * yHy * torch.outer(v, v)) / tau + torch.outer(s, s) / ys
    assert update_(H, s, y, -0.7 * float(g @ s), variant, False)
    assert torch.allclose(H, expected)
    assert torch.allclose(H @ y, s)  # the secant equation
    assert float(torch.linalg.eigvalsh(H)[0]) > 0


def test_scales_of_bfgs_are_those_of_al_baali():
    assert scales(b=4.0, h=3.0, n=5, variant="bfgs", is_first=False) == (0.25, 1.0)
    assert scales(b=0.5, h=3.0, n=5, variant="bfgs", is_first=False) == (1.0, 1.0)
    assert scales(b=0.5, h=3.0, n=5, variant="bfgs", is_first=True) == (3.0, 1.0)


def test_scales_of_broyden_by_hand():
    # b = 2, h = 1, a = 1: ρ = 1 − √½, θ⁻ = −√½, θ⁺ = 1/ρ, (1 − b)/b = −½ → θ = −½, σ = ½, n = 3
    tau, phi = scales(b=2.0, h=1.0, n=3, variant="broyden", is_first=False)
    assert phi == pytest.approx(3.0)
    assert tau == pytest.approx(min(0.5 * 0.5**-0.5, 0.5))
    # b = ½, h = 4, a = 1: ρ = 1, θ⁻ = 0, θ⁺ = 1, (1 − b)/b = 1 → θ = 1 (DFP), σ = 2
    tau, phi = scales(b=0.5, h=4.0, n=3, variant="broyden", is_first=False)
    assert phi == pytest.approx(0.0)
    assert tau == pytest.approx(2**-0.5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_upward_curvature_is_not_learned(variant):
    H = torch.eye(3, dtype=DOUBLE)
    s = torch.tensor([1.0, 0, 0], dtype=DOUBLE)
    assert not update_(H, s, -s, 1.0, variant, True)
    assert not update_(H, s, torch.zeros_like(s), 1.0, variant, True)
    assert torch.equal(H, torch.eye(3, dtype=DOUBLE))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n", [2, 6, 12])
def test_exact_searches_end_on_quadratics_after_n_steps(variant, n):
    A = spd(n, 100)
    x, H = torch.ones(n, dtype=DOUBLE), torch.eye(n, dtype=DOUBLE)
    for step in range(n):
        g = A @ x
        d = -H @ g
        t = float(-(g @ d) / (d @ A @ d))
        update_(H, t * d, A @ (t * d), -t * t * float(g @ d), variant, step == 0)
        x = x + t * d
    assert float((A @ x).norm()) < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_inexact_searches_end_on_quadratics_within_twice_the_steps_of_bfgs(variant):
    n = 20
    A = spd(n, 1e3)
    x = torch.ones(n, dtype=DOUBLE, requires_grad=True)
    optimizer = fs.optim.SSBroyden([x], variant=variant, max_iter=4 * n, max_eval=1000, tolerance_grad=1e-8)
    optimizer.step(closure_of(optimizer, lambda: 0.5 * x @ A @ x))
    assert float((A @ x.detach()).abs().max()) <= 1e-8
    found = optimize.minimize(
        lambda v: 0.5 * v @ A.numpy() @ v,
        np.ones(n),
        jac=lambda v: A.numpy() @ v,
        method="BFGS",
        options={"gtol": 1e-8},
    )
    assert optimizer.state[x]["n_iter"] <= 2 * found.nit + 5


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n", [2, 10])
def test_rosenbrock_against_scipy(variant, n):
    start = torch.full((n,), -1.2, dtype=DOUBLE)
    x = start.clone().requires_grad_()
    optimizer = fs.optim.SSBroyden([x], variant=variant, max_iter=400, max_eval=1000)
    optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)))
    found = optimize.minimize(
        lambda v: optimize.rosen(v),
        start.numpy(),
        jac=optimize.rosen_der,
        method="BFGS",
        options={"gtol": 1e-10},
    )
    assert float(rosenbrock(x.detach())) <= found.fun + 1e-16
    assert optimizer.state[x]["func_evals"] <= 3 * found.nfev


def small_model(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 1)).double()


X = torch.linspace(-1, 1, 40, dtype=DOUBLE)[:, None]


def fit(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> float:
    closure = closure_of(optimizer, lambda: (model(X) - torch.sin(3 * X)).square().mean())
    for _ in range(steps):
        loss = optimizer.step(closure)
    return float(loss.detach())


@pytest.mark.parametrize("variant", VARIANTS)
def test_networks_end_below_torch_lbfgs(variant):
    model, twin = small_model(0), small_model(0)
    ours = fit(model, fs.optim.SSBroyden(model.parameters(), variant=variant), 25)
    theirs = fit(twin, torch.optim.LBFGS(twin.parameters(), line_search_fn="strong_wolfe"), 25)
    assert ours < theirs / 10


@pytest.mark.parametrize("through", ["state_dict", "deepcopy", "pickle"])
def test_resumes_bit_for_bit(through):
    model = small_model(0)
    optimizer = fs.optim.SSBroyden(model.parameters())
    fit(model, optimizer, 3)
    if through == "deepcopy":
        twin, again = copy.deepcopy((model, optimizer))
    else:
        buffer = io.BytesIO()
        whole = through == "pickle"
        torch.save((model, optimizer) if whole else (model.state_dict(), optimizer.state_dict()), buffer)
        buffer.seek(0)
        first, second = torch.load(buffer, weights_only=not whole)
        twin, again = first, second
        if not whole:
            twin = small_model(1)
            twin.load_state_dict(first)
            again = fs.optim.SSBroyden(twin.parameters())
            again.load_state_dict(second)
    fit(model, optimizer, 3)
    fit(twin, again, 3)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)


def test_state_dict_holds_the_inverse_hessian_in_full():
    model = small_model(0).float()
    with pytest.warns(UserWarning, match="float64"):
        optimizer = fs.optim.SSBroyden(model.parameters())
    x = X.float()
    optimizer.step(closure_of(optimizer, lambda: (model(x) - x).square().mean()))
    state = optimizer.state_dict()["state"][0]
    assert state["inverse"].shape == (31, 31)
    assert state["inverse"].dtype == torch.float32
    assert float(torch.linalg.eigvalsh(state["inverse"].double())[0]) > 0


def test_float64_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fs.optim.SSBroyden([torch.zeros(2, dtype=DOUBLE, requires_grad=True)])


def test_saddles_are_left():
    x = torch.tensor([1e-3, 1.0], dtype=DOUBLE, requires_grad=True)
    optimizer = fs.optim.SSBroyden([x], max_iter=100)
    optimizer.step(closure_of(optimizer, lambda: x[1] ** 2 - x[0] ** 2 + 0.25 * x[0] ** 4))
    assert float(x[0].detach().abs()) == pytest.approx(math.sqrt(2))


def test_frozen_weights_groups_and_late_ones():
    model = small_model(0)
    model[0].bias.requires_grad_(False)
    kept = model[0].bias.clone()
    optimizer = fs.optim.SSBroyden([{"params": model[0].parameters()}])
    fit(model, optimizer, 2)
    optimizer.add_param_group({"params": list(model[2].parameters())})
    assert fit(model, optimizer, 20) < 1e-2
    assert torch.equal(model[0].bias, kept)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_search_gives_the_weights_back(error):
    x = torch.tensor([-1.2, 1.0], dtype=DOUBLE, requires_grad=True)
    optimizer = fs.optim.SSBroyden([x])
    seen = []

    def loss():
        seen.append((x.detach().clone(), float(rosenbrock(x.detach()))))
        if len(seen) == 4:
            raise error
        return rosenbrock(x)

    with pytest.raises(error):
        optimizer.step(closure_of(optimizer, loss))
    assert any(torch.equal(x.detach(), point) for point, _ in seen[:3])
    assert float(rosenbrock(x.detach())) <= seen[0][1]


def test_trials_that_are_not_finite_are_shortened():
    x = torch.tensor([0.1], dtype=DOUBLE, requires_grad=True)
    optimizer = fs.optim.SSBroyden([x], lr=100.0)
    optimizer.step(closure_of(optimizer, lambda: (x - torch.log(x)).sum()))
    assert float(x.detach()) == pytest.approx(1.0)


ERRORS = [
    ({"variant": "dfp"}, "variant"),
    ({"max_iter": 0}, "max_iter"),
    ({"max_eval": 2.5}, "max_eval"),
    ({"lr": 0.0}, "lr"),
    ({"tolerance_grad": -1.0}, "tolerance_grad"),
    ({"tolerance_change": math.nan}, "tolerance_change"),
    ({"limit": 0}, "limit"),
]


@pytest.mark.parametrize(("options", "word"), ERRORS, ids=[row[1] for row in ERRORS])
def test_arguments_are_checked(options, word):
    with pytest.raises(ValueError, match=word):
        fs.optim.SSBroyden([torch.zeros(2, dtype=DOUBLE, requires_grad=True)], **options)


def test_what_cannot_work_is_refused():
    x = torch.zeros(5, dtype=DOUBLE, requires_grad=True)
    optimizer = fs.optim.SSBroyden([x], limit=4)
    with pytest.raises(ValueError, match="limit"):
        optimizer.step(closure_of(optimizer, lambda: x.square().sum()))
    optimizer = fs.optim.SSBroyden([x])
    with pytest.raises(ValueError, match="needs a closure"):
        optimizer.step()
    with pytest.raises(ValueError, match="returned None"):
        optimizer.step(lambda: None)
    with pytest.raises(FloatingPointError, match="after 0 iterations"):
        optimizer.step(closure_of(optimizer, lambda: torch.log(x).sum()))
    assert torch.equal(x.detach(), torch.zeros_like(x))
    with pytest.raises(fs.UnsupportedError, match="ProjectedLBFGS"):
        optimizer.constrain_(x, fs.NonNegative())
    problem = fs.Problem({"x": x})
    problem.constrain("x", fs.NonNegative())
    with pytest.raises(fs.UnsupportedError, match="ProjectedLBFGS"):
        problem.attach(optimizer)
