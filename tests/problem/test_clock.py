"""When a step counts: accumulation, closures, skipped steps, several optimizers, hooks that come and go."""

import copy
import math
from contextlib import nullcontext

import pytest
import torch

import feasible as fs

F64 = torch.float64


def vector(*numbers):
    return torch.tensor(numbers, dtype=F64, requires_grad=True)


def lagrangian(rho=2.0, rate=0.2):
    return fs.AugmentedLagrangian(penalty=rho, dual_lr=rate)


def bare(average=None, per="value", method=None, set=None, **extra):
    """A problem on one number, whose value the tests hand in themselves."""
    x = vector(1.0)
    problem = fs.Problem([x])
    handle = problem.require(
        "v", set or fs.Equal(0.0), by=method or lagrangian(), per=per, average=average, **extra
    )
    return x, problem, handle, problem.attach(torch.optim.SGD([x], lr=0.0))


def ticks(problem):
    return problem.report()["v"].steps


# -- accumulation -------------------------------------------------------------------------------------


def test_two_micro_batches_are_one_window():
    """λ moves on the mean of the window; the gradient uses the mean of what was recorded so far."""
    x, problem, handle, optimizer = bare()
    for _ in range(2):  # the second window starts afresh
        before = handle.multiplier if ticks(problem) else torch.zeros(1, dtype=F64)
        optimizer.zero_grad()
        seen = []
        for value in (1.0, 4.0):
            problem.loss(0.0 * x.sum(), v=value * x).backward()
            seen.append(x.grad.clone())
        # λ⁺(1)·1 and λ⁺(2.5)·4
        torch.testing.assert_close(seen[0], before + 2 * 1.0)
        torch.testing.assert_close(seen[1] - seen[0], 4 * (before + 2 * 2.5))
        optimizer.step()
        torch.testing.assert_close(handle.multiplier, before + 0.1 * (2 * 2.5))
    assert ticks(problem) == 2


def test_a_window_average_gives_the_full_batchs_gradient():
    """With average="window" all micro-batches see the same v̄: their gradients add up."""
    x, problem, handle, optimizer = bare(average="window")
    mean = None
    for values in ((1.0, 3.0), (2.0, 8.0), (-1.0, 4.0)):
        before = handle.multiplier if mean is not None else torch.zeros(1, dtype=F64)
        optimizer.zero_grad()
        for value in values:
            problem.loss(0.0 * x.sum(), v=value * x).backward()
        at = values if mean is None else (mean, mean)
        expected = sum(v * (before + 2 * a) for v, a in zip(values, at, strict=True))
        torch.testing.assert_close(x.grad, expected)
        optimizer.step()
        mean = sum(values) / 2
        torch.testing.assert_close(handle.multiplier, before + 0.1 * 2 * mean)


def test_a_running_mean_lets_noise_go():
    """A constraint that holds in the mean ends with multiplier 0 under unit noise."""
    ended = {}
    for average in (None, 0.95):
        torch.manual_seed(0)
        x, problem, handle, optimizer = bare(
            average=average, set=fs.Box(upper=0.0), method=lagrangian(1.0, 0.05)
        )
        late = []
        for step in range(1500):
            optimizer.zero_grad()
            problem.loss(0.0 * x.sum(), v=-0.75 + torch.randn(1, dtype=F64) + 0 * x).backward()
            optimizer.step()
            if step > 500:
                late.append(float(handle.multiplier))
        ended[average] = sum(late) / len(late)
    assert ended[None] > 0.1
    assert ended[0.95] < 0.02


def test_two_losses_before_one_backward_belong_to_one_window():
    x, problem, handle, optimizer = bare()
    first = problem.loss(0.0 * x.sum(), v=1.0 * x)
    second = problem.loss(0.0 * x.sum(), v=4.0 * x)
    (first + second).backward()
    optimizer.step()
    torch.testing.assert_close(handle.multiplier, torch.full((1,), 0.1 * 2 * 2.5, dtype=F64))


def test_a_step_that_never_came_leaves_nothing_behind():
    x, problem, handle, optimizer = bare()
    problem.loss(0.0 * x.sum(), v=100.0 * x).backward()
    optimizer.zero_grad()  # dropped
    problem.loss(0.0 * x.sum(), v=1.0 * x).backward()
    optimizer.step()
    torch.testing.assert_close(handle.multiplier, torch.full((1,), 0.2, dtype=F64))


