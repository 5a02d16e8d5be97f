"""Sweep files: what they say, and every mistake as one sentence with its line."""

import re
from pathlib import Path

import pytest
from sweeps import EXPERIMENT, GRID, write_sweep

from feasible.workbook.configuration import load_experiment
from feasible.workbook.errors import InputError
from feasible.workbook.sweep.configuration import load_sweep
from feasible.workbook.sweep.space import overrides


def head(line: str) -> str:
    """A sweep with this line in its table."""
    return f"\n[sweep]\n{line}\n[sweep.parameters]\ntraining.learning_rate = [0.1]\n"


def parameter(line: str, search: str = "") -> str:
    """A sweep of this parameter."""
    return f"\n[sweep]\n{search}\n[sweep.parameters]\n{line}\n"


RANDOM = 'search = "random"\ntrials = 3'
FIRST = len(EXPERIMENT.splitlines()) + 2
MISTAKES = {
    "no table": ("", None, "there is no [sweep] table"),
    "no parameters": ("\n[sweep]\n", FIRST, "[sweep.parameters] is empty"),
    "unknown key of the table": (head("serch = 'grid'"), FIRST + 1, 'unknown key "serch". Closest: "search"'),
    "unknown search": (head('search = "tree"'), FIRST + 1, 'must be "grid", "random" or "tpe"'),
    "unknown method": (head('methods = ["projct"]'), FIRST + 1, 'no method "projct". Closest: "project"'),
    "method twice": (head('methods = ["project", "project"]'), FIRST + 1, "each once"),
    "no methods": (head("methods = []"), FIRST + 1, "each once"),
    "unknown objective": (head('objective = "loss"'), FIRST + 1, "Known: test_loss, test_metric"),
    "trials of a grid": (head("trials = 3"), FIRST + 1, "leave out trials"),
    "no trials": (head('search = "random"'), FIRST + 1, "needs trials"),
    "no such experiment": (
        head('experiment = "rnge"'),
        FIRST + 1,
        "nothing but [sweep] is read: remove data",
    ),
    "unknown parameter": (
        parameter('"training.learning_rat" = [0.1]'),
        FIRST + 3,
        'training.learning_rat=0.1: unknown key "learning_rat". Closest: "learning_rate"',
    ),
    "unknown parameter in parts": (parameter("training.learning_rat = [0.1]"), FIRST + 3, "unknown key"),
    "bad value": (parameter("training.learning_rate = [0.1, -1.0]"), FIRST + 3, "must be greater than 0"),
    "bad end": (parameter("training.momentum = { low = 0.0, high = 2.0 }", RANDOM), FIRST + 4, "less than 1"),
    "inside a value": (parameter("methods.project.by.weight = [1.0]"), FIRST + 3, "which is not a table"),
    "empty list": (parameter("training.learning_rate = []"), FIRST + 3, "the list is empty"),
    "no list": (parameter("training.learning_rate = 0.1"), FIRST + 3, "must be a list of values, or a table"),
    "value twice": (parameter("training.learning_rate = [0.1, 0.2, 0.1]"), FIRST + 3, "the value 0.1 twice"),
    "low not below high": (
        parameter("training.l1 = { low = 1.0, high = 1.0 }", RANDOM),
        FIRST + 4,
        "must have low < high, got low = 1.0 and high = 1.0",
    ),
    "log from 0": (
        parameter("training.l1 = { low = 0, high = 1, log = true }", RANDOM),
        FIRST + 4,
        "greater than 0",
    ),
    "log and step": (
        parameter("training.l1 = { low = 0.1, high = 1.1, step = 0.1, log = true }", RANDOM),
        FIRST + 4,
        "leave out one of them",
    ),
    "step of 0": (
        parameter("training.l1 = { low = 0, high = 1, step = 0 }"),
        FIRST + 3,
        "must have step > 0",
    ),
    "step that misses": (
        parameter("training.l1 = { low = 0.0, high = 1.0, step = 0.3 }"),
        FIRST + 3,
        "does not get from 0.0 to 1.0 in steps of 0.3",
    ),
    "infinite end": (
        parameter("training.l1 = { low = 0.0, high = inf }", RANDOM),
        FIRST + 4,
        "finite number",
    ),
    "high missing": (
        parameter("training.l1 = { low = 0.0 }", RANDOM),
        FIRST + 4,
        'the key "high" is missing',
    ),
    "unknown key of a range": (
        parameter("training.l1 = { low = 0, hgh = 1 }"),
        FIRST + 3,
        'unknown key "hgh"',
    ),
    "range in a grid": (
        parameter("training.l1 = { low = 0.0, high = 1.0 }"),
        FIRST + 3,
        "a grid needs a list",
    ),
    "nobody's parameter": (
        '\n[sweep]\nmethods = ["project"]\n[sweep.parameters]\nmethods.penalty.by.weight = [1.0]\n',
        FIRST + 3,
        "speaks of none of the methods project",
    ),
    "part of another": (
        parameter('model = [{ hidden = [2] }]\n"model.hidden" = [[3]]'),
        FIRST + 4,
        "model.hidden is a part of model",
    ),
}


