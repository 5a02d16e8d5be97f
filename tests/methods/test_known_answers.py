"""Problems whose solution and multipliers are known: in closed form, from scipy or from cvxpy."""

import itertools
import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from method_tables import F64, ITERATIVE, METHODS, SETS, names, pairs, target

import feasible as fs


def descend(loss, problem, optimizer, steps, decay=None, solved=lambda: False):
    """The plain loop, until it is solved; ``loss()`` returns the task's loss and the required values."""
    optimizer = problem.attach(optimizer)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay) if decay else None
    for step in range(steps):
        if step % 20 == 0 and solved():
            break
        optimizer.zero_grad()
        task, values = loss()
        problem.loss(task, values).backward()
        optimizer.step()
        if scheduler:
            scheduler.step()


def near(accuracy, *pairs):
    """Whether every tensor is there and as near to the one that is wanted."""
    return all(got is not None and float((got - wanted).abs().max()) < accuracy for got, wanted in pairs)


# -- the nearest point of a set: x* = P(a), λ* = a − P(a) ---------------------------------------------


@pytest.mark.parametrize(("case", "name"), pairs(lambda c: c.finds_multipliers, trained=True), ids=names)
def test_nearest_point_and_its_multiplier(case, name):
    a = target()
    nearest = SETS[name].bind(a).project(a)
    x = torch.zeros_like(a, requires_grad=True)
    problem = fs.Problem([x])
    handle = problem.require("x", SETS[name], by=case.method)

    def solved():
        return near(2e-5, (x.detach(), nearest), (handle.multiplier, a - nearest))

    loss = lambda: (0.5 * (x - a).square().sum(), {"x": x})  # noqa: E731
    descend(loss, problem, torch.optim.SGD([x], lr=case.rate), case.steps, solved=solved)
    torch.testing.assert_close(x.detach(), nearest, atol=1e-4, rtol=0)
    torch.testing.assert_close(handle.multiplier, a - nearest, atol=1e-4, rtol=0)
    # ∇f + λ = 0, and the report says the same.
    assert float((x.detach() - a + handle.multiplier).abs().max()) < 1e-4
    row = problem.report()["x"]
    assert abs(row.multiplier) == pytest.approx(float(handle.multiplier.abs().max()))
    assert row.shadow_price == pytest.approx(float(SETS[name].bind(a).norm(a - nearest).sum()), abs=1e-3)


@pytest.mark.parametrize("name", [name for name in SETS if name not in ITERATIVE])
def test_squared_penalty_is_biased_by_its_closed_form(name):
    a = target()
    set = SETS[name].bind(a)
    x = a.clone().requires_grad_()
    problem = fs.Problem([x])
    problem.require("x", set, by=fs.Penalty(4.0))
    loss = lambda: (0.5 * (x - a).square().sum(), {"x": x})  # noqa: E731
    descend(loss, problem, torch.optim.SGD([x], lr=0.1), 200)
    torch.testing.assert_close(x.detach(), a - 4 / 5 * set.residual(a), atol=1e-8, rtol=0)


@pytest.mark.parametrize("name", [name for name in SETS if name not in ITERATIVE])
def test_exact_penalty_is_exact_beyond_the_multiplier(name):
    a = target()
    set = SETS[name].bind(a)
    residual = set.residual(a)
    weight = 1.5 * float(set.norm(residual).max())
    x = a.clone().requires_grad_()
    problem = fs.Problem([x])
    problem.constrain("0", set, by=fs.Penalty(weight, kind="exact"))
    loss = lambda: (0.5 * (x - a).square().sum(), {})  # noqa: E731
    solved = lambda: near(1e-5, (x.detach(), a - residual))  # noqa: E731
    descend(loss, problem, torch.optim.SGD([x], lr=0.1), 800, 0.98, solved)
    torch.testing.assert_close(x.detach(), a - residual, atol=1e-4, rtol=0)


