"""Tables that fit, cells that read well, and a reader that goes away."""

import io
import json
import math
import os

import pytest
from rich.console import Console

from feasible.workbook.bars import Bars
from feasible.workbook.cells import read_cell, show
from feasible.workbook.comparison_table import comparison_table
from feasible.workbook.display import PatientConsole, Screen

COLUMNS = [
    {"key": "accuracy", "label": "test accuracy", "format": ".1%"},
    {"key": "violation", "label": "worst violation", "format": ".2g"},
    {"key": "guarantee", "label": "guarantee", "format": "text"},
    {"key": "time", "label": "ms per step", "format": ".2f"},
]
ROWS = [
    {
        "variant": name,
        "label": label,
        "status": "finished",
        "accuracy": {"median": 0.951, "min": 0.94, "max": 0.96},
        "violation": {"median": 0.0, "min": 0.0, "max": 0.0},
        "guarantee": "by construction, on every input of the box",
        "time": {"median": 0.41, "min": 0.4, "max": 0.5},
    }
    for name, label in [("a", "projection"), ("b", "augmented Lagrangian with a long name")]
]


def _printed(width: int) -> tuple[str, list[str]]:
    table, left_out = comparison_table(COLUMNS, ROWS, width, best="a")
    console = Console(width=width, file=io.StringIO())
    console.print(table)
    return console.file.getvalue(), left_out


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_the_table_fits_and_no_word_is_cut(width: int):
    text, left_out = _printed(width)
    lines = text.splitlines()
    assert all(len(line) <= width for line in lines)
    assert "…" not in text
    for word in ["projection", "augmented", "Lagrangian", "95.1%", "accuracy"]:
        assert word in text
    assert set(left_out) <= {"worst violation", "guarantee", "ms per step"}


def test_wide_terminals_show_everything():
    text, left_out = _printed(160)
    assert left_out == []
    assert "95.1% (94.0%–96.0%)" in text
    assert "★ projection" in text


def test_a_failed_method_is_a_row_with_its_reason():
    rows = [{"variant": "x", "label": "barrier", "status": "failed: no interior", "accuracy": "–"}]
    table, _ = comparison_table(COLUMNS, rows, 120)
    console = Console(width=120, file=io.StringIO())
    console.print(table)
    assert "barrier [failed: no interior]" in " ".join(console.file.getvalue().split())


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (0.0, ".2e", "0"),
        (0.0, ".1%", "0.0%"),
        (1e-9, ".2g", "1e-09"),
        (math.nan, ".2g", "not a number"),
        (math.inf, ".2g", "∞"),
        (-math.inf, ".2g", "−∞"),
        (None, ".2g", "–"),
        ("exact", ".2g", "exact"),
        (True, "text", "yes"),
        (3, "d", "3"),
    ],
)
def test_values_in_words(value, style: str, text: str):
    assert show(value, style) == text


@pytest.mark.parametrize("value", [None, "–", {"median": None, "min": None, "max": None}])
def test_empty_cells_sort_as_empty(value):
    cell = read_cell(COLUMNS[0], {"accuracy": value})
    assert (cell.text, cell.spread, cell.order) == ("–", "", "")


def test_json_is_all_there_is_on_stdout(capsys: pytest.CaptureFixture[str]):
    screen = Screen(as_json=True)
    screen.show("words")
    screen.line("more words")
    screen.remark("a remark")
    screen.document({"value": math.nan, "path": "x" * 300, "[bold]": [1, (2.5, math.inf)]})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"value": None, "path": "x" * 300, "[bold]": [1, [2.5, None]]}
    assert captured.err == "a remark\n"


def test_quiet_keeps_results_and_drops_remarks(capsys: pytest.CaptureFixture[str]):
    screen = Screen(quiet=True)
    screen.line("result [red]")
    screen.remark("a remark")
    captured = capsys.readouterr()
    assert captured.out == "result [red]\n"
    assert captured.err == ""


def test_a_reader_may_go_away():
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as file:
        console = PatientConsole(file=file)
        console.print("nobody hears this")
        console.print("nor this")
        assert console.quiet


def test_progress_is_lines_where_there_is_no_terminal():
    console = Console(file=io.StringIO(), width=100)
    with Bars(console, {"project": "projection [fast]"}) as bars:
        bars.experiment_started(3, 1)
        bars.run_started("project", 0, 2)
        bars.epoch_finished("project", 0, 1, {})
        bars.run_finished("project", 0, "finished", None)
        bars.run_started("other", 0, 2)
        bars.run_finished("other", 0, "failed", "no interior")
    assert console.file.getvalue().splitlines() == [
        "1 of 3 trainings are there already.",
        "[2/3] projection [fast], seed 0: finished",
        "[3/3] other, seed 0: failed: no interior",
    ]


def test_progress_is_bars_in_a_terminal():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with Bars(console, {}) as bars:
        bars.experiment_started(1, 0)
        bars.run_started("project", 0, 2)
        bars.epoch_finished("project", 0, 1, {})
        bars.run_finished("project", 0, "finished", None)
    assert "trainings" in console.file.getvalue()
    assert "finished" not in console.file.getvalue()
