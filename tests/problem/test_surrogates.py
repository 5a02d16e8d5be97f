"""A surrogate: the smooth part moves the weights, the truth moves the multiplier."""

import pytest
import torch

import feasible as fs

ROWS = torch.tensor([[1.0, 0.2], [0.4, -1.0], [-0.3, 0.5], [0.8, 0.9]])


def share_above(x, at=0.0):
    scores = ROWS @ x
    return fs.Surrogate(torch.sigmoid(4 * (scores - at)).mean(), (scores > at).float().mean())


def step(problem, optimizer, x, value):
    optimizer.zero_grad()
    loss = problem.loss((x**2).sum(), share=value)
    loss.backward()
    optimizer.step()
    return loss


def setup(**options):
    x = torch.tensor([0.3, -0.2], requires_grad=True)
    problem = fs.Problem([x])
    by = fs.AugmentedLagrangian(penalty=2.0, dual_lr=1.0)
    handle = problem.require("share", fs.Box(lower=0.75), by=by, **options)
    return x, problem, handle, problem.attach(torch.optim.SGD([x], lr=0.1))


def test_gradient_of_the_smooth_part_multiplier_of_the_truth():
    x, problem, handle, optimizer = setup()
    value = share_above(x)
    (expected,) = torch.autograd.grad(share_above(x).smooth, x)
    pull = 2 * (value.smooth.detach() - 0.75)
    before = x.detach().clone()
    step(problem, optimizer, x, value)
    assert torch.allclose(x.grad, 2 * before + pull * expected)
    assert handle.multiplier == pytest.approx(0.5 * 2 * (float(value.truth) - 0.75))
    assert handle.violation == pytest.approx(0.75 - float(value.truth))
    assert problem.report()["share"].worst_violation == pytest.approx(0.75 - float(value.truth))


def test_the_truth_holds_in_the_end():
    x, problem, handle, optimizer = setup()
    for _ in range(400):
        step(problem, optimizer, x, share_above(x))
    assert float(share_above(x).truth) >= 0.75
    assert handle.multiplier <= 0


@pytest.mark.parametrize("average", ["window", 0.9])
def test_averages_keep_both_parts(average):
    x, problem, handle, optimizer = setup(average=average)
    for _ in range(3):
        step(problem, optimizer, x, share_above(x))
    saved = problem.state_dict()
    assert saved["share.average"].shape == (2,)
    assert saved["share.average"][1] != saved["share.average"][0]
    assert handle.multiplier.shape == ()


def test_micro_batches_average_both_parts():
    x, problem, handle, optimizer = setup()
    values = [
        fs.Surrogate(x.sum() * 0 + smooth, torch.tensor(truth)) for smooth, truth in ((0.2, 0.5), (0.4, 0.0))
    ]
    for value in values:
        problem.loss(0.5 * (x**2).sum(), share=value).backward()
    optimizer.step()
    assert handle.multiplier == pytest.approx(2 * (0.25 - 0.75) * 0.5)


def test_a_nan_truth_moves_nothing():
    x, problem, handle, optimizer = setup()
    step(problem, optimizer, x, share_above(x))
    before = handle.multiplier.clone()
    step(problem, optimizer, x, fs.Surrogate(x.sum(), torch.tensor(torch.nan)))
    assert torch.equal(handle.multiplier, before)


def test_misuse_is_refused():
    x, problem, _, optimizer = setup()
    with pytest.raises(ValueError, match=r"smooth and truth must have one shape, got \(\) and \(2,\)"):
        fs.Surrogate(x.sum(), x)
    with pytest.raises(ValueError, match="truth must be a tensor, got float"):
        fs.Surrogate(x.sum(), 0.5)
    step(problem, optimizer, x, share_above(x))
    with pytest.raises(ValueError, match="share: expected a Surrogate as in its first step, got a tensor"):
        problem.loss(x.sum(), share=x.sum())
    other = fs.Problem([x])
    other.require("rows", fs.NonNegative(), per="sample")
    with pytest.raises(ValueError, match='a Surrogate goes with per="value"'):
        other.loss(x.sum(), rows=fs.Surrogate(x, x.detach()))
