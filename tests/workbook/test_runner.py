import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from feasible.workbook.configuration import Experiment, load_experiment
from feasible.workbook.data import load_data
from feasible.workbook.errors import InputError
from feasible.workbook.models import build_model
from feasible.workbook.page import write_page
from feasible.workbook.progress import Silent
from feasible.workbook.run_directory import FIRST_LOOK
from feasible.workbook.runner import prepare, run_experiment

TEXT = """
title = "Small"

[data]
source = "wine"

[model]
hidden = [4]

[budget]
seeds = 2
epochs = 2

[quick]
seeds = 1
epochs = 1

[[constraints]]
name = "positive"
weights = "*"
set = "NonNegative"

[methods.project]
by = "Project"

[methods.square]
by = { name = "Reparametrize", chart = "square" }
"""


OWN = "[[methods.project.constraints]]\nweights = "


class Watching(Silent):
    """Notes what is told, and can interrupt at a training's first epoch."""

    def __init__(self, stop_at: tuple[str, int] | None = None) -> None:
        self.stop_at = stop_at
        self.started: list[tuple[int, int]] = []
        self.runs: list[tuple[str, int, str]] = []

    def experiment_started(self, total_runs: int, skipped: int) -> None:
        self.started.append((total_runs, skipped))

    def epoch_finished(self, variant, seed, epoch, row) -> None:
        if (variant, seed) == self.stop_at:
            raise KeyboardInterrupt

    def run_finished(self, variant, seed, status, reason) -> None:
        self.runs.append((variant, seed, status))


@pytest.fixture
def load(tmp_path):
    def load(text: str = TEXT, *overrides: str) -> Experiment:
        (tmp_path / "small.toml").write_text(text, encoding="utf-8")
        return load_experiment(tmp_path / "small.toml", overrides)

    return load


def read(out: Path) -> dict:
    return json.loads((out / "result.json").read_text(encoding="utf-8"))


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def test_a_run_directory_holds_everything(load, tmp_path):
    experiment, out = load(), tmp_path / "deep" / "run"
    assert run_experiment(experiment, out, command_line=["feasible", "run"]) == out
    trainings = {f"runs/{name}/{seed}" for name in ("unconstrained", "project", "square") for seed in (0, 1)}
    parts = ("history.csv", "model.safetensors", "result.json")
    expected = {f"{training}/{part}" for training in trainings for part in parts}
    assert files(out) == expected | {*parts, "config.toml", "environment.json"}
    assert load_experiment(out / "config.toml") == experiment

    environment = json.loads((out / "environment.json").read_text())
    assert environment["seeds"] == [0, 1]
    assert environment["command_line"] == ["feasible", "run"]
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["started"] <= environment["finished"]

    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2 * 2
    assert (rows[0]["variant"], rows[0]["seed"], rows[0]["epoch"]) == ("unconstrained", "0", "1")
    assert rows[0]["test_worst_violation"] == ""


def test_the_result_says_what_happened(load, tmp_path):
    result = read(run_experiment(load(), tmp_path / "run"))
    assert (result["experiment"], result["title"], result["finished"]) == ("small", "Small", True)
    assert result["metric"] == {"name": "test accuracy", "higher_is_better": True}
    assert [row["variant"] for row in result["rows"]] == ["unconstrained", "project", "square"]
    assert [row["feasible"] for row in result["rows"]] == ["0 of 2", "2 of 2", "2 of 2"]
    assert {run["status"] for run in result["runs"]} == {"finished"}
    for row in result["rows"]:
        values = [run["test_metric"] for run in result["runs"] if run["variant"] == row["variant"]]
        assert row["test_metric"] == {"median": sum(values) / 2, "min": min(values), "max": max(values)}
    keys = {column["key"] for column in result["columns"]}
    assert {"test_metric", "feasible", "dead_weights", "milliseconds_per_step", "guarantee"} <= keys
    assert all(keys <= set(row) for row in result["rows"])


def test_the_best_weights_are_feasible_and_plain(load, tmp_path):
    experiment = load()
    out = run_experiment(experiment, tmp_path / "run")
    weights = load_file(out / "model.safetensors")
    assert all(bool((tensor >= 0).all()) for tensor in weights.values())
    build_model(experiment.model, load_data(experiment.data)).load_state_dict(weights)
    obeying = [run for run in read(out)["runs"] if run["feasible"]]
    best = max(obeying, key=lambda run: run["test_metric"])
    same = load_file(out / "runs" / best["variant"] / str(best["seed"]) / "model.safetensors")
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_an_interrupted_run_keeps_what_was_finished_and_goes_on(load, tmp_path):
    experiment, out = load(), tmp_path / "run"
    run_experiment(experiment, out, progress=(first := Watching(("project", 1))))
    result = read(out)
    statuses = [(run["variant"], run["seed"], run["status"]) for run in result["runs"]]
    assert first.runs == statuses[:4]
    assert [status for *_, status in statuses] == ["finished"] * 3 + ["interrupted"] * 3
    assert result["finished"] is False
    assert [row["status"] for row in result["rows"]] == [
        "finished",
        "1 of 2 finished; interrupted",
        "interrupted",
    ]
    assert not (out / "runs" / "project" / "1").exists()

    run_experiment(experiment, out, resume=True, progress=(second := Watching()))
    assert (first.started, second.started) == ([(6, 0)], [(6, 3)])
    assert [run[:2] for run in second.runs] == [("project", 1), ("square", 0), ("square", 1)]
    whole = run_experiment(experiment, tmp_path / "whole")
    assert read(out)["finished"] is True
    assert (out / "history.csv").read_text() == (whole / "history.csv").read_text()
    assert files(out) == files(whole)


