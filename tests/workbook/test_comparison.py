import json

import pytest

from feasible.workbook.comparison import best_run, compare_runs, rows_of
from feasible.workbook.errors import InputError
from feasible.workbook.training import RunResult

COLUMNS = [{"key": key} for key in ("test_metric", "feasible", "guarantee", "dead_weights")]


def run(variant="a", seed=0, status="finished", reason=None, **measured) -> dict:
    base = {"test_metric": 0.5, "feasible": True, "test_feasible": None, "guarantees": ["exact"]}
    measurements = {**base, "dead_weights": None, **measured} if status == "finished" else {}
    return RunResult(variant, variant.upper(), seed, status, reason, measurements).to_dict()


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (
            [run(test_metric=0.2), run(seed=1, test_metric=0.4), run(seed=2, test_metric=0.9)],
            {"seeds": 3, "status": "finished", "test_metric": {"median": 0.4, "min": 0.2, "max": 0.9}},
        ),
        ([run(), run(seed=1, feasible=False)], {"feasible": "1 of 2"}),
        ([run(), run(seed=1, guarantees=["encouraged"])], {"guarantee": "exact / encouraged"}),
        ([run(guarantees=[])], {"guarantee": "none", "dead_weights": "–"}),
        ([run(test_metric=float("nan"))], {"test_metric": "–"}),
        ([run(status="failed", reason="no")], {"seeds": 0, "status": "failed: no", "test_metric": "–"}),
        ([run(), run(seed=1, status="failed", reason="no")], {"status": "1 of 2 finished; failed: no"}),
        ([run(), run(seed=1, status="interrupted")], {"status": "1 of 2 finished; interrupted"}),
    ],
)
def test_a_row_sums_up_its_seeds(runs, expected):
    (row,) = rows_of(runs, COLUMNS)
    assert {key: row[key] for key in expected} == expected


def test_rows_keep_the_order_of_the_runs():
    assert [row["label"] for row in rows_of([run("b"), run("a"), run("b", 1)], COLUMNS)] == ["B", "A"]


@pytest.mark.parametrize(
    ("runs", "higher_is_better", "best"),
    [
        ([("a", 0.9, False, None), ("b", 0.5, True, None)], True, "b"),
        ([("a", 0.9, True, False), ("b", 0.5, True, True)], True, "b"),
        ([("a", 0.9, True, None), ("b", 0.5, True, None)], True, "a"),
        ([("a", 0.9, True, None), ("b", 0.5, True, None)], False, "b"),
        ([("a", 0.9, False, None), ("b", 0.5, False, None)], True, "a"),
        ([], True, None),
    ],
)
def test_the_best_run_obeys_first_and_then_has_the_best_metric(runs, higher_is_better, best):
    results = [
        RunResult(name, name, 0, "finished", None, {"test_metric": m, "feasible": f, "test_feasible": t})
        for name, m, f, t in runs
    ]
    results.append(RunResult("z", "z", 0, "failed", "no"))
    found = best_run(results, higher_is_better)
    assert (found.variant if found else None) == best


def test_several_runs_become_one_table(tmp_path):
    paths = []
    for name, key in (("x", "dead_weights"), ("y", "test_share_violated")):
        row = {"variant": "a", "label": "A", "seeds": 1, "status": "finished"}
        result = {"experiment": name, "columns": [{"key": "test_metric"}, {"key": key}], "rows": [row]}
        paths.append(tmp_path / f"run-{name}")
        paths[-1].mkdir()
        (paths[-1] / "result.json").write_text(json.dumps(result))
    table = compare_runs(paths)
    assert [column["key"] for column in table["columns"]] == [
        "test_metric",
        "dead_weights",
        "test_share_violated",
    ]
    assert [row["variant"] for row in table["rows"]] == ["x/a", "y/a"]
    twice = compare_runs([paths[0], paths[0]])
    assert [row["label"] for row in twice["rows"]] == ["run-x: A", "run-x: A"]


def test_every_metric_has_a_column_of_its_own(tmp_path):
    paths = []
    metrics = {"x": "test accuracy", "y": "test RMSE (unit 10)", "z": "test RMSE", "w": "test accuracy"}
    for name, label in metrics.items():
        columns = [{"key": "test_metric", "label": label}, {"key": "feasible", "label": "obeys"}]
        row = {"variant": "a", "label": "A", "test_metric": name, "feasible": "1 of 1"}
        result = {"experiment": name, "columns": columns, "rows": [row]}
        paths.append(tmp_path / name)
        paths[-1].mkdir()
        (paths[-1] / "result.json").write_text(json.dumps(result))
    table = compare_runs(paths)
    labels = [column["label"] for column in table["columns"]]
    assert labels == ["test accuracy", "obeys", "test RMSE (unit 10)", "test RMSE"]
    first, _, second, third = (column["key"] for column in table["columns"])
    shown = [[row.get(key) for key in (first, second, third)] for row in table["rows"]]
    assert shown == [["x", None, None], [None, "y", None], [None, None, "z"], ["w", None, None]]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        compare_runs([tmp_path])
