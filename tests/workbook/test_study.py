"""The 2019 study's problem: its set-up, the networks, and what its experiments are there to show."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from feasible.workbook.configuration import load_experiment
from feasible.workbook.differential import networks
from feasible.workbook.differential.measurement import measured, over_queries
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.problems import Oscillation
from feasible.workbook.differential.rows import root_mean_square
from feasible.workbook.differential.ways import LastLayer, LeastSquares
from feasible.workbook.errors import InputError
from feasible.workbook.progress import Silent
from feasible.workbook.rules import build
from feasible.workbook.tables import BudgetTable

METRIC = "mean squared error"


class Sine(nn.Module):
    """A sin(2πf x + φ), with some inputs fixed."""

    def __init__(self, **fixed):
        super().__init__()
        self.fixed = fixed

    def forward(self, x, inputs):
        A, f, phi = (
            torch.full_like(x, self.fixed[name]) if name in self.fixed else inputs[:, i : i + 1]
            for i, name in enumerate(["A", "f", "phi"])
        )
        return A * torch.sin(2 * math.pi * f * x + phi)


class Constant(nn.Module):
    """± the amplitude, or 0."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x, inputs):
        return self.factor * inputs[:, :1] + 0 * x


def solved(definition, network, way, seed=0, **budget):
    """The measurements after a way has run."""
    torch.manual_seed(seed)
    posed = definition.make(seed)
    monitor = Monitor(posed, METRIC, BudgetTable(**budget), [], "way", seed, Silent())
    model, status = way.solve(posed, network.build(posed), monitor, torch.Generator().manual_seed(seed))
    return {**measured(posed, model, METRIC, 1e-3), "status": status}


# -- the set-up -----------------------------------------------------------------------------------------


def test_the_labels_are_the_studys():
    posed = Oscillation().make(0)
    (labels,) = posed.of_kind("data")
    x, inputs, y = labels.columns
    assert len(labels) == 50_000
    assert x.min() >= -1
    assert x.max() <= 1
    for column, (low, high) in enumerate([(0.2, 5.0), (0.2, 5.0), (-0.5, 0.5)]):
        values = inputs[:, column].unique()
        torch.testing.assert_close(values, torch.linspace(low, high, 10, dtype=torch.float64))
    assert (inputs[:, 1] - 1).abs().min() > 0.2  # f = 1 is not on the grid
    torch.testing.assert_close(y, inputs[:, :1] * torch.sin(2 * math.pi * inputs[:, 1:2] * x + inputs[:, 2:]))
    assert posed.of_kind("equation")[0].columns[0] is x


def test_the_test_is_the_studys():
    posed = Oscillation().make(0)
    x, inputs = posed.test
    assert x.shape == (500, 1)
    assert inputs.unique(dim=0).tolist() == [[1.0, 1.0, 0.0]]
    assert root_mean_square(posed.reference) == pytest.approx(0.706, abs=5e-4)


@pytest.mark.parametrize("equation", ["helmholtz", "pythagorean"])
@pytest.mark.parametrize("relative", [False, True])
def test_the_solution_obeys(equation, relative):
    posed = Oscillation(equation, grid=3, points=5, conditions=20, relative=relative).make(0)
    for rows in [*posed.rows, posed.held_out]:
        assert rows(Sine()).abs().max() < 1e-13
    for wrong in ({"A": 1.0}, {"f": 1.0}, {"phi": 0.3}):
        assert root_mean_square(posed.of_kind("data")[0](Sine(**wrong))) > 0.1
        start, slope = (root_mean_square(rows(Sine(**wrong))) for rows in posed.of_kind("condition"))
        assert (start > 0.1) == ("f" not in wrong)
        assert slope > 0.02


@pytest.mark.parametrize(
    ("equation", "factor", "obeys"),
    [("helmholtz", 0.0, True), ("pythagorean", 0.0, False), ("pythagorean", -1.0, True), ("helmholtz", 1.0, False)],
)  # fmt: skip
def test_what_solves_the_equation_without_being_the_solution(equation, factor, obeys):
    posed = Oscillation(equation, grid=2, points=5, conditions=20).make(0)
    assert (root_mean_square(posed.of_kind("equation")[0](Constant(factor))) < 1e-12) == obeys
    assert max(root_mean_square(rows(Constant(factor))) for rows in posed.of_kind("condition")) > 0.1
    found = measured(posed, Constant(factor), METRIC, 1e-3)
    assert found["test_metric"] > 0.4


def test_relative_rows_are_in_units_of_the_amplitude():
    made = [
        Oscillation(grid=3, points=5, conditions=20, relative=relative).make(3) for relative in (False, True)
    ]
    model = networks.Rescaled(hidden=(6, 6)).build(made[0])
    for rows, relative in zip(made[0].rows, made[1].rows, strict=True):
        amplitude = rows.columns[1][:, :1]
        torch.testing.assert_close(rows(model), amplitude * relative(model))


