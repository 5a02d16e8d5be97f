"""A run directory read back: what the tables and the page are made of."""

from __future__ import annotations

import csv
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from feasible.workbook.errors import InputError

RESULT = "result.json"
CONFIGURATION = "config.toml"
FIRST_LOOK = "A first look, with a small budget: what the description says is said of the full one."
RECORDS = "records.safetensors"
"""What was watched in a run on a differential equation."""

Kind = Literal["training", "solving", "differential"]


@dataclass(frozen=True)
class RunDirectory:
    """A finished or interrupted run, as its files tell it."""

    path: Path
    result: Mapping[str, Any]
    """``result.json``."""
    configuration: str
    """The text of ``config.toml``."""
    environment: Mapping[str, Any]
    history: list[dict[str, Any]]
    """The rows of ``history.csv``, numbers as numbers and empty cells as ``None``."""

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return str(self.result["experiment"])

    @property
    def title(self) -> str:
        """The experiment's title, or its name."""
        return str(self.result.get("title") or self.name)

    @property
    def kind(self) -> Kind:
        """What was compared: methods on one training, solvers on a problem, or ways to solve an equation."""
        data = self.result.get("data") or {}
        return "differential" if "axes" in data else "solving" if "problem" in data else "training"

    @property
    def is_quick(self) -> bool:
        """Whether it had the budget of a first look."""
        return bool(self.result.get("quick", False))

    @property
    def is_finished(self) -> bool:
        """Whether nothing was interrupted."""
        return bool(self.result.get("finished", True))

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """The comparison, one row per method."""
        return list(self.result["rows"])

    @property
    def runs(self) -> list[Mapping[str, Any]]:
        """Every training, one per method and seed."""
        return list(self.result["runs"])

    @property
    def metric(self) -> tuple[str, bool]:
        """The name of the metric, and whether higher is better."""
        metric = self.result["metric"]
        return str(metric["name"]), bool(metric["higher_is_better"])

    @property
    def metric_is_share(self) -> bool:
        """Whether the metric is a share, which reads best in percent."""
        columns = {column["key"]: str(column.get("format", "")) for column in self.result["columns"]}
        return columns.get("test_metric", "").endswith("%")

    @property
    def unit(self) -> str:
        """What the history counts."""
        return str(self.result.get("unit", "epoch"))

    @property
    def is_held_out(self) -> bool:
        """Whether the data that are not trained on are others."""
        return bool((self.result.get("data") or {}).get("test_rows", 1))

    @property
    def where(self) -> str:
        """The scope of what is said of an equation's residual."""
        count = (self.result.get("data") or {}).get("held_out_points")
        return f"at {f'{count:,} ' if count else ''}points that were not trained on"

    @property
    def rules(self) -> list[Mapping[str, Any]]:
        """The ``[[constraints]]`` tables."""
        return list(self.tables.get("constraints", ()))

    @property
    def tables(self) -> Mapping[str, Any]:
        """``config.toml``, parsed; empty where it is damaged."""
        try:
            return tomllib.loads(self.configuration)
        except tomllib.TOMLDecodeError:
            return {}

    def finished_runs(self, variant: str | None = None) -> list[Mapping[str, Any]]:
        """The trainings that came to their end, of one method or of all."""
        finished = [run for run in self.runs if run["status"] == "finished"]
        return [run for run in finished if variant is None or run["variant"] == variant]

    def obeys(self, variant: str) -> bool:
        """Whether every finished training of one method ended with every rule obeyed."""
        runs = self.finished_runs(variant)
        return bool(runs) and all(_obeys(run) for run in runs)

    def best_feasible(self) -> str | None:
        """The method with the best median metric among those that obeyed every rule on every seed."""
        _, higher_is_better = self.metric
        scores: dict[str, float] = {}
        for row in self.rows:
            runs = self.finished_runs(row["variant"])
            values = [float(run["test_metric"]) for run in runs if run.get("test_metric") is not None]
            if values and self.obeys(row["variant"]):
                scores[row["variant"]] = median(values) if higher_is_better else -median(values)
        return max(scores, key=lambda variant: scores[variant], default=None)

    def best_run(self, variant: str) -> Mapping[str, Any] | None:
        """The best training of one method: feasible before infeasible, then the metric."""
        _, higher_is_better = self.metric
        sign = 1.0 if higher_is_better else -1.0

        def rank(run: Mapping[str, Any]) -> tuple[bool, float]:
            metric = run.get("test_metric")
            return _obeys(run), -math.inf if metric is None else sign * float(metric)

        return max(self.finished_runs(variant), key=rank, default=None)

    def weight_files(self, variant: str) -> Iterator[Path]:
        """The final weights of every finished training of one method."""
        for run in self.finished_runs(variant):
            path = self.path / "runs" / variant / str(run["seed"]) / "model.safetensors"
            if path.is_file():
                yield path

    def record_names(self, variant: str) -> list[str]:
        """What was watched in the best run of one method."""
        path = self._records(variant)
        if path is None:
            return []
        with safe_open(path, "numpy") as file:
            return sorted(file.keys())

    def record(self, variant: str, name: str) -> NDArray[np.float64] | None:
        """One thing that was watched in the best run of one method; ``None``: it was not."""
        path = self._records(variant)
        if path is None or name not in self.record_names(variant):
            return None
        with safe_open(path, "numpy") as file:
            found: NDArray[np.float64] = file.get_tensor(name).astype(np.float64)
        return found

    def _records(self, variant: str) -> Path | None:
        best = self.best_run(variant)
        path = self.path / "runs" / variant / str(best["seed"]) / RECORDS if best else None
        return path if path is not None and path.is_file() else None


def read_run(path: str | Path) -> RunDirectory:
    """What a run directory holds.

    Raises:
        InputError: there is no such folder, it holds no run, or its files are damaged.
    """
    folder = Path(path)
    if not folder.exists():
        raise InputError("the folder does not exist.", str(path))
    if not (folder / RESULT).is_file():
        inside = next(iter(sorted(folder.glob(f"*/{RESULT}"))), None) if folder.is_dir() else None
        hint = f" It holds runs: {inside.parent}, …" if inside else " A run holds result.json."
        raise InputError("this is not the folder of a run." + hint, str(path))
    result = _read_json(folder / RESULT)
    missing = [key for key in ("experiment", "metric", "columns", "rows", "runs") if key not in result]
    if missing:
        raise InputError(
            f'"{missing[0]}" is missing; was it written by another version?', str(folder / RESULT)
        )
    environment = folder / "environment.json"
    return RunDirectory(
        folder,
        result,
        _read_text(folder / CONFIGURATION),
        _read_json(environment) if environment.is_file() else {},
        _read_history(folder / "history.csv"),
    )


def holds_run(folder: Path) -> bool:
    """Whether a run has been written, or begun, here."""
    return any((folder / name).exists() for name in (RESULT, CONFIGURATION, "runs"))


def _obeys(run: Mapping[str, Any]) -> bool:
    """Whether the rules held on the weights, the training data and the held-out data."""
    return bool(run.get("feasible")) and run.get("test_feasible") is not False


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the file cannot be read: {error}.", str(path)) from None
    if not isinstance(content, dict):
        raise InputError("the file does not hold a JSON object.", str(path))
    return content


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _read_history(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _number(key, cell) for key, cell in row.items()} for row in csv.DictReader(file)]


def _number(key: str, cell: str | None) -> Any:
    """A cell as a number; what is no number, and the method's name, stays as it is."""
    if key == "variant" or not cell:
        return cell or None
    try:
        return float(cell)
    except ValueError:
        return cell
