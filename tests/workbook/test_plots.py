"""Scales, marks and histograms, where a page could mislead."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from feasible.workbook.plots import figures, marks
from feasible.workbook.plots.histogram import weight_histogram
from feasible.workbook.plots.scale import LogScale
from feasible.workbook.run_directory import read_run


def test_zero_has_a_place_left_of_everything_else():
    scale = LogScale.of([0.0, 1e-3, 2.0])
    axis = scale.axis("violation")
    assert axis["ticktext"][0] == "0"
    assert axis["tickvals"][0] == scale.place(0.0) == 1e-4
    assert scale.place(1e-3) == 1e-3
    assert 10 ** axis["range"][0] < 1e-4 < 2.0 < 10 ** axis["range"][1]


def test_no_zero_no_tick_for_it():
    scale = LogScale.of([0.02, 0.5])
    assert scale.zero is None
    assert "0" not in scale.axis("")["ticktext"]


@pytest.mark.parametrize("values", [[0.0, 0.0], [], [math.nan], [1.0], [1e-300, 1.0], [0.0, math.inf]])
def test_every_scale_is_finite(values: list[float]):
    scale = LogScale.of(values)
    low, high = scale.axis("")["range"]
    assert low < high
    assert high - low < 16
    places = [scale.place(value) for value in values]
    assert all(place is None or math.isfinite(math.log10(place)) for place in places)


def test_what_is_not_finite_is_not_drawn():
    assert LogScale.of([1.0]).place(math.inf) is None


def test_marks_differ_in_more_than_colour(example_run: Path):
    shown = marks(read_run(example_run))
    assert [mark.variant for mark in shown] == ["unconstrained", "project", "penalty"]
    assert len({mark.symbol for mark in shown}) == 3


def test_curves_are_medians_over_the_seeds(example_run: Path):
    run = read_run(example_run)
    loss = next(figure for figure in figures(run) if figure.name == "curve-train-loss")
    trace = loss.data[0]
    assert trace["x"] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert trace["customdata"][0] == pytest.approx(2 * math.exp(-0.4) + 0.005)


def test_long_violations_are_drawn_by_their_worst(example_run: Path):
    with (example_run / "history.csv").open("a", encoding="utf-8") as file:
        for epoch in range(6, 101):
            file.write(f"penalty,0,{epoch},0.1,0.1,0.9,{0.5 if epoch == 50 else 0.0},\n")
    violation = next(f for f in figures(read_run(example_run)) if f.name == "curve-worst-violation")
    assert violation.caption.endswith("Each point is the worst of 3 epochs.")
    penalty = violation.data[2]
    assert penalty["x"][-1] == 100
    assert len(penalty["x"]) == 34
    assert max(penalty["customdata"]) == 0.5


def test_weights_on_a_bound_fall_into_the_bin_around_it(example_run: Path):
    found = weight_histogram(read_run(example_run), ["project"])
    assert found is not None
    assert found.bounds == [0.0]
    assert found.patterns == ["*.weight"]
    nearest = int(np.argmin(np.abs(found.centres)))
    assert found.centres[nearest] == pytest.approx(0.0, abs=1e-12)
    assert found.shares["project"][nearest] == max(found.shares["project"])
    assert sum(found.shares["project"]) == pytest.approx(1.0)


def test_outliers_are_counted_at_the_edge(example_run: Path):
    for seed in (0, 1):
        path = example_run / "runs" / "project" / str(seed) / "model.safetensors"
        values = torch.linspace(0, 1, 2000)
        values[0] = 1e6
        save_file({"hidden1.weight": values}, path)
    found = weight_histogram(read_run(example_run), ["project"])
    assert found is not None
    assert max(found.centres) < 10
    assert sum(found.shares["project"]) == pytest.approx(1.0)


def test_constant_and_non_finite_weights_have_a_histogram(example_run: Path):
    for seed in (0, 1):
        path = example_run / "runs" / "project" / str(seed) / "model.safetensors"
        save_file({"hidden1.weight": torch.tensor([0.0, 0.0, torch.nan, torch.inf])}, path)
    found = weight_histogram(read_run(example_run), ["project"])
    assert found is not None
    assert sum(found.shares["project"]) == pytest.approx(1.0)


def add_values(run: Path) -> None:
    """A rate in the history and the table, and known weights."""
    rule = 'rate = { name = "recall", positive = "a" }\nset = { name = "Box", lower = 0.9 }\n'
    known = '[known]\nweights = { "hidden1.bias" = [0.0, 1.0, 2.0, 3.0] }\n'
    text = (run / "config.toml").read_text(encoding="utf-8")
    (run / "config.toml").write_text(f"{text}\n[[constraints]]\n{rule}\n{known}", encoding="utf-8")
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    result["columns"].append({"key": "value.recall", "label": "recall", "format": ".1%"})
    (run / "result.json").write_text(json.dumps(result), encoding="utf-8")
    head, *lines = (run / "history.csv").read_text(encoding="utf-8").splitlines()
    text = "\n".join([f"{head},value.recall", *(f"{line},0.8" for line in lines)])
    (run / "history.csv").write_text(text, encoding="utf-8")


def test_a_rate_is_drawn_with_its_bound(example_run: Path):
    add_values(example_run)
    figure = next(one for one in figures(read_run(example_run)) if one.name == "curve-value-recall")
    assert figure.data[0]["y"] == [0.8] * 5
    assert [(shape["y0"], shape["y1"]) for shape in figure.layout["shapes"]] == [(0.9, 0.9)]
    assert figure.layout["yaxis"] == {"tickformat": ".1~%"}


def test_weights_are_drawn_beside_the_known_ones(example_run: Path):
    add_values(example_run)
    figure = next(one for one in figures(read_run(example_run)) if one.name == "known")
    answer, *methods = figure.data
    assert answer["y"] == [0.0, 1.0, 2.0, 3.0]
    assert [trace["y"] for trace in methods] == [[0.0] * 4] * 3
    assert methods[0]["x"] == answer["x"] == [f"hidden1.bias[{index}]" for index in range(4)]
