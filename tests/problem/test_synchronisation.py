"""What a training step costs: no reading back from the device, and one backward pass."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import feasible as fs


class Recorder(TorchDispatchMode):
    """Notes every operation that runs."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.append(operation._schema.name.removeprefix("aten::"))
        return operation(*args, **(kwargs or {}))


# Operations that make the host wait for a device: their result is read, or decides a shape.
WAITING = {
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "equal",
}

WEIGHTS = [
    (fs.Box(-0.1, 0.1), fs.Project()),
    (fs.NonNegative(), fs.Project()),
    (fs.NonNegative(), fs.Project(tangent=True)),
    (fs.NonNegative(), fs.Project(moments="reset")),
    (fs.NonNegative(), fs.Project(moments="tangent")),
    (fs.SumTo(1.0), fs.Project()),
    (fs.L2Ball(1.0), fs.Project()),
    (fs.Box(-0.1, 0.1).where(torch.ones(4, 3, dtype=torch.bool)), fs.Project()),
    (fs.NonNegative(), fs.Reparametrize()),
    (fs.Simplex(), fs.Reparametrize()),
    (
        fs.L2Ball(1.0),
        fs.Barrier(),
    ),  # a range's number of an inner bound is read on the CPU, which waits for nothing
    (fs.L2Ball(1.0), fs.Penalty(1.0)),
    (fs.L2Ball(1.0), fs.AugmentedLagrangian()),
]
VALUES = [
    ("value", fs.AugmentedLagrangian(), {}),
    ("value", fs.AugmentedLagrangian(), {"average": 0.9}),
    ("value", fs.AugmentedLagrangian(), {"average": "window"}),
    ("value", fs.Lagrangian(), {}),
    ("value", fs.SquaredSlack(), {}),
    ("value", fs.Penalty(1.0), {}),
    ("value", fs.Penalty(fs.schedules.Linear(0, 1, 10), kind="exact"), {}),
    ("value", fs.Barrier(), {}),
    ("sample", fs.AugmentedLagrangian(), {}),
    ("sample", fs.AugmentedLagrangian(), {"reduction": 2.0}),
    ("sample", fs.Penalty(1.0), {}),
    ("sample", fs.Barrier(), {}),
]


def model_of():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


def recorded(problem, model, optimizer, values, steps=300):
    """The operations of some steps, after the first ones that bind; more steps than are counted at a time."""
    x = torch.randn(8, 3)
    backwards = []
    model[-1].bias.register_hook(lambda gradient: backwards.append(1))
    for step in range(steps):
        recorder = Recorder()
        optimizer.zero_grad()
        out = model(x)
        with recorder:
            loss = problem.loss(out.square().mean(), values(out))
        del backwards[:]
        loss.backward()
        assert len(backwards) == 1
        with recorder:
            optimizer.step()
        if step >= 3:
            yield recorder.names


def waits(names):
    return sorted(WAITING & set(names))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, foreach=False)


@pytest.mark.parametrize(("set", "method"), WEIGHTS, ids=str)
def test_weights(set, method):
    model = model_of()
    problem = fs.Problem(model)
    problem.constrain("0.weight", set, by=method)
    optimizer = problem.attach(sgd(model))
    for names in recorded(problem, model, optimizer, lambda out: {}, steps=10):
        assert waits(names) == []


@pytest.mark.parametrize(("per", "method", "extra"), VALUES, ids=str)
def test_values(per, method, extra):
    model = model_of()
    problem = fs.Problem(model)
    problem.require("v", fs.Box(-0.1, 0.1), by=method, per=per, **extra)
    optimizer = problem.attach(sgd(model))
    for names in recorded(problem, model, optimizer, lambda out: {"v": out}):
        assert waits(names) == []


def test_reading_back_would_be_noticed():
    recorder = Recorder()
    with recorder:
        float(torch.ones(()))
    assert waits(recorder.names) == ["_local_scalar_dense"]


def test_adding_constraints_adds_no_operations_to_free_steps():
    """An attached problem without constraints costs no operation."""
    counts = []
    for attached in (False, True):
        model = model_of()
        problem = fs.Problem(model)
        optimizer = sgd(model)
        if attached:
            problem.attach(optimizer)
        counts.append([len(names) for names in recorded(problem, model, optimizer, lambda out: {}, steps=5)])
    assert counts[0] == counts[1]


def test_a_frozen_weight_costs_nothing_and_many_weights_one_group():
    model = model_of()
    problem = fs.Problem(model)
    problem.freeze("0.*")
    optimizer = problem.attach(sgd(model))
    plain = next(recorded(fs.Problem(model), model, sgd(model), lambda out: {}, steps=5))
    frozen = next(recorded(problem, model, optimizer, lambda out: {}, steps=5))
    assert frozen == plain
