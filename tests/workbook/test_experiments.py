"""The experiments that are shipped, and what they are there to show."""

import functools
import json

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import nn

import feasible as fs
from feasible.workbook.configuration import list_experiments, load_experiment
from feasible.workbook.data import load_data
from feasible.workbook.runner import run_experiment
from feasible.workbook.training import RunResult, train

NAMES = [
    "burgers",
    "candidates",
    "dictionary",
    "fairness",
    "freeze",
    "helmholtz-1d",
    "helmholtz-2d",
    "helmholtz-projection",
    "helmholtz-training",
    "inverse-heat",
    "max-entropy",
    "nnls",
    "norm-bounded",
    "one-hot-81",
    "own-table",
    "poisson",
    "positive-outputs",
    "positive-weights-lbfgs",
    "positive-weights",
    "pythagorean-projection",
    "pythagorean-training",
    "range",
    "recall",
    "sphere",
    "ternary-digits",
]
SMALL = ["equation.grid=3", "equation.points=2", "equation.collocation=20"]
TRAINING = [
    *SMALL,
    *(
        f"methods.{row}.budget.epochs=1"
        for row in ("ss-broyden", "least-squares", "least-squares-data", "product")
    ),
    *(
        f"methods.{row}.equation.{key}=20"
        for row in ("lbfgs", "ss-broyden")
        for key in ("labels", "collocation")
    ),
]
SOLVES = [
    *(
        f"methods.{row}.equation.{key}=20"
        for row in ("solve", "solve-start")
        for key in ("labels", "collocation")
    ),
    *(f"methods.{row}.network.features=10" for row in ("solve", "solve-start")),
]
PROJECTION = [
    *SMALL,
    "methods.study-soft.budget.epochs=1",
    *(f"methods.{row}.way.max_iterations=1" for row in ("outputs", "parameters", "study", "study-soft")),
]
SHORT = {
    "burgers": [
        *("equation.points=60", "equation.test_points=17", "methods.slabs.equation.points=20"),
        *("methods.slabs.way.slabs=2", "methods.slabs.way.rounds=1", "methods.slabs.network.hidden=[5]"),
    ],
    "candidates": ["polish.steps=2", "methods.search.search.steps=2"],
    "dictionary": ["problem.size=5", "budget.epochs=20"],
    "helmholtz-projection": PROJECTION,
    "helmholtz-training": [*TRAINING, *SOLVES],
    "helmholtz-2d": [
        "equation.points=8",
        "equation.test_points=17",
        "methods.last-layer.network.hidden=[40]",
    ],
    "inverse-heat": ["equation.points=40", "equation.test_points=11", "equation.times=5"],
    "nnls": ["problem.size=20", "budget.epochs=20"],
    "pythagorean-projection": PROJECTION,
    "pythagorean-training": [*TRAINING, "methods.least-squares-start.budget.epochs=1"],
    "one-hot-81": ["polish.steps=2", "methods.search.search.steps=2"],
    "poisson": [
        *("equation.points=60", "equation.test_points=11", "methods.last-layer.network.hidden=[40]"),
        "methods.projected.way.max_iterations=2",
    ],
    "sphere": ["problem.size=20", "budget.epochs=20"],
    "ternary-digits": ["polish.steps=2"],
}
"""Settings that make an experiment as short as one epoch of the others."""


@functools.cache
def trained(name: str, variant: str, *overrides: str, seed: int = 0) -> RunResult:
    experiment = load_experiment(name, overrides)
    chosen = next(found for found in experiment.variants() if found.name == variant)
    return train(experiment, chosen, seed, load_data(experiment.data))


def test_the_shipped_experiments_are_described():
    experiments = list_experiments()
    assert [experiment.name for experiment in experiments] == NAMES
    assert all(experiment.title and len(experiment.description) > 50 for experiment in experiments)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_a_shipped_experiment_runs(name, tmp_path):
    settings = ["budget.epochs=1", "budget.seeds=1", *SHORT.get(name, ())]
    experiment = load_experiment(name, settings)
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


