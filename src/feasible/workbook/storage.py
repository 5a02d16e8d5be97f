"""The files of a run directory: written beside their place, then renamed, so that none is half there."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from feasible.workbook.configuration import AnyExperiment, load_experiment
from feasible.workbook.errors import InputError
from feasible.workbook.results import RunResult
from feasible.workbook.run_directory import RECORDS

HISTORY = (
    "epoch",
    "train_loss",
    "train_metric",
    "test_loss",
    "test_metric",
    "worst_violation",
    "test_worst_violation",
)
"""The columns of a training's history; those of expectations and rates follow."""

PACKAGES = ("feasible", "torch", "numpy", "pandas", "scikit-learn", "safetensors", "pydantic")


def open_run(out: Path, experiment: AnyExperiment, resume: bool, command_line: Sequence[str]) -> None:
    """Make the run directory with its configuration, or check that it can be resumed.

    Raises:
        InputError: there is something else already.
    """
    if out.exists() and not out.is_dir():
        raise InputError("this is a file, not a folder for a run.", str(out))
    if out.is_dir() and any(out.iterdir()):
        _check_resumable(out, experiment, resume)
        for partial in out.glob("runs/*/.*.partial"):
            shutil.rmtree(partial)
        write_text(out / "config.toml", experiment.to_toml())
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with _renamed_when_done(out) as partial:
        write_text(partial / "config.toml", experiment.to_toml())
        _write_json(partial / "environment.json", _environment(experiment, command_line))
        (partial / "runs").mkdir()


def note_environment(out: Path, experiment: AnyExperiment) -> None:
    """Write down when the run ended, and over which seeds."""
    path = out / "environment.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else _environment(experiment, ())
    _write_json(path, {**known, "seeds": list(experiment.budget.seed_list), "finished": _now()})


def save_training(out: Path, result: RunResult) -> None:
    """One folder ``runs/<variant>/<seed>`` for a training that has come to its end."""
    folder = out / "runs" / result.variant / str(result.seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _renamed_when_done(folder) as partial:
        write_text(partial / "history.csv", _csv(HISTORY, result.history))
        _write_json(partial / "result.json", result.to_dict())
        if result.weights:
            save_file(dict(result.weights), partial / "model.safetensors")
        if result.records:
            save_file({name: one.contiguous() for name, one in result.records.items()}, partial / RECORDS)


def load_training(out: Path, variant: str, seed: int) -> RunResult | None:
    """A training that has come to its end before, without its weights."""
    folder = out / "runs" / variant / str(seed)
    if not (folder / "result.json").is_file():
        return None
    stored = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    with (folder / "history.csv").open(encoding="utf-8", newline="") as file:
        history = tuple(
            {key: float(cell) if cell else math.nan for key, cell in row.items()}
            for row in csv.DictReader(file)
        )
    head = {key: stored.pop(key) for key in ("variant", "label", "seed", "status", "reason")}
    return RunResult(**head, measurements=stored, history=history)


def load_weights(out: Path, variant: str, seed: int) -> dict[str, Tensor]:
    """The final weights of a training."""
    return load_file(out / "runs" / variant / str(seed) / "model.safetensors")


def write_summary(
    out: Path, summary: Mapping[str, Any], results: Iterable[RunResult], best: RunResult | None
) -> None:
    """``result.json``, the history of all trainings in one table, and the best weights."""
    rows = [
        {"variant": result.variant, "seed": result.seed, **row}
        for result in results
        for row in result.history
    ]
    write_text(out / "history.csv", _csv(("variant", "seed", *HISTORY), rows))
    if best is not None:
        weights = out / "runs" / best.variant / str(best.seed) / "model.safetensors"
        partial = out / ".model.safetensors.partial"
        shutil.copyfile(weights, partial)
        os.replace(partial, out / "model.safetensors")
    _write_json(out / "result.json", summary)


def write_text(path: Path, text: str) -> None:
    """Replace a file in one go."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _check_resumable(out: Path, experiment: AnyExperiment, resume: bool) -> None:
    config = out / "config.toml"
    if not config.is_file():
        raise InputError("this folder holds other files: choose another --out.", str(out))
    if not resume:
        raise InputError(
            "this folder holds a run already: go on with --resume, or choose another --out.", str(out)
        )
    seeds = experiment.budget.seed_list
    if load_experiment(config).with_seeds(seeds) != experiment.with_seeds(seeds):
        raise InputError(
            "this folder holds a run of another configuration (see its config.toml): choose another --out.",
            str(out),
        )


@contextmanager
def _renamed_when_done(folder: Path) -> Iterator[Path]:
    """A temporary sibling that becomes the folder at the end, or vanishes."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if folder.is_dir():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _environment(experiment: AnyExperiment, command_line: Sequence[str]) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "threads": experiment.budget.threads,
        "seeds": list(experiment.budget.seed_list),
        "command_line": list(command_line),
        "started": _now(),
        "finished": None,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV, other keys than these columns after them; NaN is an empty cell."""
    text, rows = io.StringIO(), list(rows)
    names = dict.fromkeys([*columns, *(key for row in rows for key in row)])
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if value != value else _cell(key, value) for key, value in row.items()})
    return text.getvalue()


def _cell(key: str, value: Any) -> Any:
    return int(value) if key in ("epoch", "seed") else value


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """Numbers that are not finite as ``null``: JSON has no others."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