def test_zero_grad_with_zeros_keeps_windows_apart_too():
    x, problem, handle, optimizer = bare()
    for _ in range(2):
        optimizer.zero_grad(set_to_none=False)
        problem.loss(0.0 * x.sum(), v=1.0 * x).backward()
        optimizer.step()
    torch.testing.assert_close(handle.multiplier, torch.full((1,), 0.4, dtype=F64))


def test_what_is_recorded_is_a_copy():
    """Values that are changed afterwards, as in the step itself, do not change the multiplier."""
    for method in (lagrangian(), fs.Lagrangian(0.2)):
        x = vector(3.0)
        problem = fs.Problem([x])
        handle = problem.require("v", fs.Equal(0.0), by=method)
        optimizer = problem.attach(torch.optim.SGD([x], lr=1.0))
        problem.loss(100 * x.sum(), v=x).backward()
        optimizer.step()
        torch.testing.assert_close(handle.multiplier, torch.full((1,), 0.2 * 3.0, dtype=F64))


def test_without_hooks_only_the_tick_closes_a_window():
    x = vector(1.0)
    problem = fs.Problem([x])
    handle = problem.require("v", fs.Equal(0.0), by=lagrangian())
    problem.constrain("0", fs.Box(upper=0.5))
    for _ in range(2):
        x.grad = None
        for value in (1.0, 4.0):
            problem.loss(0.0 * x.sum(), v=value * x / x.detach()).backward()
        with torch.no_grad():
            x += 1.0
        problem.step()
        assert x.tolist() == [0.5]
    torch.testing.assert_close(handle.multiplier, torch.full((1,), 2 * 0.1 * 2 * 2.5, dtype=F64))
    assert "Never attached" not in str(problem.report())


def test_hooked_and_unhooked_loops_agree():
    def run(hooked):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        problem = fs.Problem(model)
        problem.constrain("weight", fs.Box(-0.2, 0.2))
        problem.require("positive", fs.NonNegative(), per="sample")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        if hooked:
            problem.attach(optimizer)
        for _ in range(20):
            optimizer.zero_grad()
            prediction = model(torch.randn(8, 3))
            problem.loss((prediction + 1).square().mean(), positive=prediction).backward()
            optimizer.step()
            if not hooked:
                problem.step()
        return {**model.state_dict(), **problem.state_dict()}

    first, second = run(True), run(False)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_evaluation_records_nothing():
    x, problem, handle, optimizer = bare()
    problem.loss(0.0 * x.sum(), v=1.0 * x).backward()
    with torch.no_grad():
        problem.loss(0.0 * x.sum(), v=50.0 * x)
    problem.terms(v=70.0 * x)
    optimizer.step()
    torch.testing.assert_close(handle.multiplier, torch.full((1,), 0.2, dtype=F64))
    assert ticks(problem) == 1


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("per", ["value", "sample"])
@pytest.mark.parametrize("method", [fs.AugmentedLagrangian(), fs.Lagrangian(), fs.Penalty(1.0)], ids=str)
def test_evaluation_may_come_first(context, per, method):
    model = torch.nn.Linear(3, 2)
    problem = fs.Problem(model)
    problem.require("v", fs.Box(0, torch.tensor([1.0, 2.0])), by=method, per=per)
    optimizer = problem.attach(torch.optim.Adam(model.parameters()))
    x = torch.randn(5, 3)
    with context():
        before = problem.loss(torch.zeros(()), v=model(x))
    for _ in range(2):
        optimizer.zero_grad()
        loss = problem.loss(torch.zeros(()), v=model(x))
        loss.backward()
        optimizer.step()
    assert torch.isfinite(before)
    assert torch.isfinite(model.weight).all()


# -- closures -----------------------------------------------------------------------------------------


def least_squares(make, method, steps):
    """min ‖x − (1, 2, 3)‖² with Σx = 1 and x ≤ 1: x = (1/3·…) known from its optimality conditions."""
    x = vector(0.0, 0.0, 0.0)
    a = torch.tensor([1.0, 2.0, 3.0], dtype=F64)
    problem = fs.Problem([x])
    total = problem.require("total", fs.Equal(1.0), by=method)
    upper = problem.require("upper", fs.Box(upper=1.0), by=method)
    optimizer = problem.attach(make([x]))

    def closure():
        optimizer.zero_grad()
        loss = problem.loss(0.5 * (x - a).square().sum(), total=x.sum(), upper=x)
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return x.detach(), total.multiplier, upper.multiplier, problem


