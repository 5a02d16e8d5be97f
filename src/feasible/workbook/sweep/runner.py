"""A whole sweep: this worker's share of it, and what all of them have found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from feasible.workbook.errors import InputError
from feasible.workbook.storage import write_text
from feasible.workbook.sweep.configuration import Sweep
from feasible.workbook.sweep.page import configuration
from feasible.workbook.sweep.results import Results, Row, read_results
from feasible.workbook.sweep.study import open_study, reaching
from feasible.workbook.sweep.worker import Worker

DATABASE = "sweep.db"
CONFIGURATION = "sweep.toml"


class Told:
    """What a sweep tells while it runs; this one says nothing."""

    def began(self, ended: int, count: int) -> None:
        """So many of so many settings have come to an end before."""

    def finished(self, sweep: Sweep, row: Row, ended: int) -> None:
        """One more setting has been trained here."""

    def waits(self, running: int) -> None:
        """Nothing is left but trials of other workers."""


def run_sweep(sweep: Sweep, folder: Path, url: str | None = None, told: Told | None = None) -> Results:
    """Train what no other worker has taken, until every setting has come to an end or Ctrl-C is pressed.

    Args:
        sweep: from ``load_sweep``.
        folder: for the database, unless there is another, and the configuration.
        url: of the database; by default that of the file, or one in the folder.
        told: is told how it goes.

    Raises:
        InputError: the folder or the database cannot be used, or hold another sweep.
    """
    told = told or Told()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    _check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    url, place = _storage(sweep, folder, url)
    with reaching(url, *place), open_study(sweep, url) as study:
        write_text(folder / CONFIGURATION, configuration(sweep))
        before = read_results(sweep, study.get_trials(deepcopy=False))
        told.began(_ended(before), sweep.count)
        Worker(sweep, study, _finished(sweep, study, told), told.waits).work()
        return read_results(sweep, study.get_trials(deepcopy=False))


def _storage(sweep: Sweep, folder: Path, url: str | None) -> tuple[str, tuple[str | None, int | None]]:
    """The URL of the database, and the place where it was asked for."""
    if url is not None:
        return url, ("--storage", None)
    if sweep.table.storage is not None:
        return sweep.table.storage, sweep.origin.place(("sweep", "storage"))
    return f"sqlite:///{(folder / DATABASE).absolute()}", (None, None)


def _finished(sweep: Sweep, study: optuna.Study, told: Told) -> Callable[[FrozenTrial], None]:
    def tell(trial: FrozenTrial) -> None:
        results = read_results(sweep, study.get_trials(deepcopy=False))
        row = next(row for row in results.rows if row.number == trial.number)
        told.finished(sweep, row, _ended(results))

    return tell


def _ended(results: Results) -> int:
    return sum(row.status in ("finished", "failed", "killed") for row in results.rows)


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError("this is a file; --out needs a folder.", str(folder))
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIGURATION).is_file():
        raise InputError("this folder holds other files; choose a new or an empty one.", str(folder))
