"""The loop of the design: the user's own, with constraints of several kinds, and a report at the end."""

import pytest
import torch

import feasible as fs


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    x = torch.rand(512, 4)
    y = (x @ torch.tensor([1.0, 2.0, -1.0, 0.5])).relu().unsqueeze(1) - 0.3
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=64)
    model = torch.nn.Sequential()
    model.append(torch.nn.Linear(4, 16)).append(torch.nn.Tanh()).append(torch.nn.Linear(16, 8))
    model.append(torch.nn.Tanh())
    model.add_module("head", torch.nn.Linear(8, 1))
    criterion = torch.nn.MSELoss()
    bias = model.head.bias.detach().clone()
    keys = list(model.state_dict())

    problem = fs.Problem(model)
    problem.constrain("0.weight", fs.NonNegative())
    problem.constrain("head.weight", fs.Simplex(), by=fs.Reparametrize())
    problem.constrain("2.weight", fs.L2Ball(1.0))
    problem.freeze("head.bias")
    positive = problem.require("positive", fs.NonNegative(), per="sample", by=fs.AugmentedLagrangian())
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=1e-2))
    declared = str(problem)

    losses = []
    for _ in range(80):
        for x, y in loader:
            optimizer.zero_grad()
            prediction = model(x)
            loss = problem.loss(criterion(prediction, y), positive=prediction)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))

    problem.finish()
    return model, problem, positive, declared, losses, bias, keys, x


def test_it_says_what_matches_what_before_any_step(trained):
    declared = trained[3]
    for words in (
        "0.weight",
        "NonNegative()",
        "weight 16×4",
        "head.weight",
        "by construction",
        "value, per sample",
    ):
        assert words in declared


def test_it_learns_inside_the_constraints(trained):
    model, _problem, positive, _, losses, bias, keys, _x = trained
    assert losses[-1] < 0.3 * losses[0]
    assert bool((model[0].weight >= 0).all())
    assert bool(fs.L2Ball(1.0).contains(model[2].weight.detach()).all())
    assert float(model.head.weight.detach().sum()) == pytest.approx(1.0, abs=1e-6)
    assert torch.equal(model.head.bias, bias)
    assert list(model.state_dict()) == keys
    assert all(isinstance(p, torch.nn.Parameter) for p in model.parameters())
    assert float(positive.multiplier) > 0
    assert positive.violation < 0.1


def test_the_report_shows_the_proof(trained):
    report = trained[1].report(positive=trained[0](trained[7]))
    guarantees = {row.name: row.guarantee for row in report.rows}
    assert guarantees["0.weight"] == "exact"
    assert guarantees["2.weight"] == "projected"
    assert guarantees["head.weight"] == "by construction"
    assert guarantees["head.bias"] == "exact"
    assert report["positive"].scope == "64 points given"
    assert report["positive"].steps == 80 * 8
    assert "shadow price" in str(report)


def test_the_plain_model_takes_the_weights(trained):
    model, x = trained[0], trained[7]
    plain = torch.nn.Sequential()
    plain.append(torch.nn.Linear(4, 16)).append(torch.nn.Tanh()).append(torch.nn.Linear(16, 8))
    plain.append(torch.nn.Tanh())
    plain.add_module("head", torch.nn.Linear(8, 1))
    plain.load_state_dict(model.state_dict())
    assert torch.equal(plain(x), model(x))
