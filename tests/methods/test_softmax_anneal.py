"""SoftmaxAnneal: a mean of members that becomes one, in every kind of training, and comes back from a checkpoint."""

import copy

import pytest
import torch
from recovery import recovers
from torch import nn

import feasible as fs

F64 = torch.float64
STACK = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(2))
SETS = {
    "columns": fs.OneHot(dim=0),
    "whole": fs.OneHot(dim=None),
    "candidates": fs.Candidates(STACK),
    "values": fs.FiniteSet([-0.5, 0.0, 0.5]),
    "picked": fs.OneHot().where(torch.tensor([True, True, False, True])),
}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.select = nn.Linear(4, 3)
        self.rest = nn.Linear(3, 2)

    def forward(self, x):
        return self.rest(torch.tanh(self.select(x)))


def made(set, method, seed=0, **options):
    torch.manual_seed(seed)
    model = Model()
    problem = fs.Problem(model)
    problem.constrain("select.weight", set, by=method)
    options = {"lr": 0.1, "weight_decay": 0.1, **options}
    return model, problem, problem.attach(torch.optim.Adam(model.parameters(), **options))


def train(model, problem, optimizer, steps, first=0):
    for step in range(first, first + steps):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        problem.loss((model(x) - x[:, :2]).square().mean()).backward()
        optimizer.step()


@pytest.mark.parametrize("name", SETS)
def test_from_a_mean_to_one_member_that_stays(name):
    set = SETS[name]
    model, problem, optimizer = made(set, fs.SoftmaxAnneal(6))
    train(model, problem, optimizer, 5)
    assert problem.report()["select.weight"].guarantee == "encouraged"
    assert not bool(set.contains(model.select.weight.detach()).all())
    ahead = problem.feasible_state_dict()["select.weight"]
    assert bool(set.contains(ahead).all())
    train(model, problem, optimizer, 1, first=5)
    member, rest = model.select.weight.detach().clone(), model.rest.weight.detach().clone()
    row = problem.report()["select.weight"]
    assert row.guarantee == "by construction"
    assert row.worst_violation == 0
    assert row.saturation == (0.75 if name == "picked" else 1.0)
    assert "Reparametrize" not in row.diagnosis
    train(model, problem, optimizer, 40, first=6)
    held = torch.tensor([True, True, name != "picked", True])
    now = model.select.weight.detach()
    assert torch.equal(now[:, held], member[:, held])
    assert bool(set.contains(now).all())
    assert not torch.equal(model.rest.weight, rest)
    problem.finish()
    assert torch.equal(model.select.weight, now)
    assert [*model.state_dict()] == ["select.weight", "select.bias", "rest.weight", "rest.bias"]


def test_finish_takes_the_candidate_of_largest_share():
    model, problem, _ = made(fs.Candidates(STACK), fs.SoftmaxAnneal(100))
    with torch.no_grad():
        model.select.parametrizations.weight.original.copy_(torch.tensor([0.0, 1.0, 0.9, 0.9, 0.0, 0.0]))
    problem.finish()
    assert torch.equal(model.select.weight, STACK[1])


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("at", [3, 6, 9])
def test_resumes_bit_for_bit(name, noise, at):
    whole = made(SETS[name], fs.SoftmaxAnneal(6, noise=noise))
    train(*whole, at)
    saved = [copy.deepcopy(part.state_dict()) for part in whole]
    train(*whole, 5, first=at)
    for order in ((0, 1, 2), (2, 1, 0)):
        resumed = made(SETS[name], fs.SoftmaxAnneal(6, noise=noise), seed=9)
        for part in order:
            resumed[part].load_state_dict(copy.deepcopy(saved[part]))
        train(*resumed, 5, first=at)
        ours, theirs = (one[0].state_dict() for one in (whole, resumed))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), order


def test_a_seeded_run_repeats_with_noise_and_evaluation_has_none():
    ends = []
    for _ in range(2):
        model, problem, optimizer = made(SETS["columns"], fs.SoftmaxAnneal(50, noise=1.0))
        train(model, problem, optimizer, 5)
        ends.append(model.select.weight.detach().clone())
    assert torch.equal(*ends)
    model.eval()
    assert not torch.allclose(model.select.weight, ends[0])
    model.train()
    assert torch.equal(model.select.weight, ends[0])


