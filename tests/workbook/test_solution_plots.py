"""The page of a differential equation, from the files of a hand-made run: what it draws, and what it says."""

import math
from pathlib import Path

import numpy as np
import pytest
from differential_runs import T, X, records, reference, write_run
from plotly import graph_objects
from safetensors.numpy import save_file

from feasible.workbook import page, sections
from feasible.workbook.configuration import load_experiment
from feasible.workbook.differential import monitor as monitoring
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.plots import Figure, figures
from feasible.workbook.plots.convergence import held
from feasible.workbook.plots.scale import SignedLogScale
from feasible.workbook.progress import Silent
from feasible.workbook.run_directory import read_run
from feasible.workbook.runner import run_experiment
from feasible.workbook.tables import BudgetTable


@pytest.fixture
def line(tmp_path: Path) -> Path:
    return write_run(tmp_path / "line", {"x": X})


@pytest.fixture
def square(tmp_path: Path) -> Path:
    return write_run(tmp_path / "square", {"x": X, "t": T}, outputs=2)


def drawn(folder: Path) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(read_run(folder))}


def of(figure: Figure, variant: str) -> list[dict]:
    return [trace for trace in figure.data if trace.get("meta", {}).get("variant") == variant]


ALWAYS = [
    *("seconds-test_metric", "seconds-residual", "seconds-output_rms"),
    *(f"percentiles-{name}" for name in ("residual", "size-of-the-residual", "parameters", "gradients", "updates")),
    *("accuracy", "quantiles", "predictions", "section-times", "step-time"),
]  # fmt: skip
MAPS = ["reference-1", "reference-2", "solution-1", "solution-2", "predictions-2"]


@pytest.mark.parametrize(("name", "own"), [("line", ["solution"]), ("square", MAPS)])
def test_every_plot_is_there_and_valid(request: pytest.FixtureRequest, name: str, own: list[str]):
    found = drawn(request.getfixturevalue(name))
    assert set(found) == {*ALWAYS, *own, "solution-error", "solution-residual"}
    for figure in found.values():
        graph_objects.Figure(data=figure.data, layout=figure.layout)
        page.figure_json(figure)  # no NaN in it


def test_lines_are_of_the_best_run(line: Path):
    found = drawn(line)
    (adam,) = of(found["solution"], "adam")
    assert adam["y"] == pytest.approx(X + 0.1, rel=1e-4)
    (error,) = of(found["solution-error"], "adam")
    assert error["customdata"] == pytest.approx([0.1] * 7, rel=1e-4)
    assert found["solution-error"].layout["yaxis"]["type"] == "log"


def test_maps_have_the_first_coordinate_to_the_right(square: Path):
    found = drawn(square)
    (truth,) = found["reference-2"].data
    z = np.array(truth["z"])
    assert z.shape == (len(T), len(X))
    assert z[4, 6] == pytest.approx(1 + 20 + 100)
    assert z[0, 6] == pytest.approx(1 + 100)
    assert (truth["zmin"], truth["zmax"]) == (100, 121)
    (error,) = of(found["solution-error"], "adam")
    assert np.array(error["customdata"]) == pytest.approx(0.1, rel=1e-3)
    assert error["zmax"] == pytest.approx(-1, abs=1e-3)
    assert [mark.variant for mark in found["solution-error"].choices] == ["adam", "solve", "zero"]


def test_a_map_without_any_error_can_be_drawn(square: Path):
    path = square / "runs" / "solve" / "0" / "records.safetensors"
    exact = records({"x": X, "t": T}, 2, 0.0, 2)
    exact["residual"][:] = np.nan
    save_file(exact, path)
    found = drawn(square)
    (error,) = of(found["solution-error"], "solve")
    assert np.array(error["z"]).tolist() == np.zeros((5, 7)).tolist()
    (residual,) = of(found["solution-residual"], "solve")
    assert residual["z"][0][0] is None
    page.figure_json(found["solution-residual"])


