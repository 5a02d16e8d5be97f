"""The best weights: their order, what is kept, how they come back."""

import copy
import io
import math

import pytest
import torch

import feasible as fs


def at(position, **options):
    """A problem on one number with x ≤ 1, tolerance 0.1."""
    x = torch.full((1,), position, requires_grad=True)
    problem = fs.Problem({"x": x})
    problem.require("v", fs.Box(upper=1.0), tolerance=0.1, **options)
    return x, problem


# positions and losses in the order in which they are seen; which is the best
ORDERS = [
    ([(0.0, 3.0), (0.5, 2.0), (0.9, 2.5)], 1),  # feasible: the lower loss
    ([(3.0, 0.0), (2.0, 1.0), (2.5, 0.5)], 1),  # infeasible: the smaller violation
    ([(3.0, 0.0), (0.0, 9.0), (2.0, 0.0)], 1),  # feasible beats infeasible, early and late
    ([(0.0, 2.0), (1.05, 1.0)], 1),  # within its tolerance is feasible, and the violation no matter
    ([(1.0, 1.0), (0.5, 1.0)], 0),  # equally good: the first
    ([(2.0, 2.0), (2.0, 1.0)], 1),  # equally violated: the lower loss
    ([(math.nan, 0.0), (3.0, 1.0), (math.nan, 0.0), (0.0, math.nan), (2.0, math.inf)], 1),
]


@pytest.mark.parametrize(("seen", "best"), ORDERS)
def test_order(seen, best):
    x, problem = at(0.0)
    kept = []
    for position, loss in seen:
        x.data.fill_(position)
        kept.append(problem.validate(loss, v=x))
    position, loss = seen[best]
    assert kept[best]
    assert not any(kept[best + 1 :])
    assert problem.best.state["x"].item() == pytest.approx(position)
    assert problem.best.loss == loss
    assert problem.best.violation == pytest.approx(max(position - 1, 0))
    assert problem.best.feasible == (position <= 1.1)


def test_before_the_first():
    x, problem = at(0.0)
    assert problem.best.state is None
    assert not problem.best.feasible
    assert repr(problem.best) == "Best(nothing validated yet)"
    with pytest.raises(RuntimeError, match=r"call problem\.validate"):
        problem.best.restore()
    assert not problem.validate(math.nan, v=x)
    assert problem.best.state is None


