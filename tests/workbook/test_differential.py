"""Experiments on differential equations: problems, networks, ways, and what is measured."""

import json

import pytest
import torch

from feasible.workbook.configuration import load_experiment
from feasible.workbook.differential import problems
from feasible.workbook.differential.measurement import measured
from feasible.workbook.differential.rows import root_mean_square
from feasible.workbook.errors import InputError
from feasible.workbook.runner import run_experiment

TOML = """
equation = { name = "HelmholtzLine", k = 3.0, points = 40, test_points = 101 }
network = { name = "Perceptron", hidden = [8] }
[budget]
seeds = 2
epochs = 3
[methods.adam]
way = { name = "Steps", learning_rate = 1e-3 }
[methods.multipliers]
way = { name = "Steps", by = "AugmentedLagrangian" }
[methods.levenberg-marquardt]
way = "LeastSquares"
budget = { epochs = 30 }
[methods.last-layer]
way = { name = "LastLayer", scale = 3.0 }
network = { name = "Perceptron", hidden = [32] }
"""


def write(tmp_path, text=TOML):
    path = tmp_path / "own.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", problems.__all__)
def test_references_solve_their_own_problem(name):
    """The rows are 0 at the solution, so that equation, conditions and reference belong together."""
    posed = getattr(problems, name)().make(0)
    assert all(column.dtype == torch.float64 for column in posed.test)
    assert not torch.equal(posed.held_out.columns[0][:10], posed.of_kind("equation")[0].columns[0][:10])


def test_ways_are_compared_and_measured(tmp_path):
    out = run_experiment(load_experiment(write(tmp_path)), tmp_path / "run")
    result = json.loads((out / "result.json").read_text())
    rows = {row["variant"]: row for row in result["rows"]}
    assert {row["status"] for row in result["rows"]} == {"finished"}
    assert rows["last-layer"]["test_metric"]["max"] < 1e-6
    assert rows["last-layer"]["feasible"] == "2 of 2"
    assert rows["levenberg-marquardt"]["test_metric"]["median"] < rows["adam"]["test_metric"]["median"]
    assert rows["adam"]["feasible"] == "0 of 2"
    assert (out / "runs" / "adam" / "0" / "records.safetensors").is_file()


def test_zero_is_no_solution_whatever_its_residual():
    posed = problems.HelmholtzLine().make(0)

    class Zero(torch.nn.Module):
        def forward(self, x):
            return 0 * x

    found = measured(posed, Zero(), "relative error", tolerance=1e9)
    assert found["test_metric"] == pytest.approx(1.0)
    assert not found["feasible"]
    assert found["reference_rms"] == pytest.approx(root_mean_square(posed.reference))


def test_an_experiment_survives_its_toml(tmp_path):
    experiment = load_experiment(write(tmp_path))
    assert load_experiment(write(tmp_path, experiment.to_toml())) == experiment


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HelmholtzLine", "HelmholzLine", 'unknown equation "HelmholzLine". Closest: "HelmholtzLine"'),
        ("points = 40", "point = 40", 'HelmholtzLine has no argument "point"'),
        ('"Perceptron", hidden = [8]', '"Perceptrom"', 'unknown network "Perceptrom". Closest: "Perceptron"'),
        ('"LeastSquares"', '"LeastSquare"', 'unknown way "LeastSquare". Closest: "LeastSquares"'),
        ('"AugmentedLagrangian"', '"Augmented"', 'unknown method "Augmented"'),
        ("epochs = 30", "epochs = 0", "line 13: epochs must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_a_sentence(tmp_path, old, new, message):
    assert old in TOML
    with pytest.raises(InputError) as error:
        load_experiment(write(tmp_path, TOML.replace(old, new)))
    assert message in str(error.value)