def test_rows_in_parts_are_the_same_rows():
    rows = Oscillation(grid=3, points=2, collocation=7).make(0).of_kind("equation")[0]
    model = Constant(0.5)
    for size, lengths in [(3, [3, 3, 1]), (7, [7]), (100, [7])]:
        parts = rows.parts(size)
        assert [len(part) for part in parts] == lengths
        torch.testing.assert_close(torch.cat([part(model) for part in parts]), rows(model))


def test_seeds_have_their_own_points():
    first, again, other = (
        Oscillation(grid=2, points=5, labels=7, collocation=9).make(seed) for seed in (0, 0, 1)
    )
    for rows, same, different in zip(first.rows, again.rows, other.rows, strict=True):
        assert len(rows) == (7 if rows.kind == "data" else 9)
        assert torch.equal(rows.columns[0], same.columns[0])
        assert not torch.equal(rows.columns[0], different.columns[0])
    assert all(torch.equal(a, b) for a, b in zip(first.queries, other.queries, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"equation": "helmholz"}, 'unknown equation "helmholz". Closest: "helmholtz"'),
        ({"labels": 50_001}, "labels must be at most grid³ · points = 50,000, got 50,001"),
        ({"points": 0}, "points must be at least 1, got 0"),
        ({"conditions": -1}, "conditions must be at least 0, got -1"),
    ],
)
def test_mistakes_of_the_problem_are_told(arguments, message):
    with pytest.raises(InputError) as error:
        build("equation", {"Oscillation": Oscillation}, {"name": "Oscillation", **arguments})
    assert message in str(error.value)


# -- measurements over other inputs ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "error", "diversity"),
    [(Sine(), 0.0, 1.0), (Sine(A=1.0, f=1.0, phi=0.0), None, 0.0), (Constant(0.0), 1.0, 0.0)],
    ids=["true", "one answer", "zero"],
)  # fmt: skip
def test_other_inputs(model, error, diversity):
    found = over_queries(Oscillation(grid=2, points=2).make(0), model)
    assert found["diversity"] == pytest.approx(diversity, abs=1e-12)
    assert found["query_error"] > 0.5 if error is None else found["query_error"] == pytest.approx(error)


# -- networks -------------------------------------------------------------------------------------------


def test_the_studys_network():
    posed = Oscillation(grid=2, points=2).make(0)
    network = networks.Rescaled().build(posed)
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_351
    x, inputs = torch.tensor([[0.3]]).double(), torch.tensor([[2.0, 1.0, 0.1]]).double()
    scales = (network.scales.weight @ inputs[0] + network.scales.bias).reshape(5, 50)
    value = x[0]
    for layer, scale in zip(network.hidden, scales, strict=True):
        inner = layer.weight @ value + layer.bias
        value = scale * inner * torch.sigmoid(inner)
    torch.testing.assert_close(network(x, inputs)[0], network.readout.weight @ value + network.readout.bias)


@pytest.mark.parametrize(
    "network",
    [networks.Oscillator(hidden=(7, 5)), networks.Oscillator(hidden=(7,), product=True), networks.Waves(features=30)],
    ids=["layers", "product", "waves"],
)  # fmt: skip
def test_outputs_are_proportional_to_the_amplitude(network):
    model = network.build(Oscillation(grid=2, points=2).make(0))
    if isinstance(network, networks.Waves):
        nn.init.normal_(model.layers.readout.weight)
    x = torch.linspace(-1, 1, 5).double().unsqueeze(1)
    one = torch.tensor([[1.0, 2.0, 0.1]]).double().expand(5, -1)
    torch.testing.assert_close(model(x, one * torch.tensor([3.0, 1, 1])), 3 * model(x, one))
    assert (model(x, one) - model(x, one * torch.tensor([1.0, 1.5, 1]))).abs().max() > 1e-3
    assert (model(x, one) - model(x, one * torch.tensor([1.0, 1, 3]))).abs().max() > 1e-3


def test_waves_have_the_bandwidths_of_the_solution():
    network = networks.Waves(features=2000, bandwidths=(38.0, 8.0, 1.2))
    model = network.build(Oscillation(grid=2, points=2).make(0))
    z = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    hidden = model.layers.hidden1
    middle = torch.tensor([[0.0, 1.0, 2.6, 0.0]]).double()

    def phases(z):
        x, A, f, phi = (z + middle).split(1, 1)
        captured = []
        handle = hidden.register_forward_hook(lambda module, args, out: captured.append(out))
        model(x, torch.cat([A, f, phi], 1))
        handle.remove()
        return captured[0][0]

    slopes = torch.autograd.functional.jacobian(phases, z)[:, 0]
    found = slopes.abs().amax(0)[[0, 2, 3]]
    torch.testing.assert_close(found, torch.tensor([38.0, 8.0, 1.2]).double(), rtol=0.01, atol=0)
    assert slopes[:, 0].mean().abs() < 3
    assert phases(z).detach().abs().max().item() == pytest.approx(math.pi, rel=0.01)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            {"name": "Waves", "bandwidths": [38.0, 8.0]},
            "bandwidths must be three numbers, for x, f and φ; got 2",
        ),
        ({"name": "Waves", "features": 0}, "features must be at least 1, got 0"),
        ({"name": "Oscillator", "first_scale": 0.0}, "first_scale must be positive, got 0.0"),
        ({"name": "Rescaled", "hidden": [5, 0]}, "hidden must be at least 1, got 0"),
    ],
)
def test_mistakes_of_networks_are_told(network, message):
    with pytest.raises(InputError) as error:
        build("network", {name: getattr(networks, name) for name in networks.__all__}, network)
    assert message in str(error.value)


