"""Sweeps of one worker: complete, deterministic, resumable, ranked, shown."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from plotly import graph_objects
from sweeps import quicken_databases, slow_databases, write_sweep

from feasible.workbook import page as pages
from feasible.workbook.cli import main
from feasible.workbook.configuration import load_experiment
from feasible.workbook.data import load_data
from feasible.workbook.sweep import worker
from feasible.workbook.sweep.configuration import Sweep, load_sweep
from feasible.workbook.sweep.figures import sweep_figures, sweep_marks
from feasible.workbook.sweep.page import configuration, findings
from feasible.workbook.sweep.results import Results, Row, short_names
from feasible.workbook.sweep.runner import run_sweep
from feasible.workbook.sweep.trial import Outcome, summarise
from feasible.workbook.training import train

SEARCH = """
[sweep]
search = "{search}"
trials = {trials}
seed = 3

[sweep.parameters]
training.learning_rate = {{ low = 1e-4, high = 1.0, log = true }}
training.batch_size = {{ low = 8, high = 64, step = 8 }}
methods.penalty.by.weight = [1.0, 10.0]
model.hidden = [[3], [2, 2]]
"""


class Fake:
    """In the place of a training: counts trials, and is interrupted in one of them."""

    def __init__(self, interrupted_at: int | None = None) -> None:
        self.settings: list[tuple] = []
        self.interrupted_at = interrupted_at

    def __call__(self, sweep: Sweep, method: str, setting: dict) -> Outcome:
        self.settings.append((method, *map(str, setting.values())))
        if len(self.settings) == self.interrupted_at:
            raise KeyboardInterrupt
        rate = setting["training.learning_rate"]
        violation = 0.0 if method == "project" else rate
        run = {"status": "finished", "seed": 0, "test_loss": abs(math.log10(rate) + 2), "test_metric": 0.5}
        run |= {"worst_violation": violation, "feasible": violation == 0, "test_feasible": None}
        return summarise(sweep, method, [run])


@pytest.fixture(autouse=True)
def quick_databases() -> Iterator[None]:
    quicken_databases()
    yield
    slow_databases()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """No trial trains anything."""
    fake = Fake()
    monkeypatch.setattr(worker, "run_trial", lambda *arguments: fake(*arguments))
    return fake


def told(results: Results) -> list[dict]:
    """All that a sweep has found, without times and names of workers."""
    rows = [row.to_dict() for row in sorted(results.rows, key=lambda row: row.place)]
    return [
        {key: row[key] for key in row if key not in ("seconds", "worker", "trial", "again", "attempt")}
        for row in rows
    ]


def test_a_grid_is_complete_and_deterministic_and_its_numbers_are_those_of_the_trainings(tmp_path: Path):
    sweep = load_sweep(write_sweep(tmp_path))
    results = run_sweep(sweep, tmp_path / "a")
    assert results.is_finished
    assert [{"method": row["method"], **row["setting"]} for row in told(results)] == list(sweep.space.grid())
    assert told(results) == told(run_sweep(sweep, tmp_path / "b"))

    row = next(row for row in results.rows if row.place == 4)
    experiment = load_experiment(
        tmp_path / "small.toml", ["training.learning_rate=0.001", "methods.penalty.by.weight=10.0"]
    )
    variant = next(variant for variant in experiment.variants() if variant.name == "penalty")
    data = load_data(experiment.data)
    runs = [train(experiment, variant, seed, data).to_dict() for seed in (0, 1)]
    losses = [run["test_loss"] for run in runs]
    assert row.objective == sum(losses) / 2
    assert row.attributes["objectives"] == losses
    assert row.attributes["seeds"] == [0, 1]
    assert row.attributes["metric"] == sum(run["test_metric"] for run in runs) / 2
    assert row.violation == max(run["worst_violation"] for run in runs) > 0
    assert (row.is_feasible, row.attributes["obeying"]) == (False, 0)


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_a_search_is_deterministic_also_when_it_goes_on(tmp_path: Path, fake: Fake, search: str):
    path = write_sweep(tmp_path, SEARCH.format(search=search, trials=12))
    sweep = load_sweep(path)
    whole = told(run_sweep(sweep, tmp_path / "whole"))
    assert len(whole) == 12
    assert {row["method"] for row in whole} == {"project", "penalty"}
    for row in whole:
        setting = row["setting"]
        assert 1e-4 <= setting["training.learning_rate"] <= 1
        assert setting["training.batch_size"] in range(8, 65, 8)
        assert setting["model.hidden"] in ([3], [2, 2])
        assert ("methods.penalty.by.weight" in setting) == (row["method"] == "penalty")

    run_sweep(load_sweep(path, ["sweep.trials=7"]), tmp_path / "parts")
    fake.settings.clear()
    assert told(run_sweep(sweep, tmp_path / "parts")) == whole
    assert len(fake.settings) == 5
    other = load_sweep(path, ["sweep.seed=4"])
    assert told(run_sweep(other, tmp_path / "other")) != whole


def test_the_search_is_told_what_is_feasible(tmp_path: Path, fake: Fake):
    results = run_sweep(load_sweep(write_sweep(tmp_path)), tmp_path / "out")
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path}/out/sweep.db")
    trials = study.get_trials()
    study._storage._backend.engine.dispose()
    assert {trial.number: trial.constraints for trial in trials} == {
        row.number: {"violation": 0.0 if row.method == "project" else row.setting["training.learning_rate"]}
        for row in results.rows
    }


@pytest.mark.parametrize("at", [1, 6])
def test_an_interrupted_sweep_goes_on_with_what_is_missing(tmp_path: Path, fake: Fake, at: int):
    sweep = load_sweep(write_sweep(tmp_path))
    whole = told(run_sweep(sweep, tmp_path / "whole"))
    fake.settings, fake.interrupted_at = [], at
    broken = run_sweep(sweep, tmp_path / "parts")
    assert not broken.is_finished
    assert [row.status for row in broken.rows] == ["finished"] * (at - 1) + ["waiting"]
    fake.settings, fake.interrupted_at = [], None
    results = run_sweep(sweep, tmp_path / "parts")
    assert len(fake.settings) == len(set(fake.settings)) == 9 - at + 1
    assert results.is_finished
    assert told(results) == whole
    fake.settings = []
    assert told(run_sweep(sweep, tmp_path / "parts")) == whole
    assert fake.settings == []


def test_a_setting_whose_values_do_not_go_together_or_diverge_is_a_row_with_its_reason(tmp_path: Path):
    table = (
        '\n[sweep]\nmethods = ["penalty"]\nseeds = [5]\n[sweep.parameters]\ntraining.optimizer = ["sgd"]\n'
    )
    table += 'training.learning_rate = [1e30, 0.01]\nmodel.hidden = [[3]]\nmodel.activation = ["tanh"]\n'
    results = run_sweep(load_sweep(write_sweep(tmp_path, table)), tmp_path / "out")
    good, bad = results.rows
    assert (good.status, bad.status) == ("finished", "failed")
    assert good.attributes["seeds"] == [5]
    assert "diverged" in bad.attributes["reason"]
    assert (bad.objective, bad.violation, results.is_finished) == (None, None, True)

    layers = load_sweep(
        write_sweep(
            tmp_path,
            "\n[sweep]\n[sweep.parameters]\ndata.scaling = ['none', 'unit']\ndata.complement = [false]\n",
        )
    )
    outcome = worker.run_trial(layers, "project", {"data.scaling": "none", "data.complement": True})
    assert outcome.attributes["reason"] == 'complement = true needs scaling = "unit".'
    assert (outcome.objective, outcome.feasible, outcome.violation) == (None, False, math.inf)


RUN = {"status": "finished", "test_feasible": None, "seconds": 1.0, "feasible": True, "worst_violation": 0.0}


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([{"test_loss": 1.0}, {"test_loss": 3.0}, {"test_loss": 9.0}], (3.0, 0.0, True)),
        (
            [{"test_loss": 1.0}, {"status": "failed", "reason": "r"}, {"test_loss": 2.0}],
            (2.0, math.inf, False),
        ),
        ([{"test_loss": 1.0}, {"status": "failed", "reason": "r"}], (None, math.inf, False)),
        ([{"test_loss": 1.0, "test_worst_violation": 0.5, "test_feasible": False}], (1.0, 0.5, False)),
        ([{"test_loss": 1.0, "worst_violation": math.nan, "feasible": False}], (1.0, math.inf, False)),
        ([{"test_loss": math.nan}], (None, 0.0, True)),
    ],
    ids=["median", "one failed", "half failed", "held-out", "NaN", "no loss"],
)
def test_the_seeds_of_a_trial_are_one_outcome(runs: list[dict], expected: tuple):
    sweep = SimpleNamespace(objective="test_loss", higher_is_better=False)
    known = [RUN | {"seed": seed} | run for seed, run in enumerate(runs)]
    outcome = summarise(sweep, "project", known)
    assert (outcome.objective, outcome.violation, outcome.feasible) == expected
    json.dumps(outcome.attributes, allow_nan=False)


def rows(*points: tuple[float | None, float | None]) -> list[Row]:
    """Objective and violation of every setting."""
    return [
        Row(
            place,
            place,
            "failed" if objective is None else "finished",
            {},
            {"objective": objective, "violation": violation, "feasible": violation == 0},
        )
        for place, (objective, violation) in enumerate(points)
    ]


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_the_front_is_what_brute_force_finds(higher_is_better: bool):
    points = [
        (3.0, 0.0),
        (2.0, 0.0),
        (2.5, 0.1),
        (1.0, 0.5),
        (1.0, 0.4),
        (0.5, 2.0),
        (0.7, 1.0),
        (None, 0.0),
        (9.0, 9.0),
    ]
    sign = -1.0 if higher_is_better else 1.0
    found = Results(SimpleNamespace(higher_is_better=higher_is_better), tuple(rows(*points))).front()
    known = [(sign * a, b, place) for place, (a, b) in enumerate(points) if a is not None]
    better = {
        place
        for a, b, place in known
        if not any((c <= a and d <= b) and (c < a or d < b) for c, d, _ in known)
    }
    assert {row.place for row in found} == better
    assert [row.violation for row in found] == sorted(row.violation for row in found)


def test_the_best_feasible_setting_comes_first_then_the_least_violation(tmp_path: Path, fake: Fake):
    results = run_sweep(load_sweep(write_sweep(tmp_path)), tmp_path / "out")
    kinds = [(row.is_feasible, row.violation, row.objective) for row in results.rows]
    assert kinds == sorted(kinds, key=lambda kind: (not kind[0], kind[1], kind[2]))
    assert results.best.setting == {"training.learning_rate": 0.01}
    assert [row.objective for row in results.rows[:3]] == [0.0, 1.0, 1.0]


def test_an_objective_that_is_better_when_it_is_higher(tmp_path: Path):
    sweep = load_sweep(write_sweep(tmp_path), ["sweep.objective=test_metric", "budget.seeds=1"])
    results = run_sweep(sweep, tmp_path / "out")
    feasible = [row.objective for row in results.rows if row.is_feasible]
    assert sweep.higher_is_better
    assert len(feasible) == 3
    assert feasible == sorted(feasible, reverse=True)
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path}/out/sweep.db")
    assert study.best_trial.value == max(feasible)
    study._storage._backend.engine.dispose()


def test_solvers_can_be_swept(tmp_path: Path):
    text = '[sweep]\nexperiment = "nnls"\nmethods = ["minimize", "adam"]\nobjective = "gap"\nseeds = 1\n'
    text += '[sweep.parameters]\n"problem.size" = [10]\nmethods.adam.solver.learning_rate = [0.01, 0.1]\n'
    (tmp_path / "solvers.toml").write_text(text)
    results = run_sweep(load_sweep(tmp_path / "solvers.toml", ["budget.epochs=50"]), tmp_path / "out")
    assert [row.status for row in results.rows] == ["finished"] * 3
    assert results.best.method == "minimize"
    assert abs(results.best.objective) < 1e-6


def test_the_figures_are_plotly_and_show_every_setting(tmp_path: Path, fake: Fake):
    sweep = load_sweep(write_sweep(tmp_path, SEARCH.format(search="random", trials=12)))
    results = run_sweep(sweep, tmp_path / "out")
    marks = sweep_marks(results)
    figures = sweep_figures(results, marks)
    assert [figure.name for figure in figures] == [
        "front",
        "parameter-training-learning-rate",
        "parameter-training-batch-size",
        "parameter-methods-penalty-by-weight",
        "parameter-model-hidden",
    ]
    for figure in figures:
        graph_objects.Figure(data=figure.data, layout=figure.layout)
        json.dumps([figure.data, figure.layout], allow_nan=False)
    by_method = {trace["meta"]["variant"]: trace for trace in figures[1].data}
    assert sum(len(trace["x"]) for trace in by_method.values()) == 12
    assert not any("open" in symbol for symbol in by_method["project"]["marker"]["symbol"])
    assert all(symbol.endswith("-open") for symbol in by_method["penalty"]["marker"]["symbol"])
    assert figures[1].layout["xaxis"]["type"] == "log"
    assert figures[2].layout["xaxis"]["type"] == "linear"
    assert figures[4].layout["xaxis"]["categoryarray"] == ["[3]", "[2, 2]"]
    line = figures[0].data[0]
    assert line["y"] == [row.objective for row in results.front()]


def test_the_configuration_on_the_page_is_the_sweep(tmp_path: Path):
    sweep = load_sweep(write_sweep(tmp_path), ["budget.epochs=3"])
    (tmp_path / "again").mkdir()
    again = load_sweep(_written(tmp_path / "again" / "other.toml", configuration(sweep)))
    assert again.experiment == sweep.experiment
    assert list(again.space.grid()) == list(sweep.space.grid())
    assert (again.study, again.seeds) == (sweep.study, sweep.seeds)


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def feasible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a command in a folder that holds ``small.toml``."""
    write_sweep(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(pages, "_plotly", lambda: "/* plotly */")

    def run(*words: object) -> SimpleNamespace:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return run


def test_the_command_prints_the_table_and_writes_the_page(feasible, fake: Fake, tmp_path: Path):
    answer = feasible("sweep", "small.toml")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert "★ projection" in next(line for line in lines if "★" in line)
    assert answer.out.rstrip().endswith("Report: runs/small-sweep/report.html")
    assert "[9/9] penalty, learning_rate = 0.1, weight = 10: 1, violation 0.1" in answer.err
    assert all(len(line) <= 100 for line in lines)
    text = (tmp_path / "runs/small-sweep/report.html").read_text()
    assert text.count("<tr") == 1 + 9
    assert text.count('class="plot"') == 1 + 2
    assert "has not come to its end" not in text
    assert findings(run_sweep(load_sweep("small.toml"), tmp_path / "runs/small-sweep"))[0] in text.replace(
        "&#34;", '"'
    )
    assert feasible("sweep", "small.toml").err == "9 of 9 settings are there already.\n"


def test_the_command_as_json(feasible, fake: Fake, tmp_path: Path):
    answer = feasible("sweep", "small.toml", "--json", "--quiet", "--out", "here")
    document = json.loads(answer.out)
    assert (answer.code, answer.err) == (0, "")
    assert (document["finished"], document["settings"], len(document["trials"])) == (True, 9, 9)
    assert document["best"]["setting"] == {"training.learning_rate": 0.01}
    assert document["best"]["place"] == document["front"][0] == 1
    assert document == json.loads((tmp_path / "here" / "sweep.json").read_text())


def test_ctrl_c_leaves_a_sweep_that_goes_on(feasible, fake: Fake, tmp_path: Path):
    fake.interrupted_at = 4
    answer = feasible("sweep", "small.toml", "--out", "here")
    assert answer.code == 130
    assert answer.err.endswith("Interrupted: what finished is kept. The same command goes on.\n")
    assert "has not come to its end" in (tmp_path / "here" / "report.html").read_text()
    answer = feasible("sweep", "small.toml", "--out", "here")
    assert (answer.code, len(fake.settings)) == (0, 4 + 6)
    assert answer.err.startswith("3 of 9 settings are there already.\n")


MISTAKES = [
    (["small.toml", "--storage", "sqlite:////nowhere/x"], "--storage: the storage sqlite:////nowhere/x cannot be "),
    (["small.toml", "--storage", "nonsense"], '--storage: "nonsense" is not the URL of a database'),
    (["small.toml", "--storage", "foo://x"], '--storage: "foo://x" is not the URL of a database'),
    (["small.toml", "--storage", "postgresql://me:secret@127.0.0.1:1/x"], "//me:***@127.0.0.1:1/x cannot be reached"),
    (["small.toml", "--set", "sweep.storage=sqlite:////nowhere/x.db"], "--set sweep.storage=sqlite:////nowhere/x.db: "),
    (["small.toml", "--set", "sweep.trials=3"], "--set sweep.trials=3: a grid tries all"),
    (["small.toml", "--set", "budget.epoch=3"], "--set budget.epoch=3: "),
    (["small.toml", "--out", "small.toml"], "small.toml is a file"),
    (["small.toml", "--out", "."], "this folder holds other files"),
    (["nowhere.toml"], "nowhere.toml: the file does not exist"),
    (["range"], "there is no [sweep] table"),
    ([], "requires an argument"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "sentence"), MISTAKES, ids=[" ".join(words) or "nothing" for words, _ in MISTAKES]
)
def test_a_mistake_is_one_sentence_and_exit_code_2(feasible, words: list[str], sentence: str):
    answer = feasible("sweep", *words)
    assert answer.code == 2, answer.err
    assert sentence in answer.err
    assert "secret" not in answer.err
    assert (answer.out, answer.err.count("\n")) == ("", 1)


def test_a_study_of_another_file_is_refused(feasible, fake: Fake, tmp_path: Path):
    assert feasible("sweep", "small.toml", "--out", "here", "-q").code == 0
    for words in (["--set", "budget.epochs=4"], ["--set", "sweep.seeds=1"]):
        answer = feasible("sweep", "small.toml", "--out", "here", *words)
        assert answer.code == 2
        assert "is one of another configuration" in answer.err
    other = ["--set", "sweep.seeds=1", "--set", "sweep.study=other"]
    assert feasible("sweep", "small.toml", "--out", "here", "-q", *other).code == 0


def test_a_study_that_was_not_made_by_a_sweep_is_refused(feasible, tmp_path: Path):
    study = optuna.create_study(storage="sqlite:///alien.db", study_name="small")
    study.add_trial(optuna.create_trial(value=1.0))
    study._storage._backend.engine.dispose()
    answer = feasible("sweep", "small.toml", "--storage", "sqlite:///alien.db")
    assert answer.code == 2
    assert "is one of another configuration" in answer.err


def test_short_names_tell_keys_apart():
    assert short_names(["a.b", "c.b", "d"]) == ["a.b", "c.b", "d"]
    assert short_names(["a.b", "b"]) == ["a.b", "b"]
