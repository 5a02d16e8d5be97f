"""Checkpoints: saved in one process and resumed in another, bit for bit as if nothing had happened."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import feasible as fs

MASK = torch.tensor([[True, False, True], [False, True, True]])


def build():
    torch.manual_seed(0)
    return torch.nn.ModuleDict(
        {"a": torch.nn.Linear(3, 4), "b": torch.nn.Linear(4, 2), "c": torch.nn.Linear(3, 2)}
    )


def declare(model):
    """One constraint of every kind that remembers something."""
    problem = fs.Problem(model)
    problem.constrain("a.weight", fs.NonNegative(), by=fs.Reparametrize("softplus"))
    problem.constrain("b.weight", fs.Simplex(), by=fs.Project(every=3))
    problem.freeze("c.weight", MASK)
    problem.constrain("a.bias", fs.Box(-1, 1), by=fs.Barrier())
    problem.constrain("b.bias", fs.SumTo(0.5), by=fs.AugmentedLagrangian())
    problem.constrain("c.bias", fs.Box(-1, 1), by=fs.Penalty(fs.schedules.Linear(0.0, 5.0, 20)), name="soft")
    problem.require("mean", fs.Equal(0.1), by=fs.Lagrangian(0.1), average=0.9)
    problem.require("window", fs.Box(upper=0.2), average="window")
    problem.require("each", fs.NonNegative(), per="sample")
    problem.require("own", fs.NonNegative(), per="index", size=16, by=fs.SquaredSlack())
    return problem


def train(model, problem, optimizer, first, last):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 3, generator=generator)
        index = torch.randperm(16, generator=generator)[:8]
        optimizer.zero_grad()
        out = model["b"](model["a"](x).tanh()) + model["c"](x)
        loss = problem.loss(
            (out - x[:, :2]).square().mean(),
            mean=out.mean(),
            window=out[:, 0].mean(),
            each=out,
            own=(out[:, 1], index),
        )
        loss.backward()
        optimizer.step()


def make(model):
    return torch.optim.AdamW(model.parameters(), lr=0.02)


def everything(model, problem, optimizer):
    """All numbers that training depends on."""
    numbers = {f"model.{k}": v for k, v in model.state_dict().items()}
    numbers |= {f"problem.{k}": v for k, v in problem.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        numbers |= {f"optimizer.{number}.{k}": torch.as_tensor(v) for k, v in state.items()}
    return {key: value.detach().clone() for key, value in numbers.items()}


def same(first, second):
    assert first.keys() == second.keys()
    return [k for k in first if not torch.equal(first[k].nan_to_num(7.0), second[k].nan_to_num(7.0))]


def started(steps=0):
    model = build()
    problem = declare(model)
    optimizer = problem.attach(make(model))
    train(model, problem, optimizer, 0, steps)
    return model, problem, optimizer


@pytest.mark.parametrize("how", ["own", "optimizer"])
@pytest.mark.parametrize("fresh", [True, False])
def test_resumed_is_uninterrupted(tmp_path, how, fresh):
    model, problem, optimizer = started(7)
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    if how == "own":
        saved["problem"] = problem.state_dict()
        saved["optimizer"].pop("feasible")
    torch.save(saved, tmp_path / "checkpoint.pt")
    train(model, problem, optimizer, 7, 20)
    expected = everything(model, problem, optimizer)

    other = started(0 if fresh else 3)
    loaded = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    model, problem, optimizer = other
    model.load_state_dict(loaded["model"])
    if how == "own":
        problem.load_state_dict(loaded["problem"])
    optimizer.load_state_dict(loaded["optimizer"])
    train(model, problem, optimizer, 7, 20)
    assert not same(expected, everything(model, problem, optimizer))


SCRIPT = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_checkpoint import everything, started, train
model, problem, optimizer = started(0)
loaded = torch.load(sys.argv[2], weights_only=True)
model.load_state_dict(loaded["model"])
optimizer.load_state_dict(loaded["optimizer"])
train(model, problem, optimizer, 7, 20)
torch.save(everything(model, problem, optimizer), sys.argv[3])
"""


def test_another_process_resumes_through_nothing_but_the_optimizers_state(tmp_path):
    model, problem, optimizer = started(7)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "in.pt")
    train(model, problem, optimizer, 7, 20)
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", SCRIPT, here, str(tmp_path / "in.pt"), str(tmp_path / "out.pt")]
    subprocess.run(command, check=True, env=environment)
    assert not same(everything(model, problem, optimizer), torch.load(tmp_path / "out.pt", weights_only=True))


def test_a_plain_optimizer_loads_the_checkpoint_too():
    _, _, optimizer = started(3)
    model = build()
    plain = make(model)
    plain.load_state_dict(optimizer.state_dict())
    assert len(plain.state_dict()["state"]) == len(optimizer.state_dict()["state"])


def test_a_plain_checkpoint_loads_into_an_attached_optimizer():
    _model, problem, optimizer = started(3)
    before = problem.state_dict()
    state = optimizer.state_dict()
    state.pop("feasible")
    optimizer.load_state_dict(state)
    assert not same(before, problem.state_dict())


def test_only_the_clock_carries_the_state():
    model = build()
    problem = fs.Problem(model)
    problem.constrain("*.weight", fs.NonNegative())
    a = problem.attach(torch.optim.SGD(model["a"].parameters(), lr=0.1))
    b = problem.attach(torch.optim.SGD(model["b"].parameters(), lr=0.1))
    assert "feasible" in a.state_dict()
    assert "feasible" not in b.state_dict()
    problem.detach(a)
    assert "feasible" not in a.state_dict()
    assert "feasible" in b.state_dict()