# -- experiments ----------------------------------------------------------------------------------------

EXPERIMENTS = ["helmholtz-training", "helmholtz-projection", "pythagorean-training", "pythagorean-projection"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_first_look_is_at_a_smaller_problem(name):
    experiment = load_experiment(name)
    for usual, quick in zip(experiment.variants(), experiment.quickened().variants(), strict=True):
        assert len(usual.definition.make(0).rows[0]) > 1000
        assert len(quick.definition.make(0).rows[0]) <= 500
        assert quick.budget.epochs <= 5
        assert usual.way == quick.way
        assert usual.network == quick.network or quick.network.features < usual.network.features
        assert usual.definition.equation == name.partition("-")[0]


def test_a_smaller_network_belongs_to_a_row(tmp_path):
    own = tmp_path / "own.toml"
    text = """
equation = "Oscillation"
quick = { networks = { adm = "Rescaled" } }
methods = { adam = { way = "Steps" } }
"""
    own.write_text(text)
    with pytest.raises(InputError) as error:
        load_experiment(own)
    assert 'there is no method "adm". Closest: "adam"' in str(error.value)
    own.write_text(text.replace("adm", "adam"))
    assert load_experiment(own).quickened().variants()[0].network == networks.Rescaled()


@pytest.mark.parametrize(
    ("name", "row"), [("helmholtz-training", "solve-start"), ("pythagorean-training", "least-squares-start")]
)
def test_only_the_row_that_says_so_knows_the_initial_conditions(name, row):
    variants = load_experiment(name).variants()
    assert [variant.name for variant in variants if variant.definition.conditions] == [row]


def test_rows_of_the_equation_tell_functions_apart_that_the_labels_cannot():
    """Levenberg–Marquardt with and without the equation, on a small network."""
    definition = Oscillation(grid=4, points=20, relative=True)
    network = networks.Oscillator(hidden=(10, 10))
    found = [
        solved(definition, network, LeastSquares(weight=weight, equation_rows=400), epochs=20)
        for weight in (1.0, 0.0)
    ]
    assert found[0]["residual"] < found[1]["residual"] / 3


def test_a_ridge_keeps_the_last_layer_small():
    """The rows of a ridge are those of Tikhonov's regularisation, solved here by the normal equations."""
    definition = Oscillation(grid=2, points=5, collocation=60)
    posed, ridge = definition.make(0), 0.1
    torch.manual_seed(0)
    model = networks.Waves(features=20).build(posed)
    columns = torch.stack(
        [
            torch.cat([rows(hat).reshape(-1) / math.sqrt(len(rows)) for rows in posed.rows])
            for hat in map(partial(unit, model), range(20))
        ],
        1,
    )
    nn.init.zeros_(model.layers.readout.weight)
    right = -torch.cat([rows(model).reshape(-1) / math.sqrt(len(rows)) for rows in posed.rows])
    matrix = columns + right.unsqueeze(1)  # what a unit adds to the rows of zero
    expected = torch.linalg.solve(matrix.mT @ matrix + ridge**2 * torch.eye(20), matrix.mT @ right)
    monitor = Monitor(posed, METRIC, BudgetTable(epochs=1), [], "way", 0, Silent())
    LastLayer(spread=False, ridge=ridge).solve(posed, model, monitor, torch.Generator())
    torch.testing.assert_close(model.layers.readout.weight[0], expected, rtol=1e-7, atol=1e-9)


def unit(model, index):
    """The same network with a single feature."""
    nn.init.zeros_(model.layers.readout.weight)
    with torch.no_grad():
        model.layers.readout.weight[0, index] = 1.0
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("conditions", "error", "residual"), [(0, 1e-7, 3e-4), (300, 1e-8, 3e-4)])
def test_one_solve_wins(conditions, error, residual):
    definition = Oscillation(labels=15_000, collocation=20_000, conditions=conditions, relative=True)
    found = solved(definition, networks.Waves(), LastLayer(spread=False, ridge=3e-6))
    assert found["test_metric"] < error
    assert found["residual"] < residual
    assert found["output_rms"] == pytest.approx(0.706, abs=1e-3)
    assert found["diversity"] == pytest.approx(1, abs=1e-2)


@pytest.mark.slow
def test_least_squares_on_all_layers_wins():
    definition = Oscillation(relative=True)
    way = LeastSquares(redraw=10, data_rows=2000, equation_rows=3000)
    found = solved(definition, networks.Oscillator(), way, epochs=200)
    assert found["test_metric"] < 1e-6
    assert found["residual"] < 1e-3
