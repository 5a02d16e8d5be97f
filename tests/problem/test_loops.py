"""Everybody's loop: what people do around a step changes nothing of what the step means."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import feasible as fs


class Regression:
    """A small network, data, and a mean that must be 0.3: all from one seed."""

    def __init__(self, by=None, dtype=torch.float32, make=None, wrap=lambda network: network):
        torch.manual_seed(0)
        self.x, self.y = torch.randn(16, 3).to(dtype), torch.randn(16, 2).to(dtype)
        self.network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)
        self.call = wrap(self.network)
        self.problem = fs.Problem(self.network)
        self.problem.constrain("0.weight", fs.Box(-0.5, 0.5))
        self.handle = self.problem.require("mean", fs.Equal(0.3), by=by)
        make = make or (lambda weights: torch.optim.Adam(weights, lr=0.02))
        self.optimizer = self.problem.attach(make(self.network.parameters()))

    def loss(self, rows=slice(None)):
        out = self.call(self.x[rows])
        return self.problem.loss((out - self.y[rows]).square().mean(), mean=out.mean())

    def step(self):
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def train(self, steps=20):
        for _ in range(steps):
            self.step()
        return self

    def everything(self):
        return {**self.problem.state_dict(), **self.network.state_dict()}


def lagrangian():
    return fs.AugmentedLagrangian(penalty=1.0, dual_lr=0.1)


def assert_same(first, second, **tolerances):
    assert first.everything().keys() == second.everything().keys()
    for key, value in first.everything().items():
        torch.testing.assert_close(second.everything()[key], value, **(tolerances or {"rtol": 0, "atol": 0}))


# -- scalers, clipping -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaled_run_with_skipped_steps_is_the_plain_run(fused):
    """Scales are powers of two: without the skipped steps it is the same run."""

    def adam(weights):
        return torch.optim.Adam(weights, lr=0.02, fused=fused)

    plain, scaled = Regression(lagrangian(), make=adam).train(12), Regression(lagrangian(), make=adam)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in range(15):
        before = {key: value.clone() for key, value in scaled.everything().items()}
        scaled.optimizer.zero_grad()
        scaler.scale(scaled.loss() * (float("inf") if step in (0, 5, 6) else 1.0)).backward()
        scaler.step(scaled.optimizer)
        scaler.update()
        if step in (5, 6):
            assert all(torch.equal(value, before[key]) for key, value in scaled.everything().items())
    assert_same(plain, scaled, rtol=1e-5, atol=1e-6)


def test_clipped_gradients_move_multipliers_by_the_same_rule():
    run = Regression(lagrangian())
    for _ in range(10):
        before, value = run.handle.multiplier, run.network(run.x).mean().detach()
        run.optimizer.zero_grad()
        run.loss().backward()
        nn.utils.clip_grad_norm_(run.network.parameters(), 1e-2)
        run.optimizer.step()
        torch.testing.assert_close(run.handle.multiplier, (before or 0) + 0.1 * (value - 0.3))


def test_accumulated_gradients_are_those_of_the_whole_batch():
    """The plain Lagrangian pulls by its multiplier alone, wherever the value is."""
    runs = []
    for parts in (1, 4):
        run = Regression(fs.Lagrangian(0.1))
        for _ in range(10):
            run.optimizer.zero_grad()
            for rows in torch.arange(16).tensor_split(parts):
                (run.loss(rows) / parts).backward()
            run.optimizer.step()
        runs.append(run)
    for run in runs:  # of the first value, which the micro-batch's mean is not; only the report reads it
        run.problem.constraints[1].state.pop("tolerance")
    assert_same(*runs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_validation_between_steps_changes_nothing(context):
    plain, validated = Regression().train(), Regression()
    for _ in range(20):
        validated.step()
        validated.network.eval()
        with context():
            validated.loss(slice(0, 5))
        validated.problem.report()
        validated.network.train()
    assert_same(plain, validated)


# -- compiled and recomputed graphs ----------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_trains_as_the_plain_one(backend):
    plain = Regression(lagrangian()).train()
    compiled = Regression(lagrangian(), wrap=lambda network: torch.compile(network, backend=backend)).train()
    assert_same(plain, compiled, rtol=1e-5, atol=1e-6)


def test_a_compiled_backward_pass_serves_once_and_the_report_says_so():
    run = Regression(wrap=lambda network: torch.compile(network, backend="aot_eager")).train()
    scale, diagnosis = float(run.problem.state_dict()["mean.scale"]), run.problem.report()["mean"].diagnosis
    assert (scale != 1) != ("cannot be differentiated twice" in diagnosis)
    assert run.handle.violation < 0.1


@pytest.mark.filterwarnings("ignore")  # torch's own, while it traces
def test_a_compiled_step_trains_as_the_plain_one():
    plain, compiled = Regression(lagrangian()).train(), Regression(lagrangian())

    @torch.compile(backend="eager")
    def step():
        compiled.step()

    for _ in range(20):
        step()
    assert_same(plain, compiled, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_activations(reentrant):
    def wrap(network):
        return lambda x: checkpoint(network, x.requires_grad_(), use_reentrant=reentrant)

    by = lagrangian() if reentrant else None
    assert_same(Regression(by).train(), Regression(by, wrap=wrap).train())
    if reentrant:
        run = Regression(wrap=wrap).train()
        assert float(run.problem.state_dict()["mean.scale"]) == 1
        assert "cannot be differentiated twice" in run.problem.report()["mean"].diagnosis


# -- numbers, copies, frozen weights ---------------------------------------------------------------------


def test_a_model_in_bfloat16_has_multipliers_in_float32():
    run = Regression(fs.AugmentedLagrangian(penalty=1.0, dual_lr=1e-4), dtype=torch.bfloat16).train(50)
    assert run.handle.multiplier.dtype == torch.float32
    assert run.network[0].weight.dtype == torch.bfloat16
    moves = torch.tensor(run.handle.history.multiplier).diff().abs()
    assert bool((moves > 0).all())  # steps of 1e-4 and less are not rounded away
    assert float(moves.max()) < 1e-4


def test_a_copy_of_problem_model_and_optimizer_goes_its_own_way():
    plain, run = Regression().train(20), Regression().train(8)
    twin = copy.deepcopy(run)
    kept = copy.deepcopy(run.everything())
    twin.train(12)
    assert_same(plain, twin)
    assert all(torch.equal(value, kept[key]) for key, value in run.everything().items())
    assert_same(plain, run.train(12))


def test_frozen_weights_beside_multipliers():
    run = Regression()
    run.network[2].weight.requires_grad_(False)
    before = run.network[2].weight.clone()
    run.train(300)
    assert torch.equal(run.network[2].weight, before)
    assert run.handle.violation < 0.02


@pytest.mark.parametrize("method", [fs.AugmentedLagrangian, fs.Penalty])
def test_a_penalty_of_zero_is_refused(method):
    with pytest.raises(ValueError, match="positive"):
        method(0.0)
