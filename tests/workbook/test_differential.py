"""Experiments on differential equations: problems, networks, ways, and what is measured."""

import json
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.sparse.linalg
import torch
from safetensors.torch import load_file

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


EXACT = {
    "InverseHeat": {"noise": 0.0},
    "BurgersFront": {"points": 50, "test_points": 33},
    "PoissonRectangle": {"points": 50, "test_points": 33},
}
"""Without noise the rows are 0 at the solution; fewer points are faster."""


class Solution(torch.nn.Module):
    """The reference in the place of a network."""

    def __init__(self, definition, posed):
        super().__init__()
        self.definition = definition
        for name, unknown in posed.unknowns.items():
            setattr(self, name, torch.tensor(unknown.truth, dtype=torch.float64))

    def forward(self, *columns):
        return self.definition.solution(*columns)


@pytest.mark.parametrize("name", problems.__all__)
def test_references_solve_their_own_problem(name):
    """The rows are 0 at the solution, so that equation, conditions and reference belong together."""
    definition = getattr(problems, name)(**EXACT.get(name, {}))
    posed = definition.make(0)
    solution = Solution(definition, posed)
    assert all(column.dtype == torch.float64 for column in posed.test)
    held_out = posed.held_out.columns[0]
    for seen in (posed.of_kind("equation")[0].columns[0], posed.test[0]):
        assert not (held_out[:, None] == seen[None, :1000]).all(2).any()
    for rows in [*posed.rows, posed.held_out]:
        assert rows(solution).abs().max() < 1e-9, rows.name
    assert torch.equal(solution(*posed.test), posed.reference)
    nodes = torch.cartesian_prod(*(axis for _, axis in posed.shown.axes)).reshape(
        len(posed.shown.reference), -1
    )
    assert torch.equal(solution(*posed.shown.columns), posed.shown.reference)
    assert len(nodes) == len(posed.shown.columns[0])


@pytest.mark.parametrize("name", ["HelmholtzSquare", "BurgersFront"])
def test_what_is_built_in_is_what_the_conditions_say(name):
    argument = "boundary" if name == "HelmholtzSquare" else "conditions"
    built_in = getattr(problems, name)().make(0)
    as_rows = getattr(problems, name)(**{argument: "rows"}).make(0)
    assert not built_in.of_kind("condition")
    torch.manual_seed(0)
    network = built_in.built_in(torch.nn.Linear(2, 1).double())
    for rows in as_rows.of_kind("condition"):
        assert rows(network).abs().max() < 1e-12
        assert rows(network.model).abs().max() > 1e-2


def test_a_front_may_be_odd_by_construction():
    """Then ends and symmetry hold for all weights, and the start is the one condition, on the right half."""
    definition = problems.BurgersFront(points=50, test_points=33, conditions="odd")
    posed, as_rows = definition.make(0), problems.BurgersFront(conditions="rows").make(0)
    assert [rows.kind for rows in posed.rows] == ["equation", "condition"]
    for rows in [*posed.rows, posed.held_out]:
        assert rows.columns[0][:, 0].min() >= 0
        assert rows(Solution(definition, posed)).abs().max() < 1e-9
    torch.manual_seed(0)
    network = posed.built_in(
        torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    )
    x = posed.test[0]
    assert torch.allclose(network(x * x.new_tensor([-1.0, 1.0])), -network(x), atol=1e-14)
    for rows in as_rows.of_kind("condition")[1:]:
        assert rows(network).abs().max() == 0


def test_burgers_integral_agrees_with_the_method_of_lines():
    viscosity, count = 0.03, 401
    x = np.linspace(-1, 1, count)
    step = x[1] - x[0]

    def slope(_, inner):
        u = np.concatenate([[0], inner, [0]])
        flow = u**2 / 2
        return viscosity * (u[2:] - 2 * u[1:-1] + u[:-2]) / step**2 - (flow[2:] - flow[:-2]) / (2 * step)

    found = scipy.integrate.solve_ivp(
        slope, (0, 1), -np.sin(np.pi * x[1:-1]), "BDF", [0.3, 1.0], rtol=1e-7, atol=1e-9
    )
    definition = problems.BurgersFront(viscosity=viscosity)
    for time, u in zip(found.t, found.y.T, strict=True):
        places = torch.from_numpy(np.stack([x[1:-1], np.full(count - 2, time)], 1))
        assert np.abs(definition.solution(places).numpy()[:, 0] - u).max() < 1e-3


