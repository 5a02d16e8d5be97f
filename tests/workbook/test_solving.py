"""Experiments that compare solvers."""

import json

import pytest
import torch

import feasible as fs
from feasible.workbook import solvers, tasks
from feasible.workbook.configuration import load_experiment
from feasible.workbook.errors import InputError
from feasible.workbook.page import write_page
from feasible.workbook.runner import run_experiment
from feasible.workbook.tasks.task import Record, is_kept

SMALL = {
    "NonNegativeLeastSquares": tasks.NonNegativeLeastSquares(size=20),
    "LargestEigenvalue": tasks.LargestEigenvalue(size=20),
    "SparseDirection": tasks.SparseDirection(size=5),
}


def test_every_task_has_a_small_one_here():
    assert set(tasks.__all__) == set(SMALL)


@pytest.mark.parametrize("name", tasks.__all__)
def test_tasks_begin_feasible_and_belong_to_their_seed(name):
    first, again, other = (SMALL[name].make(seed) for seed in (0, 0, 1))
    assert first.violation(first.start) == 0
    assert torch.equal(first.objective(first.start), again.objective(again.start))
    assert not torch.equal(first.objective(first.start), other.objective(first.start))
    assert first.start.dtype == torch.float64


@pytest.mark.parametrize("name", tasks.__all__)
def test_scipy_agrees_with_the_known_optimum(name):
    task = SMALL[name].make(0)
    method = "L-BFGS-B" if name == "NonNegativeLeastSquares" else "SLSQP"
    found = solvers.Scipy(method).solve(Record(task), 1000)
    assert task.violation(found.x) < 1e-6
    if task.optimum is not None:
        assert float(task.objective(found.x)) >= task.optimum - 1e-8 * abs(task.optimum)
    if name == "NonNegativeLeastSquares":
        assert float(task.objective(found.x)) == pytest.approx(task.optimum, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "LBFGS"])
def test_steps_count_every_evaluation(optimizer):
    record = Record(SMALL["NonNegativeLeastSquares"].make(0))
    by = None if optimizer != "LBFGS" else fs.Reparametrize("softplus")
    solution = solvers.Steps(optimizer, learning_rate=1e-3, by=by).solve(record, 50)
    assert 50 <= record.evaluations < 75
    assert record.task.violation(solution.x) == 0
    rows = list(record.history())
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert [int(row["epoch"]) for row in rows] == [n for n in range(1, record.evaluations + 1) if is_kept(n)]


TOML = """
problem = { name = "NonNegativeLeastSquares", size = 10 }
[budget]
seeds = 2
epochs = 300
[methods.adam]
solver = { name = "Steps", optimizer = "Adam", learning_rate = 0.05, by = "Project" }
[methods.scipy]
label = "scipy"
solver = { name = "Scipy", method = "L-BFGS-B" }
[methods.refused]
solver = { name = "Steps", optimizer = "LBFGS", by = "Project" }
"""


def write(tmp_path, text=TOML):
    path = tmp_path / "own.toml"
    path.write_text(text)
    return path


def test_solvers_are_compared_and_shown(tmp_path):
    out = run_experiment(load_experiment(write(tmp_path)), tmp_path / "run")
    result = json.loads((out / "result.json").read_text())
    rows = {row["variant"]: row for row in result["rows"]}
    assert rows["scipy"]["gap"]["max"] < 1e-6
    assert rows["scipy"]["feasible"] == "2 of 2"
    assert "breaks the curvature" in rows["refused"]["status"]
    assert "evaluation" in write_page(out).read_text(encoding="utf-8")


def test_an_experiment_survives_its_toml(tmp_path):
    experiment = load_experiment(write(tmp_path))
    assert load_experiment(write(tmp_path, experiment.to_toml())) == experiment


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("NonNegativeLeastSquares", "NonNegativeLeastSquare", 'unknown problem "NonNegativeLeastSquare". Closest'),
        ("size = 10", "sise = 10", 'NonNegativeLeastSquares has no argument "sise". Closest: "size"'),
        ("size = 10", "size = 2.5", "line 2: size must be a whole number, got 2.5"),
        ("size = 10", "size = 0", "size must be at least 1, got 0"),
        ('"Scipy"', '"Scypi"', 'line 10: unknown solver "Scypi". Closest: "Scipy"'),
        ('"Adam"', '"Adams"', 'unknown optimizer "Adams". Closest: "Adam"'),
        ('"Project" }\n[methods.scipy]', '"Projekt" }\n[methods.scipy]', 'unknown method "Projekt"'),
        ("[methods.adam]", '[methods."a/b"]', 'the method name "a/b" also names a folder'),
        ("seeds = 2", "seeds = 0", "line 4: budget.seeds must be at least 1 or a list, got 0"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_a_sentence(tmp_path, old, new, message):
    assert old in TOML
    with pytest.raises(InputError) as error:
        load_experiment(write(tmp_path, TOML.replace(old, new)))
    assert message in str(error.value)