@pytest.mark.parametrize("axes", [{"x": X}, {"x": X, "t": T}])
def test_a_row_may_have_points_of_its_own(tmp_path: Path, axes: dict[str, np.ndarray]):
    folder = write_run(tmp_path / "run", axes)
    finer = {name: np.linspace(0, nodes[-1], 2 * len(nodes)) for name, nodes in axes.items()}
    save_file(records(finer, 1, 0.1, 6), folder / "runs" / "adam" / "0" / "records.safetensors")
    for figure in drawn(folder).values():
        for trace in figure.data:
            if trace["type"] == "heatmap":
                assert np.shape(trace["z"]) == (len(trace["y"]), len(trace["x"]))
            else:
                assert len(trace["x"]) == len(trace["y"])
    (error,) = of(drawn(folder)["solution-error"], "adam")
    assert error["x"] == pytest.approx(finer["x"], rel=1e-4)


def test_predictions_fade_in_below_the_reference(square: Path):
    figure = drawn(square)["predictions"]
    *looks, truth = of(figure, "adam")
    assert [trace["opacity"] for trace in looks] == sorted(trace["opacity"] for trace in looks)
    assert looks[-1]["opacity"] == 1
    assert truth["y"] == pytest.approx(X + 10 * T[2], rel=1e-4)  # at the middle of the other coordinate
    assert looks[0]["y"] == pytest.approx((X + 10 * T[2]) / 6, rel=1e-4)
    assert figure.caption.endswith("At t = 1.")


def test_percentiles_leave_out_what_has_no_course(line: Path):
    found = drawn(line)
    assert [mark.variant for mark in found["percentiles-residual"].choices] == ["adam", "zero"]
    *bands, middle = of(found["percentiles-gradients"], "adam")
    assert len(bands) == 6
    assert middle["x"] == [1, 2, 3, 4, 5]  # no gradients before the first step
    assert middle["customdata"][0] == pytest.approx([-0.5, -0.25, 0.0, 0.25, 0.5])


def test_trajectories_are_drawn_where_a_way_kept_them(line: Path):
    path = line / "runs" / "adam" / "0" / "records.safetensors"
    kept = {
        "trajectory.residual": np.array([1.0, 0.1, 0.0]),
        "trajectory.steps": np.array([1.0, 10.0, 100.0]),
        "trajectory.solution": np.stack([reference({"x": X}, 1) * s for s in (0.0, 0.5, 1.0)]),
    }
    save_file(records({"x": X}, 1, 0.1, 6) | kept, path)
    found = drawn(line)
    (residual,) = found["trajectory-residual"].data
    assert residual["x"] == [1, 10, 100]
    assert residual["customdata"] == [1, 0.1, 0]
    assert len(of(found["trajectory-solution"], "adam")) == 4
    assert "trajectory-steps" not in found


PROJECTED = """
equation = { name = "HelmholtzLine", k = 3.0, points = 10, test_points = 11 }
network = { name = "Perceptron", hidden = [8], dtype = "float32" }
[budget]
seeds = 2
epochs = 2
[methods.projected]
way = { name = "Projected", first = "Steps", share = 1.0, max_iterations = 4 }
"""


def test_projections_are_followed_to_their_end(tmp_path: Path):
    (tmp_path / "own.toml").write_text(PROJECTED)
    out = run_experiment(load_experiment(tmp_path / "own.toml"), tmp_path / "run")
    run = read_run(out)
    best = run.best_run("projected")
    assert best is not None
    residual, steps = (
        run.record("projected", "trajectory.residual"),
        run.record("projected", "trajectory.steps"),
    )
    assert len(residual) == len(steps) > 2
    assert np.all(np.diff(steps) > 0)
    assert residual[-1] == pytest.approx(best["residual"], rel=1e-4)
    assert residual[-1] < residual[0]
    solutions, end = run.record("projected", "trajectory.solution"), run.record("projected", "solution")
    assert solutions[-1] == pytest.approx(end, abs=1e-5)
    assert {"trajectory-residual", "trajectory-error", "trajectory-solution"} <= set(drawn(out))
    assert run.rows[0]["guarantee"].startswith("seed 0: residual ")