@pytest.mark.parametrize(("table", "line", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence_with_its_line(tmp_path: Path, table: str, line: int | None, sentence: str):
    with pytest.raises(InputError, match=re.escape(sentence)) as caught:
        load_sweep(write_sweep(tmp_path, table))
    assert (Path(caught.value.file).name, caught.value.line) == ("small.toml", line)
    assert "\n" not in str(caught.value)


OTHERS = {
    "name": ("rnge", "l1", 'line 2: there is no experiment "rnge"'),
    "file": ("own.toml", "l1", "own.toml: the file does not exist"),
    "parameter": ("range", "l3", "line 4: training.l3=0.0: unknown key"),
}


@pytest.mark.parametrize(("name", "key", "sentence"), OTHERS.values(), ids=OTHERS)
def test_a_sweep_of_another_experiment_is_checked_too(tmp_path: Path, name: str, key: str, sentence: str):
    path = tmp_path / "other.toml"
    path.write_text(f'[sweep]\nexperiment = "{name}"\n[sweep.parameters]\ntraining.{key} = [0.0]\n')
    with pytest.raises(InputError, match=re.escape(sentence)):
        load_sweep(path)


def test_the_experiment_of_a_sweep_file_runs_without_it(tmp_path: Path):
    assert load_experiment(write_sweep(tmp_path)) == load_experiment(write_sweep(tmp_path, ""))


def test_a_shipped_experiment_can_be_swept_by_its_name(tmp_path: Path):
    path = tmp_path / "other.toml"
    path.write_text(
        '[sweep]\nexperiment = "nnls"\n[sweep.parameters]\n"problem.size" = { low = 5, high = 9, step = 2 }\n'
    )
    sweep = load_sweep(path, ["budget.epochs=7", "sweep.seeds=[4]"])
    assert sweep.experiment.budget.epochs == 7
    assert (sweep.objective, sweep.higher_is_better, sweep.seeds, sweep.study) == (
        "train_loss",
        False,
        (4,),
        "other",
    )
    assert [setting["problem.size"] for setting in sweep.space.grid()] == [5, 7, 9] * 5
    assert sweep.load({"problem.size": 5}).problem["size"] == 5


def test_parameters_of_one_method_multiply_that_method_alone(tmp_path: Path):
    sweep = load_sweep(write_sweep(tmp_path))
    grid = list(sweep.space.grid())
    assert sweep.count == len(grid) == 3 + 3 * 2
    assert [setting["method"] for setting in grid] == ["project"] * 3 + ["penalty"] * 6
    assert all("methods.penalty.by.weight" not in setting for setting in grid[:3])
    assert [tuple(setting.values())[1:] for setting in grid[3:5]] == [(0.001, 1.0), (0.001, 10.0)]


@pytest.mark.parametrize(
    ("span", "values"),
    [
        ("{ low = 0.1, high = 0.3, step = 0.1 }", (0.1, 0.2, 0.3)),
        ("{ low = 1, high = 7, step = 3 }", (1, 4, 7)),
        ("{ low = 0, high = 1, step = 0.5 }", (0.0, 0.5, 1.0)),
    ],
    ids=["tenths", "whole", "mixed"],
)
def test_a_range_with_a_step_is_a_grid(tmp_path: Path, span: str, values: tuple[float, ...]):
    (parameter_,) = load_sweep(write_sweep(tmp_path, parameter(f"training.l1 = {span}"))).space.parameters
    assert parameter_.grid() == values
    assert [type(value) for value in parameter_.grid()] == [type(value) for value in values]


VALUES = {
    "model.hidden": [4, 4],
    "training.optimizer": "sgd",
    "model.bias": False,
    "training.learning_rate": 1e-05,
}


def test_values_reach_the_experiment_as_they_are(tmp_path: Path):
    experiment = load_experiment(write_sweep(tmp_path, ""), overrides(VALUES))
    assert experiment.model.hidden == (4, 4)
    assert (experiment.training.optimizer, experiment.training.learning_rate) == ("sgd", 1e-5)
    assert experiment.model.bias is False


SAME = ["sweep.storage=sqlite:///x.db", "sweep.study=x", "sweep.heartbeat=5"]
OTHER = [
    "sweep.seed=1",
    "sweep.seeds=3",
    "sweep.objective=train_loss",
    "budget.epochs=2",
    "data.test_share=0.3",
]


def test_the_fingerprint_changes_with_what_the_trials_depend_on(tmp_path: Path):
    path = write_sweep(tmp_path)
    first = load_sweep(path).fingerprint
    assert {load_sweep(path, [setting]).fingerprint for setting in SAME} == {first}
    others = [load_sweep(path, [setting]).fingerprint for setting in OTHER]
    assert len({first, *others}) == len(OTHER) + 1
    (tmp_path / "elsewhere").mkdir()
    assert load_sweep(write_sweep(tmp_path / "elsewhere")).fingerprint == first


def test_the_fingerprint_of_a_file_of_data_is_that_of_its_contents(tmp_path: Path):
    text = "x,y\n" + "".join(f"{i},{2 * i}\n" for i in range(20))
    experiment = EXPERIMENT.replace('"wine"', '"own.csv"\ntarget = "y"')
    seen = []
    for name, rows in (("a", text), ("b", text), ("c", text + "7,1\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.csv").write_text(rows)
        seen.append(load_sweep(write_sweep(tmp_path / name, GRID, experiment)).fingerprint)
    assert seen[0] == seen[1] != seen[2]
