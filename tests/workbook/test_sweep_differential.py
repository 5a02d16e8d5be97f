"""Sweeps of experiments on differential equations: what they minimise, and what their violation is."""

from pathlib import Path

import pytest

from feasible.workbook.errors import InputError
from feasible.workbook.sweep.configuration import load_sweep
from feasible.workbook.sweep.runner import run_sweep
from feasible.workbook.sweep.trial import summarise

FILE = """
equation = { name = "HelmholtzLine", k = 3.0, points = 40, test_points = 101 }
network = { name = "Perceptron", hidden = [8] }
[budget]
seeds = 1
[methods.last-layer]
way = { name = "LastLayer", scale = 1.0 }
[sweep]
[sweep.parameters]
network.hidden = [[2], [16]]
"""


def write(folder: Path, text: str = FILE) -> Path:
    path = folder / "small.toml"
    path.write_text(text)
    return path


def test_the_best_setting_is_the_feasible_one_with_the_least_error(tmp_path: Path):
    results = run_sweep(load_sweep(write(tmp_path)), tmp_path / "out")
    assert results.sweep.objective == "test_metric"
    assert results.best is not None
    assert results.best.setting == {"network.hidden": [16]}
    assert [row.is_feasible for row in results.rows] == [True, False]
    assert results.rows[1].violation > 1e-3
    assert [column["label"] for column in results.columns()][:2] == ["test relative error", "residual"]


def test_the_violation_is_the_residual_of_the_worst_seed(tmp_path: Path):
    finished = {"status": "finished", "test_feasible": None, "feasible": True, "worst_violation": 9.0}
    runs = [
        finished | {"seed": seed, "residual": residual, "test_metric": residual / 10, "seconds": 1.0}
        for seed, residual in enumerate([1e-5, 4e-4, 2e-5])
    ]
    outcome = summarise(load_sweep(write(tmp_path)), "last-layer", runs)
    assert outcome.violation == 4e-4
    assert outcome.objective == pytest.approx(2e-6)
    assert outcome.feasible


def test_only_what_is_measured_can_be_asked_for(tmp_path: Path):
    path = write(tmp_path, FILE.replace("[sweep]\n", '[sweep]\nobjective = "train_metric"\n'))
    with pytest.raises(InputError, match="Known: test_metric, residual, seconds"):
        load_sweep(path)