def test_what_is_saved_is_flat_canonical_and_not_alive():
    model, problem, optimizer = started(3)
    state = problem.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    keys = {"format_version", "each.multiplier", "each.tolerance", "each.step", "own.slack", "c.weight.value"}
    assert keys <= state.keys()
    assert int(state["own.step"]) == 3
    for wrapper in ("_orig_mod.", "module.", "parametrizations."):
        assert not any(wrapper in key for key in state)
    before = {key: value.clone() for key, value in state.items()}
    train(model, problem, optimizer, 3, 6)
    assert not same(before, state)
    for value in state.values():
        value.zero_()  # nor does the problem live in what was saved
    assert float(problem.state_dict()["own.multiplier"].abs().max()) > 0
    problem.load_state_dict(before)
    for value in before.values():
        value.zero_()
    assert float(problem.state_dict()["own.multiplier"].abs().max()) > 0


def test_a_state_saved_before_the_first_loss_loads_before_and_after_it():
    empty = started(0)[1].state_dict()
    model, problem, optimizer = started(0)
    problem.load_state_dict(empty)
    train(model, problem, optimizer, 0, 3)
    reference = started(3)[1].state_dict()
    assert not same(reference, problem.state_dict())
    problem.load_state_dict(empty)
    assert problem.report()["each"].steps == 0
    assert problem.state_dict().keys() == empty.keys()
    train(model, problem, optimizer, 0, 1)


def test_loading_before_the_first_loss_and_saving_at_once():
    saved = started(3)[1].state_dict()
    problem = started(0)[1]
    problem.load_state_dict(saved)
    assert not same(saved, problem.state_dict())


def test_a_state_of_the_wrong_size_is_an_error_at_the_first_loss_again_and_again():
    saved = started(3)[1].state_dict()
    saved["mean.multiplier"] = torch.zeros(3)
    model, problem, optimizer = started(0)
    problem.load_state_dict(saved)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"mean\.multiplier: expected shape \(\), got \(3,\)"):
            train(model, problem, optimizer, 3, 4)


def variant(**changed):
    x = torch.zeros(4, requires_grad=True)
    problem = fs.Problem({"x": x})
    options = {"set": fs.Box(0, 1), "by": fs.AugmentedLagrangian(), "per": "value", "size": None, **changed}
    problem.require(options.pop("name", "v"), options.pop("set"), **options)
    return problem


MISMATCHES = [
    ({"set": fs.Box(0, 2)}, "another set, method or per="),
    ({"set": fs.Box(0, torch.ones(4))}, "another set"),
    ({"by": fs.Lagrangian()}, "another set, method"),
    ({"per": "sample"}, "per="),
    ({"per": "index", "size": 3}, "per="),
    ({"name": "w"}, r"missing \['w'\], not declared here \['v'\]"),
]


@pytest.mark.parametrize(("changed", "message"), MISMATCHES)
def test_states_of_other_constraints_are_errors(changed, message):
    saved = variant().state_dict()
    with pytest.raises(ValueError, match=message):
        variant(**changed).load_state_dict(saved)


def test_numbers_of_a_method_may_change():
    variant(by=fs.AugmentedLagrangian(penalty=9.0)).load_state_dict(variant().state_dict())


@pytest.mark.parametrize("state", [{}, {"format_version": torch.tensor(99)}])
def test_other_formats_are_errors(state):
    with pytest.raises(ValueError, match="format"):
        variant().load_state_dict(state)


def test_fewer_or_more_constraints_are_errors():
    saved = started(0)[1].state_dict()
    problem = fs.Problem(build())
    problem.constrain("b.weight", fs.Simplex(), by=fs.Project(every=3))
    with pytest.raises(ValueError, match="not declared here"):
        problem.load_state_dict(saved)
    with pytest.raises(ValueError, match="missing"):
        started(0)[1].load_state_dict(problem.state_dict())


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("weights_first", [True, False])
def test_the_frozen_value_of_the_checkpoint_wins(mask, weights_first):
    def make(seed):
        torch.manual_seed(seed)
        model = torch.nn.Linear(3, 2)
        problem = fs.Problem(model)
        problem.freeze("weight", mask)
        return model, problem, problem.attach(torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5))

    source, saved, _ = make(0)
    model, problem, optimizer = make(1)
    if weights_first:
        model.load_state_dict(source.state_dict())
    problem.load_state_dict(saved.state_dict())
    frozen = torch.ones(2, 3, dtype=torch.bool) if mask is None else mask
    for _ in range(3):
        assert torch.equal(model.weight[frozen], source.weight[frozen])
        optimizer.zero_grad()
        problem.loss(model(torch.randn(4, 3)).square().mean()).backward()
        optimizer.step()
    problem.finish()
    assert torch.equal(model.weight[frozen], source.weight[frozen])


def test_the_plain_state_is_what_finish_leaves():
    model, problem, _ = started(7)
    ahead = problem.feasible_state_dict()
    again = problem.feasible_state_dict()
    assert not same(ahead, again)
    assert all(a.data_ptr() != p.data_ptr() for a in ahead.values() for p in model.parameters())
    problem.finish()
    assert list(ahead) == list(model.state_dict())
    assert not same(ahead, model.state_dict())
    build().load_state_dict(ahead)


def test_schedules_go_on_where_they_were():
    x = torch.zeros(1, requires_grad=True)

    def make():
        problem = fs.Problem([x])
        problem.constrain("0", fs.Equal(1.0), by=fs.Penalty(lambda step: float(step)))
        return problem

    problem = make()
    for _ in range(5):
        problem.loss(torch.zeros(())).backward()
        problem.step()
    resumed = make()
    resumed.load_state_dict(problem.state_dict())
    assert float(resumed.loss(torch.zeros(())).detach()) == 2.5
