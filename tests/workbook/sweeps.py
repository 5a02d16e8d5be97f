"""Small sweeps, and workers of them in processes of their own."""

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import sqlalchemy

from feasible.workbook.sweep import worker
from feasible.workbook.sweep.configuration import load_sweep
from feasible.workbook.sweep.runner import run_sweep
from feasible.workbook.sweep.trial import Outcome

EXPERIMENT = """\
title = "Small"

[data]
source = "wine"

[model]
hidden = [3]

[[constraints]]
name = "positive"
weights = "*.weight"
set = "NonNegative"

[methods.project]
label = "projection"
by = "Project"

[methods.penalty]
by = { name = "Penalty", weight = 1.0 }

[budget]
seeds = 2
epochs = 1
"""

GRID = """
[sweep]
heartbeat = 1

[sweep.parameters]
"training.learning_rate" = [0.001, 0.01, 0.1]
methods.penalty.by.weight = [1.0, 10.0]
"""


def write_sweep(folder: Path, table: str = GRID, experiment: str = EXPERIMENT) -> Path:
    """A sweep file."""
    path = folder / "small.toml"
    path.write_text(experiment + table, encoding="utf-8")
    return path


def quicken_databases() -> None:
    """Let commits not wait for the disk: no test survives a power cut."""
    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", _quicken)


def slow_databases() -> None:
    """Let them wait again."""
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", _quicken)


def _quicken(connection: Any, record: object) -> None:
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute("PRAGMA synchronous=OFF")


def start_worker(file: Path, folder: Path, url: str, seconds: float) -> BaseProcess:
    """A worker that waits for the file ``go`` beside its folder, and pauses in each trial.

    Beside its folder it leaves files: ``.ready`` before it begins, ``.busy`` in its first trial, and ``.seen`` with the
    number of settings that it has seen finished at its end.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["feasible.workbook.sweep.runner"])  # torch is imported once for all
    process = context.Process(target=_work, args=(file, folder, url, seconds))
    process.start()
    return process


def _work(file: Path, folder: Path, url: str, seconds: float) -> None:
    quicken_databases()
    train = worker.run_trial

    def slowly(*arguments: Any) -> Outcome:
        folder.with_suffix(".busy").touch()
        time.sleep(seconds)
        return train(*arguments)

    worker.run_trial = slowly
    sweep = load_sweep(file)
    folder.with_suffix(".ready").touch()
    wait_until((folder.parent / "go").exists)
    results = run_sweep(sweep, folder, url)
    folder.with_suffix(".seen").write_text(str(len(results.finished)))


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Look again and again."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.05)