def test_exact_penalty_below_the_multiplier_stays_off():
    x = torch.tensor([3.0], dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    problem.constrain("0", fs.Box(upper=1.0), by=fs.Penalty(0.5, kind="exact"))
    loss = lambda: (0.5 * (x - 3).square().sum(), {})  # noqa: E731
    descend(loss, problem, torch.optim.SGD([x], lr=0.1), 400)
    assert float(x.detach()) == pytest.approx(2.5)  # 3 − weight


# -- the yardsticks -----------------------------------------------------------------------------------

DUALS = [c for c in METHODS if c.finds_multipliers and c.method.objection(fs.Equal(1.0)) is None]


@pytest.mark.parametrize("case", DUALS, ids=names)
def test_platt_and_barr(case):
    x = torch.tensor([0.0, 2.0], dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    handle = problem.require("sum", fs.Equal(1.0), by=case.method)

    def solved():
        return near(2e-7, (x.detach(), 0.5), (handle.multiplier, -1.0))

    loss = lambda: (x.square().sum(), {"sum": x.sum()})  # noqa: E731
    descend(loss, problem, torch.optim.SGD([x], lr=0.1), 1000, solved=solved)
    torch.testing.assert_close(x.detach(), torch.tensor([0.5, 0.5], dtype=F64), atol=1e-6, rtol=0)
    assert float(handle.multiplier) == pytest.approx(-1.0, abs=1e-6)


DIE = [0.054353, 0.078772, 0.114160, 0.165447, 0.239774, 0.347494]


DICE = [
    (fs.AugmentedLagrangian(dual_lr=0.05), lambda p: torch.optim.SGD(p, lr=0.05), None),
    (fs.AugmentedLagrangian(dual_lr=0.3), lambda p: torch.optim.SGD(p, lr=0.05), None),
    (fs.AugmentedLagrangian(dual_lr=0.05), lambda p: torch.optim.Adam(p, lr=0.01), 0.997),
    (fs.AugmentedLagrangian(growth=2.0), lambda p: torch.optim.Adam(p, lr=0.01), 0.997),
    (fs.Lagrangian(0.05, proportional_gain=1.0), lambda p: torch.optim.SGD(p, lr=0.05), None),
    (fs.Lagrangian(0.05, proportional_gain=1.0), lambda p: torch.optim.Adam(p, lr=0.01), 0.997),
]


@pytest.mark.parametrize(("method", "make", "decay"), DICE)
def test_maximum_entropy_die(method, make, decay):
    p = torch.full((6,), 1 / 6, dtype=F64, requires_grad=True)
    faces = torch.arange(1.0, 7.0, dtype=F64)
    problem = fs.Problem({"p": p})
    problem.constrain("p", fs.Simplex())
    handle = problem.require("mean", fs.Equal(4.5), by=method)
    loss = lambda: ((p * p.clamp_min(1e-30).log()).sum(), {"mean": faces @ p})  # noqa: E731

    def solved():
        entropy = -torch.special.xlogy(p.detach(), p.detach()).sum()
        wanted = torch.tensor(DIE, dtype=F64), -math.log(DIE[1] / DIE[0])
        return near(5e-6, (entropy, 1.613581)) and near(5e-5, *zip((p.detach(), handle.multiplier), wanted))

    descend(loss, problem, make([p]), 2000, decay, solved)
    torch.testing.assert_close(p.detach(), torch.tensor(DIE, dtype=F64), atol=1e-4, rtol=0)
    assert float(-(p * p.log()).sum().detach()) == pytest.approx(1.613581, abs=1e-5)
    # log p is linear in the faces, and the multiplier is its slope.
    assert float(handle.multiplier) == pytest.approx(-math.log(DIE[1] / DIE[0]), abs=1e-4)


def least_norm():
    """min ‖x‖² subject to A x = b, G x ≤ h: the solution and multipliers of cvxpy."""
    rng = np.random.default_rng(0)
    A, b, G = rng.normal(size=(2, 6)), rng.normal(size=2), rng.normal(size=(3, 6))
    free = np.linalg.pinv(A) @ b
    h = G @ free + np.array([-0.5, 1.0, -0.2])  # the first and the last are active
    x = cp.Variable(6)
    rows = [A @ x == b, G @ x <= h]
    cp.Problem(cp.Minimize(cp.sum_squares(x)), rows).solve(solver=cp.CLARABEL)
    tensors = (
        torch.tensor(m, dtype=F64) for m in (A, b, G, h, x.value, rows[0].dual_value, rows[1].dual_value)
    )
    return tuple(tensors)


LEAST_NORM = {
    "sgd": (fs.AugmentedLagrangian(dual_lr=0.3), lambda p: torch.optim.SGD(p, lr=0.02), 4000, None),
    "adam": (fs.AugmentedLagrangian(), lambda p: torch.optim.Adam(p, lr=0.02), 4000, 0.998),
    "lagrangian": (fs.Lagrangian(dual_lr=0.2), lambda p: torch.optim.SGD(p, lr=0.05), 6000, None),
    "nupi, sgd": (fs.Lagrangian(0.2, 1.0, 0.5), lambda p: torch.optim.SGD(p, lr=0.05), 4000, None),
    "nupi, adam": (fs.Lagrangian(0.05, 1.0, 0.5), lambda p: torch.optim.Adam(p, lr=0.02), 4000, 0.998),
    "growing, sgd": (
        fs.AugmentedLagrangian(0.1, 0.005, growth=2.0, max_penalty=10.0),
        lambda p: torch.optim.SGD(p, lr=0.02), 4000, None,
    ),
    "growing, adam": (
        fs.AugmentedLagrangian(growth=2.0, per_element=True),
        lambda p: torch.optim.Adam(p, lr=0.02), 4000, 0.998,
    ),
    "barrier, sgd": (fs.PenaltyBarrier(), lambda p: torch.optim.SGD(p, lr=0.02), 4000, None),
    "barrier, adam": (fs.PenaltyBarrier(), lambda p: torch.optim.Adam(p, lr=0.02), 4000, 0.998),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAST_NORM)
def test_least_norm_under_equalities_and_inequalities(name):
    method, make, steps, decay = LEAST_NORM[name]
    A, b, G, h, solution, equality, inequality = least_norm()
    x = torch.zeros(6, dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    is_barrier = isinstance(method, fs.PenaltyBarrier)
    equal = problem.require(
        "equal", fs.Equal(b), by=fs.AugmentedLagrangian(dual_lr=0.1) if is_barrier else method
    )
    below = problem.require("below", fs.Box(upper=h), by=method)

    def solved():
        found = (x.detach(), solution), (equal.multiplier, equality), (below.multiplier, inequality)
        return near(5e-5, *found)

    loss = lambda: (x.square().sum(), {"equal": A @ x, "below": G @ x})  # noqa: E731
    descend(loss, problem, make([x]), steps, decay, solved)
    torch.testing.assert_close(x.detach(), solution, atol=1e-4, rtol=0)
    torch.testing.assert_close(equal.multiplier, equality, atol=1e-4, rtol=0)
    torch.testing.assert_close(below.multiplier, inequality, atol=1e-4, rtol=0)
    assert float(below.multiplier[1].abs()) < (1e-6 if is_barrier else 1e-10)  # the inactive one


def hs35(x):
    """A quadratic in the positive orthant under one half space."""
    f = 9 - 8 * x[0] - 6 * x[1] - 4 * x[2] + 2 * x[0] ** 2 + 2 * x[1] ** 2 + x[2] ** 2
    return f + 2 * x[0] * x[1] + 2 * x[0] * x[2], torch.cat([(x[0] + x[1] + 2 * x[2] - 3).reshape(1), -x])


def hs43(x):
    """Rosen and Suzuki's; the second of three inequalities is inactive."""
    a, b, c, d = x
    f = a**2 + b**2 + 2 * c**2 + d**2 - 5 * a - 5 * b - 21 * c + 7 * d
    g = a**2 + b**2 + c**2 + d**2 + a - b + c - d - 8, a**2 + 2 * b**2 + c**2 + 2 * d**2 - a - d - 10
    return f, torch.stack([*g, 2 * a**2 + b**2 + c**2 + 2 * a - b - d - 5]) / 4


# Hock and Schittkowski's numbers: f and g, the solution, and λ of g ≤ 0.
INEQUALITIES = {
    "platt and barr": (lambda x: (x.square().sum(), 1 - x.sum()), [0.5, 0.5], 1.0),
    "inactive": (lambda x: ((x - 1).square().sum(), x.sum() - 3), [1.0, 1.0], 0.0),
    "hs12": (
        lambda x: (
            x[0] ** 2 / 2 + x[1] ** 2 - x[0] * x[1] - 7 * x[0] - 7 * x[1],
            (4 * x[0] ** 2 + x[1] ** 2 - 25) / 10,
        ),
        [2.0, 3.0],
        5.0,
    ),
    "hs35": (hs35, [4 / 3, 7 / 9, 4 / 9], [2 / 9, 0.0, 0.0, 0.0]),
    "hs43": (hs43, [0.0, 1.0, 2.0, -1.0], [4.0, 0.0, 8.0]),
}  # fmt: skip
SOLVERS = [
    fs.AugmentedLagrangian(2.0, 0.2),
    fs.AugmentedLagrangian(1.0, 0.05, growth=2.0),
    fs.Lagrangian(0.1, proportional_gain=1.0),
    fs.PenaltyBarrier(),
]


NAMES = ["augmented", "growing", "nuPI", "barrier"]
LONG = {("hs43", name, "sgd") for name in NAMES[1:]}
"""Trainings of thousands of steps."""
TRAININGS = [
    pytest.param(name, method, optimizer, id=f"{optimizer}-{said}-{name}",
                 marks=[pytest.mark.slow] if (name, said, optimizer) in LONG else [])
    for optimizer in ("sgd", "adam")
    for said, method in zip(NAMES, SOLVERS)
    for name in INEQUALITIES
]  # fmt: skip


@pytest.mark.parametrize(("name", "method", "optimizer"), TRAININGS)
def test_inequalities(name, method, optimizer):
    function, solution, multiplier = INEQUALITIES[name]
    solution, multiplier = torch.tensor(solution, dtype=F64), torch.tensor(multiplier, dtype=F64)
    x = torch.zeros_like(solution).requires_grad_()
    problem = fs.Problem([x])
    handle = problem.require("g", fs.Box(upper=0.0), by=method)

    def solved():
        return near(5e-5, (x.detach(), solution), (handle.multiplier, multiplier))

    def loss():
        f, g = function(x)
        return f, {"g": g}

    make, decay = (torch.optim.SGD, None) if optimizer == "sgd" else (torch.optim.Adam, 0.999)
    descend(loss, problem, make([x], lr=0.02), 6000, decay, solved)
    torch.testing.assert_close(x.detach(), solution, atol=1e-4, rtol=0)
    torch.testing.assert_close(handle.multiplier, multiplier, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", [c for c in METHODS if c.finds_multipliers], ids=names)
def test_multiplier_of_a_bound_that_becomes_inactive_returns_to_zero(case):
    x = torch.tensor([3.0], dtype=F64, requires_grad=True)
    aim = [3.0]
    problem = fs.Problem([x])
    handle = problem.require("x", fs.Box(upper=1.0), by=case.method)
    optimizer = torch.optim.SGD([x], lr=0.1)
    for aim, at, multiplier in ((3.0, 1.0, 2.0), (0.0, 0.0, 0.0)):
        loss = lambda aim=aim: (0.5 * (x - aim).square().sum(), {"x": x})  # noqa: E731

        def solved(at=at, multiplier=multiplier):
            return near(1e-4, (x.detach(), at), (handle.multiplier, multiplier))

        descend(loss, problem, optimizer, 4 * case.steps, solved=solved)
        problem.detach(optimizer)
        assert solved()


def test_unit_ball_with_a_scalar_constraint_and_with_the_set():
    """min −⟨c, x⟩ on the unit ball: x = c/‖c‖; λ of ‖x‖² ≤ 1 is ‖c‖/2, of x ∈ ball it is c itself."""
    c = torch.tensor([3.0, 4.0], dtype=F64)
    for value, set, wanted in (
        (lambda x: x.square().sum(), fs.Box(upper=1.0), torch.tensor(2.5, dtype=F64)),
        (lambda x: x, fs.L2Ball(1.0), c),
    ):
        x = torch.zeros(2, dtype=F64, requires_grad=True)
        problem = fs.Problem([x])
        handle = problem.require("ball", set, by=fs.AugmentedLagrangian(penalty=5.0, dual_lr=2.0))
        loss = lambda x=x, value=value: (-(c @ x), {"ball": value(x)})  # noqa: E731

        def solved(x=x, handle=handle, wanted=wanted):
            return near(2e-5, (x.detach(), c / 5), (handle.multiplier, wanted))

        descend(loss, problem, torch.optim.SGD([x], lr=0.03), 2000, solved=solved)
        torch.testing.assert_close(x.detach(), c / 5, atol=1e-4, rtol=0)
        torch.testing.assert_close(handle.multiplier, wanted, atol=1e-4, rtol=0)


# Half batches make the gradient noisy even at the solution: what remains goes down with the rate.
SAMPLED = [
    (torch.optim.SGD, 0.1, 4, 2000, 1.0, 1e-4),
    (torch.optim.SGD, 0.1, 2, 6000, 0.9992, 2e-2),
    (torch.optim.Adam, 0.02, 4, 1500, 1.0, 1e-4),
]


@pytest.mark.parametrize(("make", "rate", "batch", "steps", "decay", "accuracy"), SAMPLED)
def test_least_norm_solution_from_sampled_equations(make, rate, batch, steps, decay, accuracy):
    """Every equation has its own multiplier, and the batches come in another order each time."""
    rng = torch.Generator().manual_seed(1)
    A = torch.randn(4, 10, dtype=F64, generator=rng) / math.sqrt(5)
    b = torch.randn(4, dtype=F64, generator=rng)
    solution = torch.linalg.pinv(A) @ b
    x = torch.zeros(10, dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    method = fs.AugmentedLagrangian(penalty=0.5, dual_lr=0.1)
    handle = problem.require("rows", fs.Equal(0.0), per="index", size=4, by=method)
    order = iter(lambda: torch.randperm(4, generator=rng).split(batch), None)
    batches = itertools.chain.from_iterable(order)

    def loss():
        index = next(batches)
        return 0.5 * x.square().sum(), {"rows": (A[index] @ x - b[index], index)}

    def solved():
        known = handle.multiplier is not None
        return known and near(accuracy / 10, (x.detach(), solution), (A.T @ handle.multiplier, -solution))

    descend(loss, problem, make([x], lr=rate), steps, decay, solved)
    torch.testing.assert_close(x.detach(), solution, atol=accuracy, rtol=0)
    # ∇f + Aᵀλ = 0: the sum over samples, each with its own multiplier
    torch.testing.assert_close(A.T @ handle.multiplier, -solution, atol=2 * accuracy, rtol=0)


@pytest.mark.parametrize("method", [fs.SquaredSlack(), fs.PenaltyBarrier()], ids=["slack", "barrier"])
def test_inequalities_of_samples_in_mini_batches(method):
    """min ½‖x − a‖² with x_i ≥ 0 for each sample i, two at a time."""
    a = torch.tensor([-1.0, 2.0, -0.5, 0.3], dtype=F64)
    x = a.clone().requires_grad_()
    problem = fs.Problem([x])
    handle = problem.require("x", fs.NonNegative(), per="index", size=4, by=method)
    batches = itertools.cycle([torch.tensor([0, 1]), torch.tensor([2, 3])])

    def loss():
        index = next(batches)
        return 0.5 * (x - a).square().sum(), {"x": (x[index], index)}

    def solved():
        nearest = a.clamp_min(0)
        return near(5e-4, (x.detach(), nearest)) and near(5e-3, (handle.multiplier, a - nearest))

    descend(loss, problem, torch.optim.SGD([x], lr=0.1), 4000, 0.9975, solved)
    torch.testing.assert_close(x.detach(), a.clamp_min(0), atol=1e-3, rtol=0)
    torch.testing.assert_close(handle.multiplier, a - a.clamp_min(0), atol=1e-2, rtol=0)


# -- barriers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.2, 0.02])
@pytest.mark.parametrize("kind", ["log", "inverse"])
def test_barrier_solution_is_off_by_its_weight(weight, kind):
    """min x on x ≥ 0 with weight·φ(x): x = weight (log), √weight (inverse)."""
    x = torch.tensor([1.0], dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    problem.constrain("0", fs.NonNegative(), by=fs.Barrier(weight, kind=kind))
    exact = weight if kind == "log" else math.sqrt(weight)
    solved = lambda: near(1e-5, (x.detach(), exact))  # noqa: E731
    descend(lambda: (x.sum(), {}), problem, torch.optim.SGD([x], lr=0.01), 4000, 0.999, solved)
    assert solved()


BARRIER_SETS = ["box", "non-negative", "at most", "tensor bounds", "ball", "ball of all", "masked"]


@pytest.mark.parametrize("name", BARRIER_SETS)
@pytest.mark.parametrize("kind", ["log", "inverse"])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam], ids=lambda m: m.__name__)
def test_guarded_weights_never_leave_the_interior(name, kind, make):
    x = target().requires_grad_()
    problem = fs.Problem([x])
    problem.constrain("0", SETS[name], by=fs.Barrier(kind=kind))
    set = SETS[name].bind(x.detach())
    optimizer = problem.attach(make([x], lr=0.3))
    for step in range(100):
        assert all(bool((slack > 0).all()) for slack in set.slack(x.detach()))
        optimizer.zero_grad()
        problem.loss((x * target(step)).sum() * 5).backward()
        optimizer.step()
    problem.finish()
    assert all(bool((slack > 0).all()) for slack in set.slack(x.detach()))
    assert problem.report().feasible


def test_a_decreasing_weight_reaches_the_bound():
    x = torch.tensor([0.5], dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    weight = fs.schedules.Exponential(1e-1, 0.99, minimum=1e-5)
    problem.constrain("0", fs.Box(0, 1), by=fs.Barrier(weight, margin=1e-6))
    descend(lambda: (2 * x.sum(), {}), problem, torch.optim.Adam([x], lr=0.02), 2500, 0.997)
    assert 0 < float(x.detach()) < 1e-3


def test_barrier_on_a_value_pulls_it_back_from_outside():
    x = torch.tensor([-0.5], dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    problem.require("x", fs.NonNegative(), by=fs.Barrier(1e-2))
    descend(
        lambda: (0.5 * (x - 1).square().sum(), {"x": x * 1}), problem, torch.optim.SGD([x], lr=1e-3), 3000
    )
    # x² − x = weight
    assert float(x.detach()) == pytest.approx((1 + math.sqrt(1.04)) / 2, abs=0.05)


# -- shadow prices ------------------------------------------------------------------------------------


def solved(width, method):
    """min ½‖x − a‖² with ‖x‖∞ ≤ width, and the price that the report gives."""
    a = torch.tensor([2.0, 0.1, -3.0], dtype=F64)
    x = torch.zeros(3, dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    set = fs.Box(-width, width)
    if method.for_values:
        problem.require("x", set, by=method)
    else:
        problem.constrain("0", set, by=method, name="x")
    loss = lambda: (0.5 * (x - a).square().sum(), {"x": x} if method.for_values else {})  # noqa: E731
    descend(loss, problem, torch.optim.SGD([x], lr=0.2), 300)
    return float(0.5 * (x - a).square().sum().detach()), problem.report()["x"].shadow_price


@pytest.mark.parametrize(
    "method", [fs.AugmentedLagrangian(dual_lr=0.5), fs.Project(), fs.Project(tangent=True)], ids=str
)
def test_shadow_price_is_the_derivative_of_the_optimal_loss(method):
    step = 1e-3
    wide, price, narrow = solved(1 + step, method)[0], solved(1.0, method)[1], solved(1 - step, method)[0]
    if method == fs.Project(tangent=True):
        assert price is None  # the gradient of a separable set is not kept: nothing is made up
    else:
        assert price == pytest.approx((narrow - wide) / (2 * step), rel=1e-3)
