"""Optimizers that hold weights in sets by themselves get the sets from the problem."""

import copy
import io

import pytest
import scipy.optimize
import torch

import feasible as fs
from feasible.optim import FrankWolfe, MirrorDescent, ProjectedLBFGS

EXACT = {"max_iter": 500, "max_eval": 1000, "tolerance_grad": 1e-10, "tolerance_change": 0.0}


class Run:
    """A regression whose first layer is non-negative, whose second has rows on the simplex, with a mean of 0.3."""

    def __init__(self, require=True, **options):
        torch.manual_seed(0)
        self.x, self.y = torch.randn(24, 3).double(), torch.randn(24, 2).double()
        self.network = torch.nn.Sequential(
            torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)
        ).double()
        self.problem = fs.Problem(self.network)
        self.hidden = self.problem.constrain("0.weight", fs.NonNegative())
        self.head = self.problem.constrain("2.weight", fs.Simplex())
        self.problem.freeze("2.bias")
        self.mean = self.problem.require("mean", fs.Equal(0.3)) if require else None
        self.optimizer = self.problem.attach(ProjectedLBFGS(self.network.parameters(), **options))

    def closure(self):
        self.optimizer.zero_grad()
        out = self.network(self.x)
        values = {} if self.mean is None else {"mean": out.mean()}
        loss = self.problem.loss((out - self.y).square().mean(), values)
        loss.backward()
        return loss

    def train(self, steps=30):
        for _ in range(steps):
            self.optimizer.step(self.closure)
        return self


def test_weights_multipliers_and_report_come_out_right():
    run = Run().train(40)
    report = {row.name: row for row in run.problem.report().rows}
    assert report["0.weight"].worst_violation == report["2.weight"].worst_violation == 0
    assert report["0.weight"].stationarity < 1e-4
    assert report["2.weight"].stationarity < 1e-4
    assert report["2.weight"].multiplier is not None
    assert run.mean.violation < 1e-5
    assert abs(float(run.mean.multiplier)) > 0.01
    run.problem.finish()
    assert not run.optimizer._sets
    assert fs.Simplex().contains(run.network[2].weight.detach()).all()


def test_an_attached_run_is_the_run_with_sets_of_its_own():
    run = Run(require=False, max_iter=7).train(5)
    torch.manual_seed(0)
    torch.randn(24, 3), torch.randn(24, 2)
    network = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()
    network[2].bias.requires_grad_(False)
    sets = {network[0].weight: fs.NonNegative(), network[2].weight: fs.Simplex()}
    optimizer = ProjectedLBFGS(network.parameters(), sets=sets, max_iter=7)

    def closure():
        optimizer.zero_grad()
        loss = (network(run.x) - run.y).square().mean()
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    for own, other in zip(network.parameters(), run.network.parameters()):
        assert torch.equal(own, other)


def test_bounds_through_the_problem_give_the_minimum_of_scipy():
    design, target = torch.randn(30, 8).double(), torch.randn(30).double()
    x = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    problem = fs.Problem([x])
    problem.constrain("0", fs.NonNegative())
    optimizer = problem.attach(ProjectedLBFGS([x], **EXACT))

    def closure():
        optimizer.zero_grad()
        loss = problem.loss(0.5 * (design @ x - target).square().sum())
        loss.backward()
        return loss

    optimizer.step(closure)
    solution, norm = scipy.optimize.nnls(design.numpy(), target.numpy())
    assert abs(float(closure().detach()) - norm**2 / 2) < 1e-12
    assert (x.detach() - torch.from_numpy(solution)).abs().max() < 1e-8
    gradient = design.T @ (design @ x.detach() - target)
    row = problem.report().rows[0]
    assert row.multiplier == pytest.approx(-float(gradient.max()), abs=1e-8)


def test_the_projection_does_not_act_a_second_time(monkeypatch):
    run = Run(require=False)
    monkeypatch.setattr(fs.Project, "correct", lambda *_: pytest.fail("projected by the problem"))
    monkeypatch.setattr(fs.Project, "gradient_", lambda *_: pytest.fail("gradients replaced"))
    run.train(2)


def test_a_constraint_that_is_switched_off_or_removed_lets_go():
    run = Run(require=False).train(2)
    weight = run.network[0].weight
    assert run.optimizer.set_of(weight) == fs.NonNegative()
    run.hidden.enabled = False
    run.train(5)
    assert run.optimizer.set_of(weight) is None
    assert (weight < 0).any()
    run.hidden.enabled = True
    run.train(1)
    assert (weight >= 0).all()
    run.head.remove()
    run.train(5)
    assert run.optimizer.set_of(run.network[2].weight) is None
    assert not fs.Simplex().contains(run.network[2].weight.detach()).all()


def test_a_constraint_that_comes_later_is_held_from_the_next_step_on():
    run = Run(require=False).train(3)
    run.problem.constrain("0.bias", fs.Box(-0.01, 0.01))
    run.train(3)
    assert run.network[0].bias.abs().max() <= 0.01


def test_detached_it_is_free():
    run = Run(require=False).train(2)
    run.problem.detach(run.optimizer)
    assert not run.optimizer._sets


