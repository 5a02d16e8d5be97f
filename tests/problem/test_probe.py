"""Without numbers the problem measures how hard a constraint has to pull: units must not matter."""

import copy
import math

import cvxpy as cp
import pytest
import torch
from torch import nn

import feasible as fs

F64 = torch.float64


def platt_barr(loss_unit, value_unit, method):
    """min x² + y² subject to x + y = 1, in other units of loss and value."""
    x = torch.tensor([0.0, 1.9], dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    handle = problem.require("sum", fs.Equal(value_unit), by=method)
    optimizer = problem.attach(torch.optim.Adam([x], lr=0.02))
    return x, problem, handle, optimizer, lambda: (loss_unit * (x**2).sum(), {"sum": value_unit * x.sum()})


def unit_ball(loss_unit, value_unit, method):
    """min ‖x − a‖² subject to ‖x‖² ≤ 1 from inside, in other units of loss and value."""
    x = torch.tensor([0.1, 0.2], dtype=F64, requires_grad=True)
    a = torch.tensor([2.0, 1.0], dtype=F64)
    problem = fs.Problem([x])
    handle = problem.require("ball", fs.Box(upper=value_unit), by=method)
    optimizer = problem.attach(torch.optim.Adam([x], lr=0.02))
    return (
        x,
        problem,
        handle,
        optimizer,
        lambda: (
            loss_unit * (x - a).square().sum(),
            {"ball": value_unit * x.square().sum()},
        ),
    )


ANSWERS = {
    platt_barr: (torch.tensor([0.5, 0.5], dtype=F64), -1.0),
    unit_ball: (torch.tensor([2.0, 1.0], dtype=F64) / math.sqrt(5), math.sqrt(5) - 1),
}


def train(make, loss_unit, value_unit, method, steps):
    x, problem, handle, optimizer, values = make(loss_unit, value_unit, method)
    for _ in range(steps):
        optimizer.zero_grad()
        task, named = values()
        problem.loss(task, named).backward()
        optimizer.step()
    return x.detach(), float(handle.multiplier) * value_unit / loss_unit, problem


@pytest.mark.parametrize("make", list(ANSWERS), ids=lambda make: make.__name__)
@pytest.mark.parametrize(("loss_unit", "value_unit"), [(1, 1), (1e3, 1e-2), (1e-3, 10), (1, 1e-3)])
def test_units_do_not_matter(make, loss_unit, value_unit):
    x, multiplier, _ = train(make, loss_unit, value_unit, fs.AugmentedLagrangian(), 1500)
    solution, price = ANSWERS[make]
    torch.testing.assert_close(x, solution, atol=1e-4, rtol=0)
    assert multiplier == pytest.approx(price, abs=1e-4)


def quadratic_program():
    """min ‖x‖² under linear equations and inequalities; solution and multipliers by Clarabel."""
    rng = torch.Generator().manual_seed(1)
    A, b = (torch.randn(*shape, dtype=F64, generator=rng) for shape in ((2, 6), (2,)))
    G, h = torch.randn(3, 6, dtype=F64, generator=rng), -torch.rand(3, dtype=F64, generator=rng)
    variable = cp.Variable(6)
    conditions = [A.numpy() @ variable == b.numpy(), G.numpy() @ variable <= h.numpy()]
    cp.Problem(cp.Minimize(cp.sum_squares(variable)), conditions).solve(solver=cp.CLARABEL)
    multipliers = torch.cat([torch.as_tensor(condition.dual_value) for condition in conditions])
    upper = torch.cat([b, h])
    lower = torch.where(torch.arange(5) < 2, upper, -torch.inf)
    both = torch.cat([A, G])
    x = torch.zeros(6, dtype=F64, requires_grad=True)
    return (
        x,
        fs.Box(lower, upper),
        lambda: (x.square().sum(), both @ x),
        torch.tensor(variable.value),
        multipliers,
    )


def die():
    """Of all dice with the mean 4.5 the one of the largest entropy."""
    faces = torch.arange(1.0, 7.0, dtype=F64)
    x = torch.full((6,), 1 / 6, dtype=F64, requires_grad=True)
    p = torch.tensor([0.054353, 0.078772, 0.114160, 0.165447, 0.239774, 0.347494], dtype=F64)
    # 1 + log p + λ₁ + λ₂ · face = 0 on every face.
    design = torch.stack([torch.ones(6, dtype=F64), faces], 1)
    multipliers = torch.linalg.lstsq(design, -(1 + p.log()).unsqueeze(1)).solution.squeeze(1)
    values = lambda: ((x * x.clamp_min(1e-12).log()).sum(), torch.stack([x.sum(), faces @ x]))  # noqa: E731
    return x, fs.Equal(torch.tensor([1.0, 4.5], dtype=F64)), values, p, multipliers


@pytest.mark.parametrize("make", [quadratic_program, die], ids=lambda make: make.__name__)
def test_known_answers_without_any_argument(make):
    x, set, values, solution, multipliers = make()
    problem = fs.Problem([x])
    handle = problem.require("value", set)
    optimizer = problem.attach(torch.optim.Adam([x], lr=0.03))
    # At a constant rate Adam is thrown off again when its moments have died out.
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 0.998 ** (step - 1000)))
    for _ in range(3000):
        optimizer.zero_grad()
        task, value = values()
        problem.loss(task, value=value).backward()
        optimizer.step()
        falling.step()
    torch.testing.assert_close(x.detach(), solution, atol=1e-4, rtol=0)
    torch.testing.assert_close(handle.multiplier, multipliers, atol=1e-4, rtol=0)


def test_the_plain_lagrangian_is_measured_too():
    results = [train(platt_barr, *units, fs.Lagrangian(), 40)[0] for units in ((1, 1), (128, 0.125))]
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0)