def test_tied_weights_anneal_together():
    model = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])
    model[1].weight = model[0].weight
    problem = fs.Problem(model)
    problem.constrain("0.weight", fs.Candidates(STACK), by=fs.SoftmaxAnneal(3, noise=1.0))
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    for _ in range(4):
        optimizer.zero_grad()
        assert torch.equal(model[0].weight, model[1].weight)
        problem.loss((model[0].weight + model[1].weight).square().sum()).backward()
        optimizer.step()
    problem.finish()
    assert model[0].weight is model[1].weight
    assert bool(fs.Candidates(STACK).contains(model[0].weight))


def test_a_weight_alone_trains_past_the_end():
    model = nn.Linear(5, 5, bias=False)
    problem = fs.Problem(model)
    problem.constrain("weight", fs.Permutation(), by=fs.SoftmaxAnneal(60))
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.05))
    order = torch.tensor([2, 0, 4, 1, 3])
    for _ in range(80):
        optimizer.zero_grad()
        problem.loss((model.weight - torch.eye(5)[order]).square().sum()).backward()
        optimizer.step()
    assert torch.equal(model.weight, torch.eye(5)[order])


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_ten_thousand_candidates(dtype, tmp_path):
    torch.manual_seed(0)
    candidates = fs.Candidates(torch.randn(10_000, 8, 10, dtype=dtype))
    model = nn.Linear(10, 8, bias=False, dtype=dtype)
    problem = fs.Problem(model)
    problem.constrain("weight", candidates, by=fs.SoftmaxAnneal(150, first=0.3))
    assert model.parametrizations.weight.original.shape == (10_000,)
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.1))
    truth = candidates.stack[4321]
    x = torch.randn(64, 10, dtype=dtype)
    for step in range(150):
        optimizer.zero_grad()
        problem.loss((x @ (model.weight - truth).T).square().mean()).backward()
        optimizer.step()
        if step == 75:
            torch.save((model.state_dict(), problem.state_dict()), tmp_path / "checkpoint.pt")
            assert (tmp_path / "checkpoint.pt").stat().st_size < 300_000
    problem.finish()
    assert model.weight.dtype == dtype
    assert torch.equal(model.weight, truth)


@pytest.mark.parametrize("name", ["columns", "candidates", "values"])
@pytest.mark.slow
def test_compiled_models_anneal_and_are_not_compiled_for_each_step(name):
    model, problem, optimizer = made(SETS[name], fs.SoftmaxAnneal(20))
    plain = made(SETS[name], fs.SoftmaxAnneal(20))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(model, backend="aot_eager")
    for step in range(25):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        problem.loss((compiled(x) - x[:, :2]).square().mean()).backward()
        optimizer.step()
    train(*plain, 25)
    torch.testing.assert_close(model.select.weight, plain[0].select.weight)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3


def test_a_copied_training_goes_the_same_way():
    model, problem, optimizer = made(SETS["columns"], fs.SoftmaxAnneal(6, noise=0.3))
    train(model, problem, optimizer, 3)
    twin = copy.deepcopy((model, problem, optimizer))
    train(model, problem, optimizer, 5, first=3)
    train(*twin, 5, first=3)
    assert torch.equal(model.select.weight, twin[0].select.weight)


def test_best_weights_are_members():
    model, problem, optimizer = made(SETS["columns"], fs.SoftmaxAnneal(6))
    train(model, problem, optimizer, 3)
    problem.validate(1.0)
    member = problem.best.state["select.weight"]
    train(model, problem, optimizer, 5, first=3)
    problem.best.restore()
    assert torch.equal(model.select.weight, member)
    problem.finish()
    assert torch.equal(model.select.weight, member)


def test_values_cannot_be_annealed():
    problem = fs.Problem(Model())
    with pytest.raises(fs.UnsupportedError, match="it moves weights"):
        problem.require("value", fs.OneHot(), by=fs.SoftmaxAnneal(5))
    with pytest.raises(fs.UnsupportedError, match="relaxation"):
        problem.constrain("select.weight", fs.Simplex(), by=fs.SoftmaxAnneal(5))
    with pytest.raises(fs.UnsupportedError, match="bare tensors"):
        fs.Problem([torch.zeros(3, requires_grad=True)]).constrain("0", fs.OneHot(), by=fs.SoftmaxAnneal(5))


def anneal(noise):
    return lambda problem: problem.constrain(
        "select.weight", fs.OneHot(dim=0), by=fs.SoftmaxAnneal(1500, noise=noise)
    )


def test_a_teachers_partition_is_recovered():
    assert recovers(0, anneal(0.0))


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_teachers_partition_is_recovered_in_eleven_of_twelve_runs(noise):
    assert sum(recovers(seed, anneal(noise)) for seed in range(12)) >= 11