def test_masked_entries_keep_their_bits():
    x = torch.randn(6, requires_grad=True)
    mask = torch.tensor([True, False, True, False, True, False])
    kept = x.detach()[mask].clone()
    problem = fs.Problem([x])
    problem.freeze("0", mask)
    optimizer = problem.attach(ProjectedLBFGS([x]))

    def closure():
        optimizer.zero_grad()
        loss = problem.loss((x.cumsum(0) - 1).square().sum())
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    assert torch.equal(x.detach()[mask], kept)


def test_a_checkpoint_resumes_multipliers_and_curvature_to_the_bit():
    run = Run().train(6)
    file = io.BytesIO()
    torch.save([run.network.state_dict(), run.optimizer.state_dict()], file)
    file.seek(0)
    network, optimizer = torch.load(file, weights_only=True)
    other = Run()
    other.network.load_state_dict(network)
    other.optimizer.load_state_dict(optimizer)
    run.train(4)
    other.train(4)
    for a, b in zip(run.network.parameters(), other.network.parameters()):
        assert torch.equal(a, b)
    assert torch.equal(run.mean.multiplier, other.mean.multiplier)


def test_copies_train_by_themselves():
    run = Run().train(3)
    twin = copy.deepcopy(run)
    before = [w.clone() for w in run.network.parameters()]
    twin.train(3)
    assert all(torch.equal(a, b) for a, b in zip(before, run.network.parameters()))
    run.train(3)
    for a, b in zip(run.network.parameters(), twin.network.parameters()):
        assert torch.equal(a, b)
    assert (twin.network[0].weight >= 0).all()


@pytest.mark.parametrize(("stochastic", "full"), [(False, True), (True, False)])
def test_multipliers_move_at_the_full_rate_only_where_a_step_minimises(stochastic, full, monkeypatch):
    seen = []
    original = fs.AugmentedLagrangian.update

    def update(self, mean, set, state, step, full, pull=None):
        seen.append(full)
        return original(self, mean, set, state, step, full, pull)

    monkeypatch.setattr(fs.AugmentedLagrangian, "update", update)
    Run(stochastic=stochastic).train(3)
    assert set(seen) == {full}


def test_what_it_cannot_hold_is_refused_when_it_is_declared():
    def problem_with(set, by=None):
        x = torch.zeros(3, requires_grad=True)
        problem = fs.Problem([x])
        problem.constrain("0", set, by=by)
        return problem, x

    for set, make in [
        (fs.FiniteSet([0, 1]), ProjectedLBFGS),
        (fs.NonNegative(), FrankWolfe),
        (fs.L2Ball(1.0), MirrorDescent),
    ]:
        problem, x = problem_with(set, fs.Project())
        with pytest.raises(
            fs.UnsupportedError, match=f"{make.__name__} holds weights in their sets by itself"
        ):
            problem.attach(make([x]))
    problem, x = problem_with(fs.NonNegative(), fs.Barrier())
    with pytest.raises(fs.UnsupportedError, match="moving a weight after the step"):
        problem.attach(ProjectedLBFGS([x]))
    problem, x = problem_with(fs.NonNegative())
    problem.attach(ProjectedLBFGS([x]))
    problem = fs.Problem([x])
    problem.attach(ProjectedLBFGS([x]))
    with pytest.raises(fs.UnsupportedError, match="hold one in FiniteSet"):
        problem.constrain("0", fs.FiniteSet([0, 1]), by=fs.Project())


def test_charts_and_soft_methods_work_under_it():
    for by in (fs.Reparametrize("softplus"), fs.AugmentedLagrangian(), fs.Penalty(10.0)):
        x = torch.ones(4, dtype=torch.float64)
        model = torch.nn.ParameterDict({"w": torch.nn.Parameter(x)})
        problem = fs.Problem(model)
        problem.constrain("w", fs.NonNegative(), by=by)
        optimizer = problem.attach(ProjectedLBFGS(model.parameters()))

        def closure(optimizer=optimizer, problem=problem, model=model):
            optimizer.zero_grad()
            loss = problem.loss((model["w"] - torch.tensor([-1.0, 0.5, 1.0, 2.0])).square().sum())
            loss.backward()
            return loss

        for _ in range(30):
            optimizer.step(closure)
        problem.finish()
        expected = torch.tensor([0.0, 0.5, 1.0, 2.0]).double()
        assert (model["w"].detach() - expected).abs().max() < 0.17


def test_the_multiplicative_and_the_projection_free_way_through_the_problem():
    for make, set, start in [
        (lambda w: MirrorDescent(w, lr=0.1), fs.NonNegative(), torch.ones(3)),
        (lambda w: FrankWolfe(w), fs.Simplex(), torch.tensor([1.0, 0.0, 0.0])),
    ]:
        x = start.clone().requires_grad_()
        problem = fs.Problem([x])
        problem.constrain("0", set)
        optimizer = problem.attach(make([x]))

        def closure(optimizer=optimizer, problem=problem, x=x):
            optimizer.zero_grad()
            loss = problem.loss((x - torch.tensor([0.2, 0.8, -1.0])).square().sum())
            loss.backward()
            return loss

        for _ in range(300):
            optimizer.step(closure)
        assert set.contains(x.detach()).all()
        assert (x.detach() - torch.tensor([0.2, 0.8, 0.0])).abs().max() < 0.02