WRONG = [
    ({}, r"v: expected a tensor, got NoneType\. Hand in every required value"),
    ({"v": 1.0}, "expected a tensor, got float"),
    ({"v": torch.ones(1), "w": torch.ones(1)}, "nothing is required under w"),
    ({"v": torch.ones(3)}, "expected a value of shape"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_wrong_values(values, message):
    x, problem = at(0.0)
    problem.loss(x.sum(), v=x)
    with pytest.raises(ValueError, match=message):
        problem.validate(0.0, values)


def test_values_of_every_kind():
    """Samples by their mean distance, indexed ones with or without an index, truths of surrogates, functions."""
    x = torch.zeros(1, requires_grad=True)
    problem = fs.Problem([x])
    problem.require("rate", fs.Box(upper=0.5), tolerance=0.0)
    problem.require("now", fs.Box(upper=5.0), fn=lambda tensors: tensors[0], tolerance=0.0)
    for name, per, by in (
        ("mean", "sample", fs.AugmentedLagrangian()),
        ("each", "sample", fs.Penalty(1.0)),
        ("row", "index", fs.AugmentedLagrangian()),
    ):
        size = {"size": 4} if per == "index" else {}
        problem.require(name, fs.Box(upper=1.0), by=by, per=per, tolerance=0.5, **size)
    ones = torch.ones(4, 1)
    inside = {"rate": fs.Surrogate(9 * x, 0 * x), "mean": ones, "each": ones, "row": (ones, torch.arange(4))}
    problem.loss(x.sum() * 0, inside)
    assert problem.validate(1.0, inside)
    assert problem.best.violation == 0
    outside = torch.tensor([[2.0], [0.0], [0.0], [5.0]])  # distances 1, 0, 0, 4
    for name, given, violation in (
        ("rate", fs.Surrogate(0 * x, 0 * x + 0.75), 0.25),
        ("mean", outside, 1.25),
        ("each", outside, 1.25),
        ("row", outside, 1.25),
        ("mean", outside / 2.5 + 0.5, 0.45),  # within the tolerance
    ):
        twin = copy.deepcopy(problem)
        twin.best.__init__(twin)
        twin.validate(1.0, {**inside, name: given})
        assert twin.best.violation == pytest.approx(violation), name
        assert twin.best.feasible == (violation == 0.45)
    x.data.fill_(7.0)
    problem.best.__init__(problem)
    problem.validate(1.0, inside)
    assert (problem.best.violation, problem.best.feasible) == (2.0, False)


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("method", [fs.Project(), fs.Reparametrize(), fs.Penalty(1.0)], ids=str)
def test_weights_come_back(method, finished):
    model = net()
    problem = fs.Problem(model)
    bound = 0.5 if method.hard else 9.0
    problem.constrain("*.weight", fs.Box(-bound, bound), by=method, exclude="1.*")
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.1))
    x = torch.randn(16, 3)

    def train():
        for _ in range(3):
            optimizer.zero_grad()
            problem.loss(model(x).square().mean()).backward()
            optimizer.step()

    train()
    assert problem.validate(1.0)
    wanted = problem.feasible_state_dict()
    assert problem.best.step == 3
    train()
    assert not problem.validate(2.0)
    if finished:
        problem.finish()
    problem.best.restore()
    restored = problem.feasible_state_dict()
    assert restored.keys() == wanted.keys() == net().state_dict().keys()
    for key in wanted:
        torch.testing.assert_close(restored[key], wanted[key])
    plain = net()
    plain.load_state_dict(problem.best.state)
    model.eval(), plain.eval()
    torch.testing.assert_close(plain(x), model(x))


def test_projected_weights_count_as_settled():
    """Between two projections a weight may be outside; what is kept is inside."""
    model = torch.nn.Linear(2, 1)
    problem = fs.Problem(model)
    problem.constrain("weight", fs.NonNegative())
    model.weight.data.fill_(-1.0)
    problem.validate(0.0)
    assert problem.best.feasible
    assert (problem.best.state["weight"] == 0).all()


def test_without_validation_data_batches_judge():
    x, problem = at(3.0)
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.5))
    problem.keep_best(every=5)
    copies, copy_of = [], problem.feasible_state_dict
    problem.feasible_state_dict = lambda: copies.append(1) or copy_of()
    for step in range(21):
        optimizer.zero_grad()
        before = x.item()
        problem.loss((x - 2).square().sum(), v=x).backward()
        if step % 5 == 0:
            assert (problem.best.state["x"].item() == before) == (problem.best.step == step)
        optimizer.step()
    assert len(copies) <= 5
    assert problem.best.step % 5 == 0
    with torch.no_grad():
        problem.loss((x - 2).square().sum(), v=x)  # a validation pass is not training
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        problem.keep_best(every=0)


def test_it_is_carried_over_a_restart_by_its_own_state_dict():
    x, problem = at(0.5)
    problem.validate(1.0, v=x)
    file = io.BytesIO()
    torch.save(problem.best.state_dict(), file)
    file.seek(0)
    y, resumed = at(7.0)
    resumed.best.load_state_dict(torch.load(file, weights_only=True))
    assert repr(resumed.best) == repr(problem.best) == "Best(loss=1, violation=0, feasible, step=0)"
    assert not resumed.validate(0.0, v=y)
    resumed.best.restore()
    assert y.item() == 0.5
    assert not any("best" in key for key in problem.state_dict())