def test_the_front_is_as_steep_as_published():
    """Basdevant et al. (1986): |∂u/∂x| at x = 0 is largest at t = 1.6037/π, where it is 152.00516."""
    points = torch.tensor([[0.0, 1.6037 / math.pi]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(problems.BurgersFront().solution(points).sum(), points)
    assert slope[0, 0].item() == pytest.approx(-152.00516, abs=1e-3)


def test_the_plate_agrees_with_finite_differences():
    definition, count = problems.PoissonRectangle(), 65
    nodes = torch.linspace(0, 1, count, dtype=torch.float64)
    grid = torch.cartesian_prod(nodes, nodes)
    step = 1 / (count - 1)
    line = scipy.sparse.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(count, count)).tolil()
    across = line.copy()
    across[0, 1] = across[-1, -2] = 2  # values beyond the insulated edges are those of their mirror images
    across, within = across.tocsr(), line.tocsr()[1:-1, 1:-1]
    eye = scipy.sparse.eye_array
    matrix = scipy.sparse.kron(within, eye(count)) + scipy.sparse.kron(eye(count - 2), across)
    right = step**2 * definition._source(grid).numpy().reshape(count, count)
    right[:, -1] -= 2 * step * np.sin(np.pi * nodes.numpy())
    found = scipy.sparse.linalg.spsolve(matrix.tocsc(), right[1:-1].ravel()).reshape(count - 2, count)
    expected = definition.solution(grid).reshape(count, count)[1:-1].numpy()
    assert np.abs(found - expected).max() < 5e-3 * np.abs(expected).max()


def test_the_plate_s_polynomial_has_converged():
    from feasible.workbook.differential.problems import poisson_rectangle

    few, many = (poisson_rectangle._polynomial(50.0, 0.1, degree) for degree in (64, 96))
    assert (few - many[:65, :65]).abs().max() < 1e-9
    assert many[65:].abs().max() < 1e-9


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


HEAT = """
equation = { name = "InverseHeat", points = 60, test_points = 21, times = 20 }
network = { name = "Perceptron", hidden = [8] }
[budget]
seeds = 1
epochs = 2
"""
WAYS = {
    "data alone": """{ name = "LeastSquares", weight = 0.0 }""",
    "L-BFGS": """{ name = "Steps", optimizer = "LBFGS" }""",
    "SSBroyden": """{ name = "Steps", optimizer = "SSBroyden", batch_size = 64 }""",
    "balanced": """{ name = "Balanced", every = 1, batch_size = 16 }""",
    "balanced L-BFGS": """{ name = "Balanced", rule = "trace", optimizer = "LBFGS" }""",
    "augmented by row": """{ name = "Steps", by = "AugmentedLagrangian", per = "value" }""",
    "augmented by index": """{ name = "Steps", by = "AugmentedLagrangian", per = "index", batch_size = 16 }""",
    "exact": """{ name = "Steps", by = "ExactMultipliers", per = "value" }""",
    "exact, batches": """{ name = "Steps", by = { name = "ExactMultipliers", form = "batch" }, batch_size = 16 }""",
    "exact, samples": """{ name = "Steps", by = { name = "ExactMultipliers", form = "sample" }, batch_size = 16 }""",
    "adaptive": """{ name = "LeastSquares", redraw = 1, adaptive = true, equation_rows = 30 }""",
    "last layer eliminated": """{ name = "LeastSquares", eliminate = true }""",
    "minimized": """"Minimized" """,
    "last layer": """"LastLayer" """,
    "projected": """{ name = "Projected", first = "LeastSquares", max_iterations = 3 }""",
    "projected outputs": """{ name = "Projected", first = { name = "Steps" }, metric = "outputs", at = "test",
                              points = 20, max_iterations = 3 }""",
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_way_serves_an_unknown_that_is_positive(tmp_path, dtype):
    # SSBroyden asks for float64
    ways = {name: way for name, way in WAYS.items() if dtype == "float64" or name != "SSBroyden"}
    tables = [f"[methods.way{n}]\nway = {' '.join(way.split())}\n" for n, way in enumerate(ways.values())]
    text = HEAT.replace("[8]", f'[8], dtype = "{dtype}"') + "".join(tables)
    out = run_experiment(load_experiment(write(tmp_path, text)), tmp_path / "run")
    for run, name in zip(json.loads((out / "result.json").read_text())["runs"], ways, strict=True):
        assert run["status"] == "finished", (name, run["reason"])
        weights = load_file(out / "runs" / run["variant"] / "0" / "model.safetensors")
        assert weights["diffusivity"] >= 0, name


def test_without_data_exact_multipliers_are_all_that_moves_the_network(tmp_path):
    text = (
        TOML[: TOML.index("[methods")].replace("epochs = 3", "epochs = 30").replace("seeds = 2", "seeds = 1")
    )
    by = 'by = { name = "ExactMultipliers", damping = 1e-3 }, per = "value"'
    text += f'[methods.soft]\nway = "Steps"\n[methods.exact]\nway = {{ name = "Steps", {by} }}\n'
    out = run_experiment(load_experiment(write(tmp_path, text)), tmp_path / "run")
    rows = {row["variant"]: row for row in json.loads((out / "result.json").read_text())["rows"]}
    soft, exact = (rows[name]["conditions"]["median"] for name in ("soft", "exact"))
    assert exact < soft / 3


def test_an_unknown_is_found_as_exactly_as_the_noise_allows(tmp_path):
    definition = problems.InverseHeat(times=20)
    x, values = (column.numpy() for column in definition.measured(0))

    def model(_, diffusivity):
        return problems.InverseHeat(diffusivity=diffusivity).solution(torch.from_numpy(x)).numpy()[:, 0]

    best, covariance = scipy.optimize.curve_fit(model, x, values[:, 0], p0=[0.2], sigma=np.full(len(x), 0.01))
    text = HEAT.replace("points = 60, test_points = 21, times = 20", "points = 100, times = 20").replace(
        "[8]", "[12, 12]"
    )
    text += '[methods.lm]\nway = { name = "LeastSquares", weight = 100.0 }\nbudget = { epochs = 60 }'
    out = run_experiment(load_experiment(write(tmp_path, text)), tmp_path / "run")
    run = json.loads((out / "result.json").read_text())["runs"][0]
    found = load_file(out / "runs" / "lm" / "0" / "model.safetensors")["diffusivity"].item()
    assert abs(found - best[0]) < 3 * math.sqrt(covariance[0, 0])
    assert run["unknown"] == pytest.approx(abs(found / 0.1 - 1))
    assert run["test_metric"] < 0.01


def test_a_projection_after_training_obeys_at_its_points(tmp_path):
    text = (
        TOML[: TOML.index("[methods")].replace("[8]", "[24]")
        + """
[methods.trained]
way = { name = "Steps", learning_rate = 1e-2 }
[methods.projected]
way = { name = "Projected", first = { name = "Steps", learning_rate = 1e-2 }, share = 1.0, at = "test", points = 30 }
"""
    )
    text = text.replace("epochs = 3", "epochs = 100").replace("seeds = 2", "seeds = 1")
    out = run_experiment(load_experiment(write(tmp_path, text)), tmp_path / "run")
    trained, projected = json.loads((out / "result.json").read_text())["runs"]
    assert projected["residual"] < trained["residual"] / 100
    assert projected["conditions"] < 1e-3 * trained["conditions"]
    trajectory = load_file(out / "runs" / "projected" / "0" / "records.safetensors")["trajectory.residual"]
    assert trajectory[-1] < 1e-2 * trajectory[0]


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("Minimized", "the problem has no data to fit"),
        ('{ name = "LeastSquares", weight = 0.0 }', "nothing to fit: the problem has no data"),
        ("TimeSlabs", "must be rows of their own"),
        ('{ name = "LastLayer", scale = 2.0 }', "a scale needs a network with one hidden layer"),
    ],
)
def test_a_way_that_cannot_serve_a_problem_is_a_failed_row(tmp_path, way, reason):
    way = way if way.startswith("{") else f'"{way}"'
    text = TOML[: TOML.index("[methods")].replace("[8]", "[8, 8]") + f"[methods.own]\nway = {way}\n"
    out = run_experiment(load_experiment(write(tmp_path, text)), tmp_path / "run")
    for run in json.loads((out / "result.json").read_text())["runs"]:
        assert run["status"] == "failed"
        assert reason in run["reason"]