def test_lbfgs_takes_the_full_dual_step_and_converges():
    def make(p):
        return torch.optim.LBFGS(p, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe")

    x, total, upper, problem = least_squares(make, fs.AugmentedLagrangian(), 40)
    # Σx = 1, x ≤ 1: x = a − t − λ with λ on the last alone.
    torch.testing.assert_close(x, torch.tensor([-0.5, 0.5, 1.0], dtype=F64), atol=1e-7, rtol=0)
    torch.testing.assert_close(total, torch.tensor(1.5, dtype=F64), atol=1e-7, rtol=0)
    torch.testing.assert_close(upper, torch.tensor([0.0, 0.0, 0.5], dtype=F64), atol=1e-7, rtol=0)
    assert problem.report()["total"].steps == 40


@pytest.mark.parametrize("method", [fs.AugmentedLagrangian(), fs.SquaredSlack()], ids=str)
def test_lbfgs_closures_record_once(method):
    x = vector(3.0)
    problem = fs.Problem([x])
    handle = problem.require("x", fs.Box(upper=1.0), by=method)
    lbfgs = torch.optim.LBFGS([x], tolerance_change=1e-14, line_search_fn="strong_wolfe")
    optimizer = problem.attach(lbfgs)

    def closure():
        optimizer.zero_grad()
        loss = problem.loss(0.5 * (x - 3).square().sum(), x=x)
        loss.backward()
        return loss

    for _ in range(60):
        optimizer.step(closure)
    assert float(x.detach()) == pytest.approx(1.0, abs=1e-5)
    assert float(handle.multiplier) == pytest.approx(2.0, abs=1e-5)


def test_adam_with_a_closure_is_adam_without():
    def run(with_closure):
        x = vector(3.0, -1.0)
        problem = fs.Problem([x])
        handle = problem.require("x", fs.Box(upper=1.0), by=lagrangian())
        problem.constrain("0", fs.SumTo(1.0))
        optimizer = problem.attach(torch.optim.Adam([x], lr=0.1))

        def closure():
            optimizer.zero_grad()
            loss = problem.loss((x - 3).square().sum(), x=1 * x)
            loss.backward()
            return loss

        for _ in range(10):
            if with_closure:
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
        return x.detach(), handle.multiplier

    for a, b in zip(run(True), run(False), strict=True):
        assert torch.equal(a, b)


def test_the_last_call_of_a_closure_counts():
    x, problem, handle, optimizer = bare()
    calls = iter([5.0, 1.0])

    def closure():
        optimizer.zero_grad()
        for value in calls:  # a closure that evaluates twice
            loss = problem.loss(0.0 * x.sum(), v=value * x)
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(handle.multiplier, torch.full((1,), 0.2, dtype=F64))


@pytest.mark.parametrize("where", ["before", "inside", "after"])
def test_an_exception_in_a_closure_leaves_no_trace(where):
    x, problem, handle, optimizer = bare()
    broken = [True]

    def closure():
        optimizer.zero_grad()
        if broken[0] and where == "before":
            raise KeyboardInterrupt
        value = {"w" if broken[0] and where == "inside" else "v": (9.0 if broken[0] else 1.0) * x}
        loss = problem.loss(0.0 * x.sum(), value)
        loss.backward()
        if broken[0]:
            raise KeyboardInterrupt
        return loss

    error = ValueError if where == "inside" else KeyboardInterrupt
    with pytest.raises(error):
        optimizer.step(closure)
    assert ticks(problem) == 0
    broken[0] = False
    optimizer.step(closure)
    torch.testing.assert_close(handle.multiplier, torch.full((1,), 0.2, dtype=F64))
    optimizer.zero_grad()
    problem.loss(0.0 * x.sum(), v=1.0 * x).backward()  # and outside of closures all is as ever
    optimizer.step()
    torch.testing.assert_close(handle.multiplier, torch.full((1,), 0.4, dtype=F64))


def test_an_exception_in_loss_records_nothing():
    x = vector(1.0)
    problem = fs.Problem([x])
    first = problem.require("first", fs.Equal(0.0), by=lagrangian())
    problem.require("second", fs.Equal(0.0), by=lagrangian())
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.0))
    with pytest.raises(ValueError, match="expected a tensor"):
        problem.loss(0.0 * x.sum(), first=9.0 * x, second="nothing")
    problem.loss(0.0 * x.sum(), first=1.0 * x, second=x).backward()
    with pytest.raises(ValueError, match="shape"):
        problem.loss(0.0 * x.sum(), first=9.0 * x, second=torch.ones(2))
    optimizer.step()
    torch.testing.assert_close(first.multiplier, torch.full((1,), 0.2, dtype=F64))


