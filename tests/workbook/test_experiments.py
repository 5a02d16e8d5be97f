"""The experiments that are shipped, and what they are there to show."""

import functools
import json

import pytest
import torch
from torch import nn

import feasible as fs
from feasible.workbook.configuration import list_experiments, load_experiment
from feasible.workbook.data import load_data
from feasible.workbook.runner import prepare, run_experiment
from feasible.workbook.training import RunResult, train

NAMES = ["own-table", "positive-outputs", "positive-weights", "range"]


@functools.cache
def trained(name: str, variant: str, *overrides: str, seed: int = 0) -> RunResult:
    experiment = load_experiment(name, overrides)
    chosen = next(found for found in experiment.variants() if found.name == variant)
    return train(experiment, chosen, seed, load_data(experiment.data))


def test_four_experiments_are_shipped_and_described():
    experiments = list_experiments()
    assert [experiment.name for experiment in experiments] == NAMES
    assert all(experiment.title and len(experiment.description) > 50 for experiment in experiments)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_a_shipped_experiment_runs(name, tmp_path):
    experiment = load_experiment(name, ["budget.epochs=1", "budget.seeds=1"])
    prepare(experiment)
    result = json.loads((run_experiment(experiment, tmp_path / "run") / "result.json").read_text())
    assert {run["status"] for run in result["runs"]} == {"finished"}
    assert len(result["rows"]) == len(experiment.variants()) >= 4


POSITIVE = [
    "project-keep",
    "project-tangent",
    "project-reset",
    "abs",
    "softplus",
    "exp",
    "square",
    "relu",
    "barrier",
]


@pytest.mark.parametrize("variant", POSITIVE)
def test_positive_weights_are_exactly_positive_and_still_classify(variant):
    result = trained("positive-weights", variant, "budget.epochs=8")
    assert result.measurements["feasible"]
    assert all(bool((tensor >= 0).all()) for tensor in result.weights.values())
    assert result.measurements["test_metric"] > 0.75


def test_a_relu_chart_has_dead_weights_and_the_default_chart_none():
    dead = {
        name: trained("positive-weights", name, "budget.epochs=2").measurements["dead_weights"]
        for name in ("relu", "abs")
    }
    assert dead["abs"] == 0
    assert dead["relu"] > 0.3


def test_unconstrained_weights_leave_the_range_and_projected_ones_do_not():
    free = trained("range", "unconstrained", "budget.epochs=20")
    assert free.measurements["worst_violation"] > 0.1
    for variant in ("project", "project-l1", "project-l2", "tanh", "barrier"):
        result = trained("range", variant, "budget.epochs=5")
        assert result.measurements["feasible"]
        matrices = [tensor for name, tensor in result.weights.items() if name.endswith("weight")]
        assert all(bool((matrix.abs() <= torch.tensor(0.2)).all()) for matrix in matrices)


def test_regularised_projection_leaves_fewer_weights_on_the_bounds():
    share = {
        variant: trained("range", variant, "budget.epochs=40").measurements["at_bound"]
        for variant in ("project", "project-l1", "project-l2")
    }
    assert share["project-l1"] < share["project"]
    assert share["project-l2"] < share["project"]


def _regression(clamp_before: bool) -> float:
    """Weights of a linear regression in [−0.2, 0.2]; how far outside they ever were after a step."""
    data = load_data(load_experiment("range").data)
    torch.manual_seed(0)
    model = nn.Linear(10, 1)
    problem = fs.Problem(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    if not clamp_before:
        problem.constrain("weight", fs.Box(-0.2, 0.2), by=fs.Project())
        problem.attach(optimizer)
    furthest = 0.0
    for _ in range(100):
        optimizer.zero_grad()
        problem.loss((model(data.x_train) - data.y_train).square().mean()).backward()
        if clamp_before:
            with torch.no_grad():
                model.weight.clamp_(-0.2, 0.2)
        optimizer.step()
        furthest = max(furthest, float((model.weight.detach().abs() - torch.tensor(0.2)).max()))
    return furthest


def test_clamping_before_the_step_leaves_weights_outside():
    assert _regression(clamp_before=True) > 0.01
    assert _regression(clamp_before=False) <= 0


def test_unconstrained_outputs_are_negative_on_some_samples():
    measured = trained("positive-outputs", "unconstrained").measurements
    assert measured["worst_violation"] > 0.01
    assert measured["test_worst_violation"] > 0.01


@pytest.mark.parametrize("variant", ["exp-output", "softplus-output", "linear-output"])
def test_outputs_are_positive_by_construction(variant):
    measured = trained("positive-outputs", variant, "budget.epochs=10").measurements
    assert measured["guarantees"] == ["proven, every input"]
    assert measured["test_feasible"]


def test_a_linear_layer_is_positive_on_inputs_that_were_never_seen():
    result = trained("positive-outputs", "linear-output", "budget.epochs=10")
    assert bool((result.weights["head.weight"] >= 0).all())
    assert bool((result.weights["head.bias"] >= 0).all())
    hidden, head = nn.Linear(4, 32), nn.Linear(32, 1)
    hidden.load_state_dict({name[8:]: t for name, t in result.weights.items() if name.startswith("hidden1.")})
    head.load_state_dict({name[5:]: t for name, t in result.weights.items() if name.startswith("head.")})
    wild = 1000 * torch.randn(5000, 4, generator=torch.Generator().manual_seed(0))
    assert head(torch.relu(hidden(wild))).min().item() >= 0


@pytest.mark.parametrize("variant", ["penalty", "slack", "lagrangian-index", "augmented-lagrangian-index"])
def test_soft_methods_violate_less_than_an_unconstrained_network(variant):
    free = trained("positive-outputs", "unconstrained").measurements
    measured = trained("positive-outputs", variant).measurements
    assert measured["worst_violation"] < free["worst_violation"] / 2
    assert measured["test_metric"] < 1.3 * free["test_metric"]
