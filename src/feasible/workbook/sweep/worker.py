"""A worker: takes trials of the study until there are none, and sees to those that others left behind."""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from feasible.workbook.sweep.configuration import Sweep
from feasible.workbook.sweep.study import ATTEMPT, ATTEMPTS, SURPLUS, WORKER, places, run_again
from feasible.workbook.sweep.trial import run_trial

BROKEN = 1e300
"""The violation that Optuna is told where a training failed: the worst that it can compare."""

Said = Callable[[FrozenTrial], None]


class SurplusError(Exception):
    """Others have taken all settings in the meantime."""


class Worker:
    """Trains the trials of a study, one at a time, beside any number of other workers.

    Args:
        sweep: what is tried.
        study: where it is written down.
        finished: is told every trial that this worker has finished.
        waiting: is told once how many trials of other workers are waited for.
    """

    def __init__(
        self, sweep: Sweep, study: optuna.Study, finished: Said, waiting: Callable[[int], None]
    ) -> None:
        self._sweep, self._study = sweep, study
        self._finished, self._waiting = finished, waiting
        self._grace = 2.0 * sweep.table.heartbeat
        self._pause = min(5.0, sweep.table.heartbeat / 4)
        self._seen: dict[int, float] = {}
        self._current: int | None = None
        self._has_waited = False
        self._is_taken_away = False

    def work(self) -> bool:
        """Until every setting has been trained, by whomever; whether it came to that, or was interrupted."""
        try:
            while True:
                _fail_stale_trials(self._study)
                trials = self._study.get_trials(deepcopy=False)
                if is_something_left(trials, self._sweep.count):
                    self._take()
                elif not self._is_anything_open(trials):
                    return True
                else:
                    self._mend(trials)
                    time.sleep(self._pause)
        except KeyboardInterrupt:
            self._give_back()
            return False

    def _take(self) -> None:
        """One trial, unless another worker has taken this one for dead and put it back."""
        self._is_taken_away = False
        try:
            self._study.optimize(self._train, n_trials=1, catch=(SurplusError,))
        except ValueError:
            if not self._is_taken_away:
                raise
        number, self._current = self._current, None
        if number is not None and not self._is_taken_away:
            self._finished(self._study.get_trials(deepcopy=False)[number])

    def _train(self, trial: Trial) -> float:
        try:
            return self._train_place(trial)
        except UpdateFinishedTrialError:
            self._is_taken_away = True
            raise

    def _train_place(self, trial: Trial) -> float:
        place = places(self._study.get_trials(deepcopy=False))[trial.number]
        if place >= self._sweep.count:
            trial.set_user_attr(SURPLUS, True)
            raise SurplusError
        self._current = trial.number
        self._study.sampler = self._sweep.space.sampler(place)
        method, setting = self._sweep.space.suggest(trial)
        trial.set_user_attr(WORKER, f"{socket.gethostname()}:{os.getpid()}")
        outcome = run_trial(self._sweep, method, setting)
        for name, value in outcome.attributes.items():
            trial.set_user_attr(name, value)
        trial.set_constraint("violation", 0.0 if outcome.feasible else min(outcome.violation, BROKEN))
        if outcome.objective is None:
            raise optuna.TrialPruned(outcome.attributes["reason"])
        return outcome.objective

    def _is_anything_open(self, trials: Sequence[FrozenTrial]) -> bool:
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        if running and not self._has_waited:
            self._waiting(running)
            self._has_waited = True
        return running > 0 or any(True for _ in lost_trials(trials, self._sweep.count))

    def _mend(self, trials: Sequence[FrozenTrial]) -> None:
        """Put back what a worker left that died between two entries: no heartbeat tells of it."""
        now = time.monotonic()
        for trial in lost_trials(trials, self._sweep.count):
            first_seen = self._seen.setdefault(trial.number, now)
            if SURPLUS not in trial.user_attrs and now - first_seen <= self._grace:
                continue
            if trial.state == TrialState.RUNNING:
                self._study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            run_again(self._study, trial)

    def _give_back(self) -> None:
        if self._current is not None:
            trial = self._study.get_trials(deepcopy=False)[self._current]
            if trial.state == TrialState.FAIL:
                run_again(self._study, trial, is_killed=False)


def is_something_left(trials: Sequence[FrozenTrial], count: int) -> bool:
    """Whether a setting waits, or none has taken it yet."""
    taken = len(set(places(trials).values()))
    return taken < count or any(trial.state == TrialState.WAITING for trial in trials)


def lost_trials(trials: Sequence[FrozenTrial], count: int) -> Iterator[FrozenTrial]:
    """Trials that nobody trains and that nobody has put back.

    Their worker died after it had taken them and before its first entry, or after it had given them up and before it
    had put them back; or they were surplus, before more trials were asked for.
    """
    place = places(trials)
    last = {place[trial.number]: trial for trial in sorted(trials, key=lambda trial: trial.number)}
    for trial in last.values():
        if place[trial.number] >= count:
            continue
        is_given_up = trial.user_attrs.get(ATTEMPT, 1) >= ATTEMPTS
        is_unclaimed = trial.state == TrialState.RUNNING and WORKER not in trial.user_attrs
        if is_unclaimed or (trial.state == TrialState.FAIL and not is_given_up):
            yield trial


def _fail_stale_trials(study: optuna.Study) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