def test_the_numbers_of_the_user_win():
    _x, problem, handle, optimizer, values = platt_barr(
        100, 1, fs.AugmentedLagrangian(penalty=2.0, dual_lr=1.0)
    )
    task, named = values()
    problem.loss(task, named).backward()
    optimizer.step()
    assert "sum.scale" not in problem.state_dict()
    assert float(handle.multiplier) == pytest.approx(0.5 * 2 * (1.9 - 1))


def test_measurements_are_few_and_counted():
    _x, problem, _, optimizer, values = platt_barr(1, 1, fs.AugmentedLagrangian())
    for _ in range(100):
        optimizer.zero_grad()
        task, named = values()
        problem.loss(task, named).backward()
        optimizer.step()
    assert float(problem.state_dict()["sum.probes"]) == 8  # steps 0, 1, 2, 4, …, 64


def test_micro_batches_are_measured_once_a_step():
    _x, problem, _, optimizer, values = platt_barr(1, 1, fs.AugmentedLagrangian())
    for _ in range(3):
        task, named = values()
        problem.loss(task / 3, named).backward()
    optimizer.step()
    assert float(problem.state_dict()["sum.probes"]) == 1


@pytest.mark.parametrize("per", ["sample", "index"])
def test_samples_are_measured_too(per):
    """Twice the loss needs twice the multipliers, and the weights go the same way."""
    paths = []
    for unit in (1.0, 1024.0):
        torch.manual_seed(0)
        x, y = torch.rand(16, 2, dtype=F64), torch.randn(16, 1, dtype=F64)
        model = nn.Linear(2, 1, dtype=F64)
        problem = fs.Problem(model)
        handle = problem.require("out", fs.NonNegative(), per=per, size=16 if per == "index" else None)
        optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.01))
        for _ in range(30):
            optimizer.zero_grad()
            out = model(x)
            handed = (out, torch.arange(16)) if per == "index" else out
            problem.loss(unit * nn.functional.mse_loss(out, y), out=handed).backward()
            optimizer.step()
        paths.append((model.weight.detach(), handle.multiplier / unit))
    for first, second in zip(*paths, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_a_resumed_run_takes_the_same_steps():
    def steps(problem, optimizer, values, count):
        for _ in range(count):
            optimizer.zero_grad()
            task, named = values()
            problem.loss(task, named).backward()
            optimizer.step()

    x, problem, _, optimizer, values = unit_ball(1, 1, fs.AugmentedLagrangian())
    steps(problem, optimizer, values, 7)
    saved, weights = copy.deepcopy(optimizer.state_dict()), x.detach().clone()
    steps(problem, optimizer, values, 20)
    other, again, _handle, resumed, other_values = unit_ball(1, 1, fs.AugmentedLagrangian())
    with torch.no_grad():
        other.copy_(weights)
    resumed.load_state_dict(saved)
    steps(again, resumed, other_values, 20)
    assert torch.equal(x, other)
    assert torch.equal(problem.state_dict()["ball.multiplier"], again.state_dict()["ball.multiplier"])


def test_a_graph_that_serves_once_is_said_and_trained_all_the_same():
    class Once(torch.autograd.Function):
        """As reentrant checkpoints and compiled backward passes: no second use."""

        @staticmethod
        def forward(ctx, x):
            ctx.used = False
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            if torch.is_grad_enabled() or not ctx.used:
                ctx.used = True
                raise RuntimeError("this graph was made for one backward pass")
            return gradient

    x = torch.tensor([0.0, 2.0], requires_grad=True)
    problem = fs.Problem([x])
    problem.require("sum", fs.Equal(1.0))
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.1))
    problem.loss((x**2).sum(), sum=Once.apply(x).sum()).backward()
    optimizer.step()
    assert (
        "cannot be differentiated twice (this graph was made for one backward pass)"
        in problem.report()["sum"].diagnosis
    )


def test_a_loss_without_a_slope_leaves_the_scale_alone():
    x = torch.tensor([1.0], requires_grad=True)
    problem = fs.Problem([x])
    problem.require("x", fs.Equal(0.0))
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.1))
    for _ in range(5):
        optimizer.zero_grad()
        problem.loss(0 * x.sum(), x=x).backward()
        optimizer.step()
    assert float(problem.state_dict()["x.scale"]) == 1
    assert abs(float(x.detach())) < 1


@pytest.mark.parametrize("offset", [1e3, -1e4])
def test_a_constant_in_the_loss_does_not_matter(offset):
    x = torch.tensor([3.0], dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    handle = problem.require("x", fs.Box(upper=1.0))
    optimizer = problem.attach(torch.optim.Adam([x], lr=0.01))
    for _ in range(2000):
        optimizer.zero_grad()
        problem.loss((x - 2).square().sum() + offset, x=x).backward()
        optimizer.step()
    assert float(x.detach()) == pytest.approx(1.0, abs=1e-4)
    assert float(handle.multiplier) == pytest.approx(2.0, abs=1e-4)


def test_a_flat_start_is_left_again():
    """The entropy of equal logits has no slope: the loss itself says how large it is."""
    logits = torch.zeros(6, dtype=F64, requires_grad=True)
    faces = torch.arange(1.0, 7.0, dtype=F64)
    problem = fs.Problem([logits])
    handle = problem.require("mean", fs.Equal(4.5))
    optimizer = problem.attach(torch.optim.Adam([logits], lr=0.03))
    for _ in range(1500):
        optimizer.zero_grad()
        p = logits.softmax(0)
        problem.loss((p * p.log()).sum(), mean=faces @ p).backward()
        optimizer.step()
    assert handle.violation < 1e-4
