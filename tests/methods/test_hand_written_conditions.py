"""The two conditions that say one-hot columns in one's own words: columns sum to 1, and w (1 − w) = 0."""

import torch
from torch import nn

import feasible as fs


def select(seed, method, steps=2000):
    """A selection matrix from noisy outputs ``M x``; returns whether it is found, and the worst violation."""
    torch.manual_seed(seed)
    truth = nn.functional.one_hot(torch.randint(3, (4,)), 3).T.float()
    x = torch.randn(64, 4)
    y = x @ truth.T + 0.3 * torch.randn(64, 3)
    model = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        model.weight.uniform_()
    problem = fs.Problem(model)
    sums = problem.constrain("weight", fs.SumTo(1.0, dim=0), by=method)
    binary = problem.require("binary", fs.Equal(0), fn=lambda m: m.weight * (1 - m.weight), by=method)
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.01))
    for _ in range(steps):
        optimizer.zero_grad()
        problem.loss((model(x) - y).square().mean()).backward()
        optimizer.step()
    if method.has_multiplier:
        assert sums.multiplier.shape == binary.multiplier.shape == (3, 4)
    report = problem.report()
    worst = max(report[name].worst_violation for name in ("weight", "binary"))
    problem.finish()
    return torch.equal(fs.OneHot(dim=0).project(model.weight.detach()), truth), worst


def test_both_act_on_one_weight_and_end_at_the_selection():
    for seed in range(3):
        found, worst = select(seed, fs.AugmentedLagrangian(penalty=1.0, dual_lr=0.05))
        assert found
        assert worst < 1e-3


def test_without_them_nothing_is_binary():
    _, worst = select(0, fs.Penalty(1e-9))
    assert worst > 0.02