SLABS = """
equation = { name = "BurgersFront", viscosity = 0.2, points = 60, test_points = 17, conditions = "rows" }
network = { name = "Perceptron", hidden = [8, 8] }
[budget]
seeds = 1
epochs = 4
[methods.slabs]
way = { name = "TimeSlabs", slabs = 2, tolerance = 1e-3, built_in = ["left", "right"] }
"""


@pytest.mark.slow
def test_slabs_of_time_make_one_solution(tmp_path):
    out = run_experiment(load_experiment(write(tmp_path, SLABS)), tmp_path / "run")
    run = json.loads((out / "result.json").read_text())["runs"][0]
    assert run["status"] == "finished", run["reason"]
    assert "of 2 slabs within 0.001" in run["guarantees"][0]
    assert run["test_metric"] < 0.05
    assert run["conditions"] < 0.02


def test_zero_is_no_solution_whatever_its_residual():
    posed = problems.HelmholtzLine().make(0)

    class Zero(torch.nn.Module):
        def forward(self, x):
            return 0 * x

    found = measured(posed, Zero(), "relative error", tolerance=1e9)
    assert found["test_metric"] == pytest.approx(1.0)
    assert not found["feasible"]
    assert found["reference_rms"] == pytest.approx(root_mean_square(posed.reference))


