"""The study in its database: opened by every worker, and the trials in it as places of the sweep."""

from __future__ import annotations

import contextlib
import random
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError

from feasible.workbook.errors import InputError
from feasible.workbook.sweep.configuration import Sweep

AGAIN = "again"
"""Of a trial that repeats one whose worker was killed or interrupted: the number of the first of them."""
ATTEMPT = "attempt"
"""Which attempt it is; interruptions do not count."""
SURPLUS = "surplus"
"""Of a trial that was begun although others had taken all settings."""
WORKER = "worker"
"""Who trains it."""
ATTEMPTS = 3
"""A setting that so many workers died of is given up."""
SECONDS_TO_OPEN = 30.0
"""How long workers may be in each other's way while they make the tables of a new database."""

_FINGERPRINT = "fingerprint"


@contextlib.contextmanager
def open_study(sweep: Sweep, url: str) -> Iterator[optuna.Study]:
    """The study of this sweep, made where it does not exist; afterwards its connections are closed.

    Raises:
        InputError: the database cannot be reached, or holds a study of another sweep under this name.
    """
    storage = _open_storage(url, sweep.table.heartbeat)
    try:
        yield _load_study(sweep, url, storage)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _load_study(sweep: Sweep, url: str, storage: RDBStorage) -> optuna.Study:
    study = optuna.create_study(
        storage=storage,
        study_name=sweep.study,
        direction="maximize" if sweep.higher_is_better else "minimize",
        load_if_exists=True,
    )
    if _FINGERPRINT not in study.user_attrs and not study.get_trials(deepcopy=False):
        study.set_user_attr(_FINGERPRINT, sweep.fingerprint)
    if study.user_attrs.get(_FINGERPRINT) != sweep.fingerprint:
        message = (
            f'the study "{sweep.study}" in {shown(url)} is one of another configuration: '
            'give this one another name, study = "…", or another folder, --out.'
        )
        raise InputError(message, *sweep.origin.place(("sweep", "study")))
    return study


def shown(url: str) -> str:
    """The URL without its password.

    >>> shown("postgresql://me:secret@host/sweeps")
    'postgresql://me:***@host/sweeps'
    """
    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url


@contextlib.contextmanager
def reaching(url: str, file: str | None = None, line: int | None = None) -> Iterator[None]:
    """A database that is not there, or no longer, is said in a sentence, with the place of its URL."""
    try:
        yield
    except (StorageInternalError, OperationalError, InterfaceError) as error:
        raise InputError(
            f"the storage {shown(url)} cannot be reached: {_reason(error)}.", file, line
        ) from error
    except _UnusableError as error:
        raise InputError(str(error), file, line) from error


class _UnusableError(Exception):
    """A database that cannot hold the study, in a sentence."""


def _reason(error: BaseException) -> str:
    """What the database's driver says."""
    cause = error.__cause__ or error
    return " ".join(str(getattr(cause, "orig", None) or cause).split()).rstrip(".")


def run_again(study: optuna.Study, trial: FrozenTrial, is_killed: bool = True) -> None:
    """Put the setting of a trial that came to nothing back into the queue.

    Args:
        study: of the trial.
        trial: it has the state ``FAIL``.
        is_killed: whether its worker died; a setting that ``ATTEMPTS`` workers died of is given up.
    """
    attempt = trial.user_attrs.get(ATTEMPT, 1) + is_killed
    if attempt > ATTEMPTS:
        return
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={AGAIN: first_number(trial), ATTEMPT: attempt},
        )
    )


def first_number(trial: FrozenTrial) -> int:
    """The number of the trial that this one repeats, or its own."""
    return int(trial.user_attrs.get(AGAIN, trial.number))


def places(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """The place in the sweep of every trial, by its number.

    The database numbers trials one by one as they are made. Those that repeat none take the places in that order; a
    repetition has the place of the first one.
    """
    found: dict[int, int] = {}
    free = 0
    for trial in sorted(trials, key=lambda trial: trial.number):
        if AGAIN in trial.user_attrs:
            found[trial.number] = found[first_number(trial)]
        else:
            found[trial.number], free = free, free + 1
    return found


def _open_storage(url: str, heartbeat: int) -> RDBStorage:
    is_file = _check_url(url)
    deadline = time.monotonic() + SECONDS_TO_OPEN
    while True:
        try:
            return _make_storage(url, heartbeat, is_file)
        except (StorageInternalError, SQLAlchemyError, AssertionError) as error:
            # Two workers that make the tables of a new database at the same moment: one of them comes too late.
            if time.monotonic() > deadline:
                raise _UnusableError(f"the storage {shown(url)} cannot be used: {_reason(error)}.") from error
            time.sleep(random.uniform(0.05, 0.5))
        except RuntimeError as error:  # of another version of Optuna
            raise _UnusableError(f"the storage {shown(url)} cannot be used: {_reason(error)}.") from error


def _check_url(url: str) -> bool:
    """Whether it is SQLite's, after a first connection."""
    try:
        engine = sqlalchemy.create_engine(url)
    except ArgumentError:
        message = f'"{shown(url)}" is not the URL of a database, such as sqlite:///sweep.db or postgresql://host/name.'
        raise _UnusableError(message) from None
    except ImportError as error:
        raise _UnusableError(f"the storage {shown(url)} needs a driver: pip install {error.name}.") from None
    with engine.connect():
        pass
    engine.dispose()
    return engine.dialect.name == "sqlite"


def _make_storage(url: str, heartbeat: int, is_file: bool) -> RDBStorage:
    arguments: dict[str, Any] = {"pool_pre_ping": True}
    if is_file:
        arguments = {"connect_args": {"timeout": 60, "isolation_level": None}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # the heartbeat
        storage = RDBStorage(
            url,
            engine_kwargs=arguments,
            heartbeat_interval=heartbeat,
            grace_period=2 * heartbeat,
            heartbeat_stale_trial_callback=run_again,
        )
    if is_file:
        # SQLite locks no rows: two workers that read that a trial waits would both take it. Each transaction
        # therefore has the whole file from its beginning.
        sqlalchemy.event.listen(storage.engine, "begin", _begin_immediately)
    return storage


def _begin_immediately(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