def test_resuming_can_add_seeds_and_a_finished_run_trains_nothing(load, tmp_path):
    out = run_experiment(load(), tmp_path / "run", seeds=[0])
    run_experiment(load(), out, seeds=[0, 5], resume=True, progress=(more := Watching()))
    assert [run[1] for run in more.runs] == [5, 5, 5]
    run_experiment(load(), out, seeds=[0, 5], resume=True, progress=(again := Watching()))
    assert again.runs == []
    assert load_experiment(out / "config.toml").budget.seed_list == (0, 5)


def test_resuming_sweeps_up_what_a_crash_left(load, tmp_path):
    out = run_experiment(load(), tmp_path / "run", quick=True)
    expected = files(out)
    half = out / "runs" / "project" / ".0.partial"
    half.mkdir()
    (half / "result.json").write_text("{")
    shutil.rmtree(out / "runs" / "project" / "0")
    run_experiment(load(), out, quick=True, resume=True)
    assert files(out) == expected


def test_quick_uses_its_own_budget(load, tmp_path):
    out = run_experiment(load(), tmp_path / "run", quick=True)
    assert {(run["seed"], run["epochs"]) for run in read(out)["runs"]} == {(0, 1)}
    assert FIRST_LOOK in write_page(out).read_text(encoding="utf-8")


def test_a_failing_method_is_a_row_with_its_reason(load, tmp_path):
    text = TEXT.replace('"NonNegative"', '"Equal"').replace('by = "Project"', 'by = "Barrier"')
    result = read(run_experiment(load(text), tmp_path / "run", seeds=[0]))
    row = next(row for row in result["rows"] if row["variant"] == "project")
    assert row["status"].startswith("failed: Barrier does not work with Equal")
    assert (row["seeds"], row["test_metric"]) == (0, "–")
    assert result["finished"] is True
    assert {run["variant"] for run in result["runs"] if run["status"] == "finished"} == {"unconstrained"}


def test_a_run_is_not_overwritten(load, tmp_path):
    out = run_experiment(load(), tmp_path / "run", quick=True)
    before = (out / "result.json").stat().st_mtime_ns
    with pytest.raises(InputError, match="holds a run already: go on with --resume"):
        run_experiment(load(), out, quick=True)
    with pytest.raises(InputError, match="another configuration"):
        run_experiment(load(TEXT, "model.hidden=[5]"), out, quick=True, resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    for resume in (True, False):
        with pytest.raises(InputError, match="this folder holds other files"):
            run_experiment(load(), tmp_path / "other", resume=resume)
    with pytest.raises(InputError, match="this is a file"):
        run_experiment(load(), tmp_path / "small.toml")
    assert (out / "result.json").stat().st_mtime_ns == before


def test_an_empty_folder_can_be_used(load, tmp_path):
    (tmp_path / "run").mkdir()
    assert (run_experiment(load(), tmp_path / "run", quick=True) / "result.json").is_file()


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('source = "wine"', 'source = "wne"', 5, 'Closest: "wine".'),
        ('source = "wine"', 'source = "wine"\ntarget = "alchol"', 6, 'Closest: "alcohol".'),
        ('weights = "*"', 'weights = "haed.*"', 20, 'weights = "haed.*" matches no parameter.'),
        ('set = "NonNegative"', 'set = { name = "Box", lower = [0.0, 1.0, 2.0] }', 21, "hidden1.weight: "),
        ('weights = "*"\nset = "NonNegative"', 'value = "prediction"\nset = { name = "Box", lower = [0.0, 1.0] }', 21,
         "prediction: "),
        ("[methods.square]", OWN + '"x"\nset = "Box"\n[methods.square]', 26, "matches no parameter"),
        ("[methods.square]", OWN + '"*"\nset = "Box"\nby = "Project"\n[methods.square]', 26, "two methods"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_anything_is_written(load, tmp_path, old, new, line, message):
    experiment = load(TEXT.replace(old, new))
    with pytest.raises(InputError) as caught:
        run_experiment(experiment, tmp_path / "run")
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'small.toml'}, line {line}: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_bound_in_an_unknown_unit_is_refused(load):
    text = TEXT.replace('"wine"', '"diabetes"').replace('weights = "*"', 'value = "prediction"')
    bounded = text.replace('"NonNegative"', '{ name = "Box", lower = 0.0, upper = 300.0 }')
    prepare(load(text, "methods={}"))
    with pytest.raises(InputError, match="measured in units of 100, and so would this bound"):
        prepare(load(bounded, "methods={}"))
    prepare(load(bounded, "methods={}", "data.target_unit=1.0"))