class Level(torch.nn.Module):
    """A constant, under a true diffusivity: it solves the equation, and forgets start and ends."""

    diffusivity = torch.tensor(0.1, dtype=torch.float64)

    def forward(self, x):
        return 0.7 + 0 * x[:, :1]


def test_who_forgets_the_conditions_does_not_obey():
    posed = problems.InverseHeat().make(0)
    found = measured(posed, Level(), "relative error", tolerance=0.3)
    assert found["residual"] == 0
    assert found["conditions"] > 0.3
    assert not found["feasible"]
    assert measured(posed, Level(), "relative error", tolerance=0.7)["feasible"]


def test_constrained_least_squares_say_what_ended_them(tmp_path):
    text = (
        HEAT
        + """
[methods.epochs]
way = "Minimized"
[methods.seconds]
way = "Minimized"
budget = { epochs = 100000, seconds = 0.05 }
"""
    )
    out = run_experiment(load_experiment(write(tmp_path, text)), tmp_path / "run")
    epochs, seconds = json.loads((out / "result.json").read_text())["runs"]
    assert "iteration limit" in epochs["guarantees"][0]
    assert "Interrupted" in seconds["guarantees"][0]


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
        ("points = 40", 'points = "40"', "line 2: points must be a whole number, got '40'"),
        ("points = 40", "points = -40", "line 2: points must be at least 2, got -40"),
        ("k = 3.0", "k = 0", "line 2: k must be positive, got 0"),
        ("k = 3.0", "k = inf", "line 2: k must be positive, got inf"),
        ("hidden = [8]", 'hidden = "8"', "line 3: hidden must be a list of whole numbers, got '8'"),
        ("hidden = [8]", "hidden = [8.5]", "line 3: hidden must be a list of whole numbers, got [8.5]"),
        ("hidden = [8]", "hidden = [0]", "line 3: hidden must be at least 1, got 0"),
        ("hidden = [8]", "hidden = []", "line 3: hidden must name at least one layer"),
        ("hidden = [8]", 'hidden = [8], activation = "relu"', "The second derivative of relu is 0"),
        ("hidden = [8]", 'hidden = [8], dtype = "float16"', 'unknown dtype "float16"'),
        ("learning_rate = 1e-3", "learning_rate = -1", "line 8: learning_rate must be positive, got -1"),
        ("learning_rate = 1e-3", 'learning_rate = "fast"', "line 8: learning_rate must be a number, got 'fast'"),
        ("learning_rate = 1e-3", "batch_size = 0", "line 8: batch_size must be at least 1, got 0"),
        ("learning_rate = 1e-3", 'optimizer = "Adm"', 'line 8: unknown optimizer "Adm". Closest: "Adam"'),
        ("scale = 3.0", "scale = 0.0", "scale must be positive, got 0.0"),
        ("scale = 3.0", 'spread = "yes"', "spread must be true or false, got 'yes'"),
        ('way = "LeastSquares"', 'way = "Projected"', 'Projected needs the argument "first"'),
        ('"LeastSquares"', '{ name = "Projected", first = "Step" }', 'unknown way "Step". Closest: "Steps"'),
        ('way = "LeastSquares"', 'way = { name = "Projected", first = 3 }', "first must be the name of a way"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_a_sentence(tmp_path, old, new, message):
    assert old in TOML
    with pytest.raises(InputError) as error:
        load_experiment(write(tmp_path, TOML.replace(old, new)))
    assert message in str(error.value)