def test_residuals_between_the_points_are_drawn_by_their_quantiles(line: Path):
    figure = drawn(line)["quantiles"]
    marks, trained = of(figure, "adam")
    assert [value for _, value in marks["customdata"]] == pytest.approx([0.015, 0.027, 0.0297, 0.03])
    assert trained["customdata"] == [0.0075]
    assert [shape["x0"] for shape in figure.layout["shapes"]] == [0.05]
    assert "1,234 points" in figure.caption


def test_shares_of_the_time_are_complete(line: Path):
    bars = drawn(line)["section-times"].data
    shares: dict[str, float] = {}
    for trace in bars:
        for name, share in zip(trace["y"], trace["x"], strict=True):
            shares[name] = shares.get(name, 0.0) + share
    assert list(shares.values()) == pytest.approx([1.0] * 3)
    assert [trace["name"] for trace in bars] == ["rows", "step", "solve", "the rest"]


def test_times_are_held_until_something_better_comes():
    slow, fast = [(1.0, 9.0), (4.0, 5.0)], [(2.0, 3.0), (3.0, 1.0)]
    assert held([slow, fast, []]) == [(2.0, 6.0), (3.0, 5.0), (4.0, 3.0)]
    assert held([[], []]) == []


@pytest.mark.parametrize("values", [[0.0], [], [math.nan, 1.0], [-1e-30, 1e30], [3.0, -0.2]])
def test_signed_scales_are_odd_monotone_and_finite(values: list[float]):
    scale = SignedLogScale.of(values, smallest=1e-3)
    points = np.geomspace(scale.linear / 100, scale.highest, 50)
    places = [scale.place(float(point)) for point in points]
    assert places == sorted(places)
    assert [scale.place(-float(point)) for point in points] == [-place for place in places]
    assert scale.place(0.0) == 0
    assert scale.place(math.nan) is None
    axis = scale.axis()
    assert axis["range"][0] < min(axis["tickvals"]) < max(axis["tickvals"]) < axis["range"][1] < 16


def test_words_say_the_tolerance_and_where_it_was_measured(line: Path, monkeypatch: pytest.MonkeyPatch):
    best, share = sections.findings(read_run(line))
    assert best.startswith("Best among those that obey every rule: way <solve>, with a relative error of ")
    assert share == (
        "2 of 3 methods obeyed every rule on every seed at 1,234 points that were not trained on, "
        "with a residual (root mean square) of at most 0.05. Not so: way <zero>."
    )
    monkeypatch.setattr(page, "_plotly", lambda: "/* plotly */")
    text = page.render([line])
    assert "a root mean square ≤ 0.05" in text
    assert "Every method solved the same equation" in text
    assert "trained the same network" not in text
    assert text.count('<option value="solve" selected>') == text.count('<option value="solve"') == 1


def test_a_run_that_kept_nothing_has_a_page(line: Path):
    for path in line.glob("runs/*/*/records.safetensors"):
        path.unlink()
    (line / "history.csv").unlink()
    assert set(drawn(line)) == {"accuracy", "quantiles", "section-times", "step-time"}


def test_time_within_counts_once(monkeypatch: pytest.MonkeyPatch):
    """By a clock that shows what the test says."""
    now = 0.0
    monkeypatch.setattr(monitoring.time, "process_time", lambda: now)
    watched = Monitor(None, "relative error", BudgetTable(), [], "way", 0, Silent())
    with watched.section("step"):
        now = 1.0
        for end in (3.0, 7.0):
            with watched.section("rows"):
                now = end
                with watched.section("network"):
                    now += 0.5
        now += 2.5
    assert watched.sections == {"step": 3.5, "rows": 5.5, "network": 1.0}
    assert watched.seconds == 10.0
