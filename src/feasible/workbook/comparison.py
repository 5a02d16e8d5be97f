"""All trainings of an experiment in one table: a row for each method, over its seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from feasible.workbook.configuration import Experiment
from feasible.workbook.data import Dataset
from feasible.workbook.errors import InputError
from feasible.workbook.naming import value_key
from feasible.workbook.results import RunResult

Column = dict[str, str]
Runs = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Metric:
    """What the methods are compared by."""

    name: str
    meaning: str
    format: str
    higher_is_better: bool


METRICS = {
    "classification": Metric("accuracy", "share of rows classified correctly", ".1%", True),
    "regression": Metric("RMSE", "root mean squared error", ".3f", False),
    "distribution": Metric("entropy", "−Σ p log p", ".6f", True),
}
"""By the task of the data."""


def column(key: str, label: str, help: str, format: str) -> Column:
    """A column of the table: where its numbers stand, and how they are shown."""
    return {"key": key, "label": label, "help": help, "format": format}


OBEYS = column(
    "feasible", "obeys", "seeds whose final network obeys every rule, on weights and training rows", "text"
)
WORST = column("worst_violation", "worst violation", "largest distance, on weights and training rows", ".2g")
WORST_HELD_OUT = column("test_worst_violation", "worst held-out", "largest distance, on held-out rows", ".2g")
SHARE_HELD_OUT = column(
    "test_share_violated", "held-out violated", "share of held-out rows that break a rule", ".1%"
)
GAP = column("gap", "gap to optimum", "training loss above that of the known solution", ".1e")
KNOWN = column("known_distance", "from known weights", "largest distance to the known solution's", ".1e")
DEAD = column(
    "dead_weights", "dead weights", "share of reparametrized weights that no longer learn: no slope", ".1%"
)
ROUNDED = column("rounded_metric", "rounded only", "the same before polishing, rounding alone", ".1%")
TIME = column("milliseconds_per_step", "ms/step", "processor time of a training step, median", ".2f")
GUARANTEE = column("guarantee", "guarantee", "what is known to hold, and how far it was checked", "text")
AT_BOUND = column("at_bound", "at a bound", "share of weights that lie exactly on a bound", ".1%")


def summarise(experiment: Experiment, dataset: Dataset, results: Sequence[RunResult]) -> dict[str, Any]:
    """What ``result.json`` says: the table, and every training."""
    runs = [result.to_dict() for result in results]
    metric = metric_of(dataset)
    unit = f" (in units of {dataset.target_unit:g})" if dataset.target_unit != 1 else ""
    columns = columns_of(experiment, dataset)
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "description": experiment.description,
        "metric": {
            "name": f"test {metric.name}{unit}" if dataset.is_held_out else f"{metric.name}{unit}",
            "higher_is_better": metric.higher_is_better,
        },
        "data": {
            "source": Path(experiment.data.source).name,
            "target": dataset.target,
            "task": dataset.task,
            "classes": list(dataset.classes),
            "features": len(dataset.features),
            "train_rows": len(dataset.x_train),
            "test_rows": len(dataset.x_test) if dataset.is_held_out else 0,
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
    samples = any(constraint.value == "prediction" for constraint in experiment.constraints)
    outputs = any(constraint.weights is None for constraint in experiment.constraints)
    candidates = [
        (_metric_column(dataset, "test"), True),
        ({**ROUNDED, "format": metric_of(dataset).format}, experiment.polish is not None),
        (OBEYS, True),
        *((found, True) for found in _value_columns(experiment, dataset)),
        (GAP, experiment.known.loss is not None),
        (KNOWN, bool(experiment.known.weights)),
        (WORST, True),
        (WORST_HELD_OUT, outputs and dataset.is_held_out),
        (SHARE_HELD_OUT, samples and dataset.is_held_out),
        (DEAD, weights),
        (TIME, True),
        (GUARANTEE, True),
        (_metric_column(dataset, "train"), dataset.is_held_out),
        (AT_BOUND, weights),
    ]
    return [found for found, is_wanted in candidates if is_wanted]


def metric_of(dataset: Dataset) -> Metric:
    """What methods are compared by on these data."""
    return METRICS[dataset.task]


def _metric_column(dataset: Dataset, rows: str) -> Column:
    metric = metric_of(dataset)
    where = {"test": "held-out", "train": "training"}[rows]
    unit = f" (unit {dataset.target_unit:g})" if dataset.target_unit != 1 else ""
    if not dataset.is_held_out:
        return column(f"{rows}_metric", metric.name + unit, metric.meaning, metric.format)
    return column(
        f"{rows}_metric", f"{rows} {metric.name}{unit}", f"{metric.meaning}, on {where} rows", metric.format
    )


def _value_columns(experiment: Experiment, dataset: Dataset) -> Iterator[Column]:
    """Each expectation and rate, on training and on held-out rows."""
    for rule in experiment.constraints:
        if rule.weights is None and rule.value != "prediction":
            style, title = ".1%" if rule.rate else ".5f", rule.title
            yield column(value_key("value", title), title, f"{title}, on training rows", style)
            if dataset.is_held_out:
                yield column(
                    value_key("test_value", title), f"test {title}", f"{title}, on held-out rows", style
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
        own = [_own_column(one, columns) for one in found["columns"]]
        columns |= {one["key"]: one for one in own if one["key"] not in columns}
        keys = {one["key"]: mine["key"] for one, mine in zip(found["columns"], own, strict=True)}
        rows += [
            {
                **{keys.get(key, key): value for key, value in row.items()},
                "variant": f"{name}/{row['variant']}",
                "label": f"{name}: {row['label']}",
            }
            for row in found["rows"]
        ]
    return {"columns": list(columns.values()), "rows": rows}


def _own_column(column: Column, others: Mapping[str, Column]) -> Column:
    """The column, under a key of its own where the others have another metric there."""
    key, label = column["key"], column.get("label", "")
    is_taken = key in others and others[key].get("label", "") != label
    return {**column, "key": f"{key}: {label}" if is_taken else key, "label": label}


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
