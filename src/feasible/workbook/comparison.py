"""All trainings of an experiment in one table: a row for each method, over its seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from feasible.workbook.configuration import Experiment
from feasible.workbook.data import Dataset
from feasible.workbook.errors import InputError
from feasible.workbook.training import RunResult

Column = dict[str, str]
Runs = Sequence[Mapping[str, Any]]


def _column(key: str, label: str, help: str, format: str) -> Column:
    return {"key": key, "label": label, "help": help, "format": format}


OBEYS = _column(
    "feasible", "obeys", "seeds whose final network obeys every rule, on weights and training rows", "text"
)
WORST = _column("worst_violation", "worst violation", "largest distance, on weights and training rows", ".2g")
HELD_OUT = (
    _column("test_worst_violation", "worst held-out", "largest distance, on held-out rows", ".2g"),
    _column("test_share_violated", "held-out violated", "share of held-out rows that break a rule", ".1%"),
)
DEAD = _column(
    "dead_weights", "dead weights", "share of reparametrized weights that no longer learn: no slope", ".1%"
)
TIME = _column("milliseconds_per_step", "ms/step", "processor time of a training step, median", ".2f")
GUARANTEE = _column("guarantee", "guarantee", "what is known to hold, and how far it was checked", "text")
AT_BOUND = _column("at_bound", "at a bound", "share of weights that lie exactly on a bound", ".1%")


def summarise(experiment: Experiment, dataset: Dataset, results: Sequence[RunResult]) -> dict[str, Any]:
    """What ``result.json`` says: the table, and every training."""
    runs = [result.to_dict() for result in results]
    classifies = dataset.task == "classification"
    unit = f" (in units of {dataset.target_unit:g})" if dataset.target_unit != 1 else ""
    columns = columns_of(experiment, dataset)
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "description": experiment.description,
        "metric": {
            "name": "test accuracy" if classifies else f"test RMSE{unit}",
            "higher_is_better": classifies,
        },
        "data": {
            "source": Path(experiment.data.source).name,
            "target": dataset.target,
            "task": dataset.task,
            "classes": list(dataset.classes),
            "features": len(dataset.features),
            "train_rows": len(dataset.x_train),
            "test_rows": len(dataset.x_test),
            "target_unit": dataset.target_unit,
            "notes": list(dataset.notes),
        },
        "columns": columns,
        "rows": rows_of(runs, columns),
        "runs": runs,
        "finished": all(run["status"] != "interrupted" for run in runs),
    }


def columns_of(experiment: Experiment, dataset: Dataset) -> list[Column]:
    """The columns that say something about this experiment, the most telling first."""
    weights = any(constraint.weights for constraint in experiment.constraints)
    values = any(constraint.value for constraint in experiment.constraints)
    test, train = _metric_columns(dataset)
    return [
        test,
        OBEYS,
        WORST,
        *(HELD_OUT if values else ()),
        *((DEAD,) if weights else ()),
        TIME,
        GUARANTEE,
        train,
        *((AT_BOUND,) if weights else ()),
    ]


def _metric_columns(dataset: Dataset) -> tuple[Column, Column]:
    if dataset.task == "classification":
        name, meaning, style = "accuracy", "share of rows classified correctly", ".1%"
    else:
        name, meaning, style = "RMSE", "root mean squared error", ".3f"
    return (
        _column("test_metric", f"test {name}", f"{meaning}, on held-out rows", style),
        _column("train_metric", f"train {name}", f"{meaning}, on training rows", style),
    )


def rows_of(runs: Runs, columns: Sequence[Column]) -> list[dict[str, Any]]:
    """One row a method, in the order of the runs: median, least and largest over the finished seeds."""
    names = dict.fromkeys(run["variant"] for run in runs)
    return [_row([run for run in runs if run["variant"] == name], columns) for name in names]


def best_run(results: Sequence[RunResult], higher_is_better: bool) -> RunResult | None:
    """The finished training that obeys the rules, also on held-out rows, with the best metric."""

    def rank(result: RunResult) -> tuple[bool, float]:
        measured = result.measurements
        obeys = bool(measured["feasible"]) and measured["test_feasible"] is not False
        return obeys, measured["test_metric"] * (1 if higher_is_better else -1)

    finished = [result for result in results if result.status == "finished"]
    return max(finished, key=rank, default=None)


def compare_runs(paths: Sequence[Path]) -> dict[str, Any]:
    """The tables of several run directories as one; each row's variant begins with the run's name.

    Raises:
        InputError: a folder holds no run.
    """
    read = [_read(Path(path)) for path in paths]
    names = [found["experiment"] for found in read]
    if len(set(names)) < len(names):
        names = [Path(path).name for path in paths]
    columns: dict[str, Column] = {}
    rows = []
    for name, found in zip(names, read, strict=True):
        for column in found["columns"]:
            columns.setdefault(column["key"], column)
        rows += [
            {**row, "variant": f"{name}/{row['variant']}", "label": f"{name}: {row['label']}"}
            for row in found["rows"]
        ]
    return {"columns": list(columns.values()), "rows": rows}


def _row(runs: Runs, columns: Sequence[Column]) -> dict[str, Any]:
    finished = [run for run in runs if run["status"] == "finished"]
    row: dict[str, Any] = {
        "variant": runs[0]["variant"],
        "label": runs[0]["label"],
        "seeds": len(finished),
        "status": _status(runs, finished),
    }
    for column in columns:
        row[column["key"]] = _cell(column["key"], finished)
    return row


def _status(runs: Runs, finished: Runs) -> str:
    if len(finished) == len(runs):
        return "finished"
    reason = next((run["reason"] for run in runs if run["status"] == "failed"), None)
    what = f"failed: {reason}" if reason else "interrupted"
    return what if not finished else f"{len(finished)} of {len(runs)} finished; {what}"


def _cell(key: str, finished: Runs) -> Any:
    if not finished:
        return "–"
    if key == "feasible":
        return f"{sum(bool(run['feasible']) for run in finished)} of {len(finished)}"
    if key == "guarantee":
        return _guarantee(finished)
    return _spread(run[key] for run in finished)


def _guarantee(finished: Runs) -> str:
    """The guarantees of all rules; where seeds differ, all that were seen."""
    kinds = dict.fromkeys(kind for run in finished for kind in run["guarantees"])
    return " / ".join(kinds) or "none"


def _spread(values: Iterable[float | None]) -> dict[str, float] | str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return "–"
    return {"median": median(known), "min": min(known), "max": max(known)}


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((path / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError("this folder holds no run (no readable result.json).", str(path)) from None
    return found