@pytest.mark.parametrize("variant", ["project", "softmax"])
def test_the_die_of_greatest_entropy_is_found(variant):
    measured = trained("max-entropy", variant, "budget.epochs=1000").measurements
    assert measured["test_metric"] == pytest.approx(1.613581, abs=1e-5)
    assert measured["known_distance"] < 1e-4
    assert measured["value.mean"] == pytest.approx(4.5, abs=1e-4)


def test_the_known_die_is_the_exponential_family_with_this_mean():
    pips = np.arange(1, 7)

    def die(tilt):
        return np.exp(tilt * pips) / np.exp(tilt * pips).sum()

    p = die(scipy.optimize.brentq(lambda tilt: die(tilt) @ pips - 4.5, -5, 5, xtol=1e-14))
    known = load_experiment("max-entropy").known
    assert known.loss == pytest.approx((p * np.log(p)).sum(), abs=1e-6)
    assert known.weights["head.weight"][0] == pytest.approx(p.tolist(), abs=1e-6)


def test_a_fixed_penalty_ends_beside_the_known_die():
    measured = trained("max-entropy", "penalty", "budget.epochs=300").measurements
    assert measured["known_distance"] > 0.01
    assert not measured["feasible"]


@pytest.mark.parametrize("variant", ["project", "augmented-lagrangian"])
def test_a_bounded_norm_costs_no_more_than_the_convex_optimum(variant):
    measured = trained("norm-bounded", variant).measurements
    assert abs(measured["gap"]) < 1e-5
    assert measured["worst_violation"] < 1e-4


def test_the_known_loss_is_the_convex_optimum():
    """Between a lower bound from the dual function and the loss of a feasible point, both by scipy."""
    data = load_data(load_experiment("norm-bounded").data)
    x, y, multiplier, size = data.x_train.double(), data.y_train, 0.3931382, 640

    def split(z):
        return z[:size].view(10, 64), z[size:]

    def loss(weight, bias):
        return nn.functional.cross_entropy(x @ weight.T + bias, y)

    def lagrangian(z):
        z = torch.tensor(z, requires_grad=True)
        weight, bias = split(z)
        value = loss(weight, bias) + multiplier / 2 * (weight.square().sum() - 1)
        value.backward()
        return value.item(), z.grad.numpy()

    options = {"maxiter": 3000, "ftol": 1e-15, "gtol": 1e-9}
    found = scipy.optimize.minimize(
        lagrangian, [0.0] * (size + 10), jac=True, method="L-BFGS-B", options=options
    )
    weight, bias = split(torch.tensor(found.x))
    attained = loss(weight / weight.norm().clamp_min(1), bias).item()
    known = load_experiment("norm-bounded").known.loss
    assert found.fun == pytest.approx(known, abs=2e-6)
    assert attained == pytest.approx(known, abs=2e-6)


def test_malignant_tumours_are_found_where_their_recall_is_required():
    free = trained("recall", "unconstrained", "budget.epochs=60").measurements
    bound = trained("recall", "margin", "budget.epochs=60").measurements
    assert free["value.recall"] < 0.85
    assert bound["value.recall"] > 0.89
    assert bound["test_value.recall"] > free["test_value.recall"] + 0.05


def test_approval_rates_come_together():
    free = trained("fairness", "unconstrained", "budget.epochs=30").measurements
    bound = trained("fairness", "augmented-lagrangian", "budget.epochs=30").measurements
    assert free["value.parity"] < -0.08
    assert abs(bound["value.parity"]) < 0.06
    assert bound["test_metric"] > free["test_metric"] - 0.02


def test_the_rates_are_those_of_the_final_network():
    experiment = load_experiment("fairness", ["budget.epochs=2"])
    data = load_data(experiment.data)
    result = trained("fairness", "unconstrained", "budget.epochs=2")
    model = nn.Sequential(nn.Linear(len(data.features), 16), nn.Tanh(), nn.Linear(16, 2))
    model.load_state_dict(dict(zip(model.state_dict(), result.weights.values(), strict=True)))
    approved = model(data.x_test).argmax(1) == data.classes.index("no")
    black = data.groups_test["afam"] == data.groups["afam"].index("yes")
    gap = approved[black].float().mean() - approved[~black].float().mean()
    assert result.measurements["test_value.parity"] == pytest.approx(gap.item(), abs=1e-6)
    assert not any("afam" in feature for feature in data.features)