# -- skipped steps ------------------------------------------------------------------------------------


def test_a_step_that_the_scaler_skips_moves_nothing():
    x, problem, handle, optimizer = bare(method=lagrangian())
    scaler = torch.amp.GradScaler(device="cpu", init_scale=4.0)
    seen = []
    for factor in (1.0, float("inf"), float("inf"), 1.0):
        optimizer.zero_grad()
        loss = problem.loss(0.0 * x.sum(), v=1.0 * x)
        scaler.scale(loss * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        seen.append((ticks(problem), round(float(handle.multiplier), 6)))
    # the skipped windows were dropped: the last one holds one value, not three
    assert seen == [(1, 0.2), (1, 0.2), (1, 0.2), (2, 0.4)]


class FusedSGD(torch.optim.SGD):
    """As fused optimizers do under a scaler: the step runs, and does nothing where found_inf says so."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self._step_supports_amp_scaling = True

    def step(self, closure=None):
        if not bool(self.found_inf):
            for group in self.param_groups:
                for p in group["params"]:
                    with torch.no_grad():
                        p -= group["lr"] * p.grad / self.grad_scale


def test_fused_steps_that_skip_by_themselves_move_nothing():
    x = vector(0.5, 0.5)
    problem = fs.Problem([x])
    handle = problem.require("v", fs.Equal(0.0), by=lagrangian())
    problem.constrain("0", fs.Simplex())
    optimizer = problem.attach(FusedSGD([x], lr=0.1))
    scaler = torch.amp.GradScaler(device="cpu", init_scale=1024.0)
    seen = []
    for factor in (1.0, float("inf"), 1.0):
        before = x.detach().clone()
        optimizer.zero_grad()
        loss = problem.loss(x[0] - x[1], v=x[:1] / x[:1].detach())
        scaler.scale(loss * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        seen.append((ticks(problem), round(float(handle.multiplier), 6), not torch.equal(before, x)))
    assert seen == [(1, 0.2, True), (1, 0.2, False), (2, 0.4, True)]


def test_gradient_mappings_under_a_fused_scaler_see_true_units():
    ends = []
    for scale in (1.0, 2.0**12):
        x = vector(0.2, 0.3, 0.5)
        problem = fs.Problem([x])
        problem.constrain("0", fs.Simplex())
        optimizer = problem.attach(FusedSGD([x], lr=0.1))
        scaler = torch.amp.GradScaler(device="cpu", init_scale=scale)
        for _ in range(20):
            optimizer.zero_grad()
            scaler.scale(problem.loss((x - torch.tensor([1.0, 0.3, -1.0])).square().sum())).backward()
            scaler.step(optimizer)
            scaler.update()
        ends.append(x.detach())
    torch.testing.assert_close(ends[0], ends[1])


# -- several optimizers, hooks that come and go ----------------------------------------------------------


def two_players():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    problem = fs.Problem(model)
    problem.constrain("*.weight", fs.Box(-0.1, 0.1))
    handle = problem.require("v", fs.Equal(0.0), by=lagrangian())
    a = torch.optim.SGD(model["a"].parameters(), lr=1.0)
    b = torch.optim.SGD(model["b"].parameters(), lr=1.0)
    return model, problem, handle, a, b


def spoil(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(5.0)
            parameter.grad = torch.zeros_like(parameter)


@pytest.mark.parametrize("leader", ["first", "second"])
def test_only_the_clock_ticks_and_each_projects_what_it_owns(leader):
    model, problem, _, a, b = two_players()
    problem.attach(a)
    problem.attach(b, clock=leader == "second")
    problem.loss(model["a"].weight.sum(), v=model["b"].bias.sum())
    spoil(model)
    a.step()
    assert float(model["a"].weight.detach().max()) == pytest.approx(0.1)
    assert float(model["b"].weight.detach().max()) == 5.0
    assert ticks(problem) == (leader == "first")
    b.step()
    assert float(model["b"].weight.detach().max()) == pytest.approx(0.1)
    assert float(model["a"].bias.detach().max()) == 5.0
    assert ticks(problem) == 1


def test_the_next_optimizer_becomes_the_clock():
    model, problem, _, a, b = two_players()
    problem.attach(a)
    problem.attach(b)
    problem.detach(a)
    spoil(model)
    problem.loss(model["a"].weight.sum(), v=model["b"].bias.sum())
    a.step()
    assert float(model["a"].weight.detach().max()) == 5.0
    assert ticks(problem) == 0
    with pytest.warns(UserWarning, match=r"no attached optimizer holds a\.weight"):
        b.step()
    assert ticks(problem) == 1
    with pytest.raises(ValueError, match="not attached"):
        problem.detach(a)
    problem.attach(a)
    with pytest.raises(ValueError, match="attached already"):
        problem.attach(a)


def test_constraints_come_go_and_rest_while_training():
    x = vector(2.0, -2.0)
    problem = fs.Problem([x])
    optimizer = problem.attach(torch.optim.SGD([x], lr=1.0))

    def step(**values):
        optimizer.zero_grad()
        problem.loss(0.0 * x.sum(), values).backward()
        optimizer.step()
        return x.tolist()

    assert step() == [2.0, -2.0]
    box = problem.constrain("0", fs.Box(-1, 1))
    total = problem.require("total", fs.Equal(1.0), by=lagrangian())
    step(total=x.sum())
    assert problem.report()["total"].steps == 1
    box.enabled = total.enabled = False
    assert not box.enabled
    with torch.no_grad():
        x.fill_(3.0)
    multiplier = total.multiplier
    assert step() == [3.0, 3.0]
    assert torch.equal(total.multiplier, multiplier)
    assert problem.report()["total"].steps == 1
    assert "switched off" in problem.report()["0"].diagnosis
    box.enabled = True
    assert step() == [1.0, 1.0]
    total.enabled = True
    step(total=x.sum())
    assert problem.report()["total"].steps == 2
    box.remove()
    box.remove()  # twice is once
    total.remove()
    with torch.no_grad():
        x.fill_(3.0)
    assert step() == [3.0, 3.0]
    problem.require("total", fs.Equal(1.0))  # the name is free again


def test_constraints_that_come_after_lbfgs_are_checked_too():
    x = vector(2.0)
    problem = fs.Problem([x])
    problem.attach(torch.optim.LBFGS([x]))
    for method in (fs.Project(), fs.Barrier()):
        with pytest.raises(fs.UnsupportedError, match=r"curvature(?s:.*)ProjectedLBFGS"):
            problem.constrain("0", fs.Box(-1, 1), by=method)
    assert not problem.constraints
    problem.constrain("0", fs.Box(-1, 1), by=fs.AugmentedLagrangian())


@pytest.mark.parametrize("method", [fs.Project(), fs.Barrier()], ids=str)
def test_projections_under_lbfgs_are_refused(method):
    x, y = vector(2.0), vector(2.0)
    problem = fs.Problem({"x": x, "y": y})
    problem.constrain("x", fs.Box(-1, 1), by=method)
    with pytest.raises(fs.UnsupportedError, match=r"curvature(?s:.*)ProjectedLBFGS"):
        problem.attach(torch.optim.LBFGS([x, y]))
    problem.attach(torch.optim.LBFGS([y]))  # it does not own x


def test_frozen_weights_are_welcome_under_lbfgs():
    model = torch.nn.Linear(2, 1)
    problem = fs.Problem(model)
    problem.freeze("bias")
    problem.attach(torch.optim.LBFGS(model.parameters()))


def test_parameter_groups_added_later_are_projected():
    a, b = vector(0.0), vector(0.0)
    problem = fs.Problem({"a": a, "b": b})
    problem.constrain("*", fs.Box(upper=1.0))
    optimizer = problem.attach(torch.optim.SGD([a], lr=1.0))
    for added in (False, True):
        if added:
            optimizer.add_param_group({"params": [b]})
        optimizer.zero_grad()
        problem.loss(-5 * (a + b).sum()).backward()
        with nullcontext() if added else pytest.warns(UserWarning, match="no attached optimizer holds b"):
            optimizer.step()
        assert (a.item(), b.item()) == (1.0, 1.0 if added else 0.0)


def test_groups_with_different_sets_and_dtypes_are_not_mixed():
    """Each group obeys its own set (not the last group's radius)."""
    x = {name: vector(3.0, 4.0) for name in "abc"}
    x["c"] = torch.tensor([3.0, 4.0], requires_grad=True)
    problem = fs.Problem(x)
    for name, radius in (("a", 1.0), ("b", 2.0), ("c", 2.0)):
        problem.constrain(name, fs.L2Ball(radius))
    optimizer = problem.attach(torch.optim.SGD([{"params": [v]} for v in x.values()], lr=1.0))
    for _ in range(3):
        optimizer.zero_grad()
        problem.loss(-sum(v.double().sum() for v in x.values())).backward()
        optimizer.step()
    lengths = [float(v.detach().norm()) for v in x.values()]
    assert lengths == pytest.approx([1.0, 2.0, 2.0], rel=1e-6)


def test_schedulers_and_optimizer_copies_do_not_mind():
    x, problem, _, optimizer = bare()
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=5)
    for _ in range(4):
        optimizer.zero_grad()
        problem.loss(x.sum(), v=x).backward()
        optimizer.step()
        scheduler.step()
    assert ticks(problem) == 4
    twin = copy.deepcopy(optimizer)  # without hooks
    twin.step()
    assert ticks(problem) == 4


# -- what was forgotten -----------------------------------------------------------------------------------


def test_a_loss_that_was_never_called_is_an_error_at_the_first_tick():
    x, _, handle, optimizer = bare()
    x.sum().backward()
    with pytest.raises(RuntimeError, match=r"never seen: v(?s:.*)backward through problem.loss"):
        optimizer.step()
    handle.enabled = False
    optimizer.step()


def test_a_problem_that_was_never_attached_says_so():
    x = vector(1.0)
    problem = fs.Problem([x])
    problem.require("v", fs.Equal(0.0))
    problem.constrain("0", fs.Box(-1, 1))
    problem.loss(x.sum(), v=x).backward()
    assert "Never attached" in str(problem.report())


# -- wrappers -------------------------------------------------------------------------------------------


class DistributedDataParallel(torch.nn.Module):
    """Named and shaped as torch's own; what is inside counts."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs):
        return self.module(*inputs)


WRAPPERS = {
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "parallel": DistributedDataParallel,
    "compiled parallel": lambda m: torch.compile(DistributedDataParallel(m), backend="eager"),
    "parallel compiled": lambda m: DistributedDataParallel(torch.compile(m, backend="eager")),
    "part compiled": lambda m: torch.nn.Sequential(torch.compile(m, backend="eager")),
}


@pytest.mark.parametrize("method", [fs.Project(), fs.Reparametrize("softplus")], ids=str)
@pytest.mark.parametrize("name", WRAPPERS)
def test_names_are_canonical_inside_wrappers(name, method):
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1))
    keys = list(plain.state_dict())
    model = WRAPPERS[name](plain)
    prefix = "0." if name == "part compiled" else ""
    problem = fs.Problem(model)
    assert list(problem.slots) == [prefix + key for key in keys]
    problem.constrain("*weight", fs.NonNegative(), by=method)
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    for _ in range(2):
        optimizer.zero_grad()
        problem.loss(model(torch.randn(4, 2)).sum()).backward()
        optimizer.step()
    assert list(problem.feasible_state_dict()) == [prefix + key for key in keys]
    assert all("_orig_mod" not in key and "module." not in key for key in problem.state_dict())
    problem.finish()
    assert list(plain.state_dict()) == keys
    assert bool((plain[0].weight >= 0).all())


def skipping_loop(value_of, steps=12):
    """A loop that leaves out steps whose loss is not finite, as people write it."""
    x = torch.tensor([1.0], requires_grad=True)
    problem = fs.Problem([x])
    handle = problem.require("c", fs.Equal(0.0), by=fs.AugmentedLagrangian(penalty=1.0, dual_lr=0.1))
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.01))
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = problem.loss((x**2).sum(), c=value_of(x, step))
        losses.append(float(loss.detach()))
        if math.isfinite(losses[-1]):
            loss.backward()
            optimizer.step()
    return losses, handle


def test_a_step_left_out_because_of_nan_does_not_spoil_the_next():
    losses, handle = skipping_loop(lambda x, step: x.sum() * (float("nan") if step == 5 else 1.0))
    assert [math.isfinite(loss) for loss in losses] == [step != 5 for step in range(12)]
    assert bool(handle.multiplier.isfinite().all())


def test_a_loss_that_is_never_backpropagated_moves_no_multiplier():
    x = torch.tensor([1.0], requires_grad=True)
    problem = fs.Problem([x])
    handle = problem.require("c", fs.Equal(0.0), by=fs.AugmentedLagrangian(penalty=1.0, dual_lr=0.1))
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.0))
    problem.loss((x**2).sum(), c=x.sum() + 100)  # a validation pass that forgot no_grad
    problem.loss((x**2).sum(), c=x.sum()).backward()
    optimizer.step()
    assert float(handle.multiplier) == pytest.approx(0.1)
