"""Histories: true numbers, bounded memory, nothing read back in a step."""

import copy
import itertools
import math

import pytest
import torch

import feasible as fs
from feasible.problem.history import CAPACITY, SMALL, STRIDE_OF_LARGE, History

F64 = torch.float64


def trained(set, method, value, steps=20, entries=1, **options):
    """Descent on ½‖x‖² from 0.5; also what violation and multiplier were at each step, noted by hand."""
    x = torch.full((entries,), 0.5, dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    handle = problem.require("v", set, by=method, **options)
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.1))
    noted = []
    for _ in range(steps):
        optimizer.zero_grad()
        problem.loss(0.5 * x.square().sum(), v=value(x)).backward()
        violation = handle.violation
        optimizer.step()
        multiplier = handle.multiplier
        noted.append((violation, None if multiplier is None else float(multiplier.abs().max())))
    return handle, problem, noted


METHODS = [
    fs.AugmentedLagrangian(penalty=2.0, dual_lr=0.3),
    fs.Lagrangian(dual_lr=0.3),
    fs.SquaredSlack(),
    fs.Penalty(3.0),
    fs.Barrier(0.1),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("size", [1, 3])
def test_numbers_are_what_they_were(method, size):
    handle, _, noted = trained(fs.Box(1.0, 4.0), method, lambda x: x * 1, entries=size)
    series = handle.history
    assert series.steps == list(range(20))
    assert series.violation == pytest.approx([violation for violation, _ in noted])
    if method.has_multiplier:
        assert series.multiplier == pytest.approx([multiplier for _, multiplier in noted])
    else:
        assert all(map(math.isnan, series.multiplier))
    wanted = getattr(method, "penalty", getattr(method, "weight", math.nan))
    assert series.penalty == pytest.approx([wanted] * 20, nan_ok=True)


SETS = [fs.L2Ball(0.3), fs.Equal(torch.tensor([1.0, 2.0])), fs.Simplex(dim=None), fs.NonNegative().flatten(0)]


@pytest.mark.parametrize("set", SETS, ids=str)
def test_sets_of_every_kind(set):
    handle, _, noted = trained(set, fs.AugmentedLagrangian(), lambda x: x - 1, entries=2)
    assert handle.history.violation == pytest.approx([violation for violation, _ in noted])


def test_large_values_are_looked_at_less_often():
    handle, _, noted = trained(fs.Box(1.0), fs.AugmentedLagrangian(), lambda x: x * 1, entries=SMALL + 1)
    series = handle.history
    assert series.steps == list(range(0, 20, STRIDE_OF_LARGE))
    assert series.violation == pytest.approx([noted[step][0] for step in series.steps])
    assert series.multiplier == pytest.approx([noted[step][1] for step in series.steps])


def test_samples_tell_their_excess_in_their_own_units():
    method = fs.AugmentedLagrangian()
    handle, problem, noted = trained(
        fs.Box(1.0), method, lambda x: x.expand(4, 1), per="sample", tolerance=0.1
    )
    series = handle.history
    assert series.violation == pytest.approx([max(violation - 0.1, 0) for violation, _ in noted])
    assert series.multiplier == pytest.approx([multiplier for _, multiplier in noted])
    assert problem.report()["v"].multiplier == pytest.approx(series.multiplier[-1])


def test_samples_without_a_multiplier_and_indexed_ones():
    handle, _, noted = trained(fs.Box(1.0), fs.Penalty(1.0), lambda x: x.expand(4, 1), per="sample")
    assert handle.history.violation == pytest.approx([noted[step][0] for step in handle.history.steps])
    indexed = lambda x: (x.expand(2), torch.tensor([1, 4]))  # noqa: E731
    handle, _, noted = trained(fs.Box(1.0), fs.AugmentedLagrangian(), indexed, per="index", size=5)
    assert handle.history.steps == [0, 9, 18]
    assert handle.history.multiplier == pytest.approx([noted[step][1] for step in (0, 9, 18)])


def test_schedules_and_penalties_of_the_state():
    growing = fs.schedules.Linear(1.0, 21.0, steps=20)
    handle, _, _ = trained(fs.Equal(1.0), fs.Penalty(growing), lambda x: x * 1)
    assert handle.history.penalty == pytest.approx([1.0 + step for step in range(20)])


def test_weights_with_a_term_have_a_history_and_projected_ones_none():
    model = torch.nn.Linear(3, 2)
    problem = fs.Problem(model)
    soft = problem.constrain("*", fs.NonNegative(), by=fs.AugmentedLagrangian())
    hard = problem.constrain("weight", fs.NonNegative())
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    for _ in range(3):
        problem.loss(model(torch.ones(1, 3)).sum()).backward()
        optimizer.step()
    assert soft.history is None
    assert {name: len(series) for name, series in soft.histories.items()} == {"weight": 3, "bias": 3}
    assert len(hard.history) == 0


def test_memory_is_bounded_and_a_swing_stays_visible():
    history = History()
    last = 30_000
    for step in range(last):
        if step >= history.due:
            history.record(step, {"violation": torch.tensor(float(step % 2))})
    steps, rows = history.steps, history.rows()["violation"]
    assert CAPACITY // 3 <= len(steps) < CAPACITY
    assert len(steps) == len(rows)
    assert len({after - before for before, after in itertools.pairwise(steps)}) == 1
    assert last - steps[-1] <= steps[1] - steps[0]
    assert rows.tolist() == [step % 2 for step in steps]
    assert 0.4 < float(rows.mean()) < 0.6
    assert rows.untyped_storage().nbytes() <= 4 * CAPACITY


def test_a_restored_problem_begins_a_new_history_at_its_step():
    def run(problem, x, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            problem.loss(x.square().sum(), v=x.sum()).backward()
            optimizer.step()

    def make():
        x = torch.ones(2, requires_grad=True)
        problem = fs.Problem([x])
        handle = problem.require("v", fs.Equal(1.0))
        return problem, x, problem.attach(torch.optim.SGD([x], lr=0.1)), handle

    problem, x, optimizer, handle = make()
    run(problem, x, optimizer, 7)
    twin = copy.deepcopy(problem)
    assert twin.constraints[0].history.steps == handle.history.steps == list(range(7))
    other, y, its_optimizer, resumed = make()
    other.load_state_dict(problem.state_dict())
    run(other, y, its_optimizer, 3)
    assert resumed.history.steps == [7, 8, 9]
    problem.load_state_dict(problem.state_dict())
    assert len(handle.history) == 0


def test_a_value_that_moves_to_another_dtype():
    history = History()
    history.record(0, {"value": torch.ones(2)})
    history.rows()
    history.record(1, {"value": torch.ones(2, dtype=F64)})
    assert history.rows()["value"].dtype == F64
