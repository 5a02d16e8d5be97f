"""The stages of a polish, in their order."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from feasible.errors import UnsupportedError
from feasible.problem.compatibility import check_methods
from feasible.problem.polish.first_calls import check_calls
from feasible.problem.polish.objective import Budget, Loss, Objective
from feasible.problem.polish.result import Polish, Stage
from feasible.problem.polish.retraining import (
    AnyOptimizer,
    check_optimizer,
    remaining,
    retrain,
    still_enforced,
)
from feasible.problem.polish.search import Search
from feasible.problem.polish.surroundings import Snapshot, evaluating, read, undisturbed
from feasible.problem.polish.targets import Target, find_targets, settle
from feasible.sets.moves import neighbours
from feasible.solve.handed import Function, check_function, first_value

if TYPE_CHECKING:
    from feasible.problem.problem import Problem

_WORK = 4e10
"""Products that the search may take where no number of evaluations is given, and its bounds."""
_LEAST, _MOST = 256, 20_000
_SINGLE = 0.75
"""The share of the evaluations that single moves may use."""
_KICKS = 16
"""From where pairs of moves end, so many times the search goes on from elsewhere nearby."""


class NotFiniteError(ValueError):
    """A stage has ended with a loss that is no number."""


def polish(
    problem: Problem,
    data: Iterable[Any],
    loss: Loss,
    optimizer: AnyOptimizer = None,
    steps: int = 1000,
    *,
    lr: float = 1e-3,
    metric: Function | None = None,
    evaluations: int | None = None,
    seconds: float | None = None,
) -> Polish:
    """See ``Problem.polish``."""
    _check_numbers(steps, lr, evaluations, seconds)
    check_function(loss, "polish: loss")
    if metric is not None:
        check_function(metric, "polish: metric")
    targets = find_targets(problem)
    check_optimizer(optimizer, remaining(problem, targets), targets)
    if steps and isinstance(optimizer, torch.optim.Optimizer):
        check_methods(optimizer, still_enforced(problem, targets))
    with undisturbed(problem):
        batches, again = read(data)
        return _Run(problem, targets, batches, loss, metric).all(
            again, optimizer, steps, lr, evaluations, seconds
        )


class _Run:
    """One polish: what it works on, and the stages so far."""

    def __init__(
        self,
        problem: Problem,
        targets: list[Target],
        batches: list[Any],
        loss: Loss,
        metric: Function | None,
    ) -> None:
        self.problem, self.targets, self.loss, self.metric = problem, targets, loss, metric
        self.batches = batches
        self.whole = Objective(problem.model, targets, batches, loss)
        self.stages: list[Stage] = []
        self.notes: list[str] = []
        self.evaluations = 0

    def all(
        self,
        again: Iterable[Any],
        optimizer: AnyOptimizer,
        steps: int,
        lr: float,
        evaluations: int | None,
        seconds: float | None,
    ) -> Polish:
        """Every stage."""
        self._check_values(steps)
        check_calls(
            self.problem, self.targets, self.whole.call, self.batches[0], self.loss, self.metric, steps
        )
        with self._stage("as trained"), evaluating(self.problem):
            pass
        with self._stage("rounded"):
            settle(
                self.problem,
                self.targets,
                optimizer if isinstance(optimizer, torch.optim.Optimizer) else None,
            )
        with evaluating(self.problem):
            self._improve(evaluations, seconds)
        if steps and remaining(self.problem, self.targets):
            self._retrain(again, optimizer, steps, lr)
        elif steps:
            self.notes.append("Nothing is retrained: all weights are discrete.")
        self.problem.finish()
        return Polish(tuple(self.stages), tuple(self.notes), self.evaluations)

    # -- stages ------------------------------------------------------------------------------------

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        before = [target.values() for target in self.targets]
        yield
        changed = sum(target.changed(old) for target, old in zip(self.targets, before, strict=True))
        with evaluating(self.problem):
            value = self.whole.loss()
            metric = None if self.metric is None else self.whole.mean(self.metric)
        if not math.isfinite(value):
            raise NotFiniteError(
                f"polish: the loss {name} is {value}, and nothing can be compared with it. Look at data and model."
            )
        self.stages.append(Stage(name, value, metric, changed, time.monotonic() - started))

    def _improve(self, evaluations: int | None, seconds: float | None) -> None:
        objective = Objective(self.problem.model, self._searched(), self.batches, self.loss)
        if not objective.targets:
            return
        if evaluations is None:
            evaluations = int(min(max(_WORK / max(objective.work, 1), _LEAST), _MOST))
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        objective.budget = Budget(evaluations, deadline)
        search = Search(objective)
        with self._stage("single moves"), self._never_worse():
            search.run(pairs=False, share=_SINGLE)
        with self._stage("pairs of moves"), self._never_worse():
            complete = search.run(pairs=True)
            complete = complete and search.kick(_KICKS)
        self.evaluations = objective.budget.used
        if not complete:
            ended = f"{seconds:g} seconds" if time.monotonic() > deadline else f"{evaluations:,} evaluations"
            self.notes.append(f"The search ended after its {ended}; more may lower the loss further.")
        if objective.obstacle is not None:
            self.notes.append(
                "Moves were tried one after the other, since torch.func.vmap refused the model or the loss: "
                f"{objective.obstacle}"
            )

    def _searched(self) -> list[Target]:
        found = []
        for target in self.targets:
            try:
                next(iter(neighbours(target.set, target.slot.leaf.detach())), None)
                found.append(target)
            except UnsupportedError as error:
                first = str(error).split("\n")[0]
                self.notes.append(f"{target.slot.name} is rounded and not improved: {first}")
        return found

    @contextmanager
    def _never_worse(self) -> Iterator[None]:
        """Many trials at once round otherwise than one model does: what a stage loses by that is taken back."""
        before, start = [target.values() for target in self.targets], self.whole.loss()
        yield
        if not self.whole.loss() <= start:
            for target, value in zip(self.targets, before, strict=True):
                target.slot.write(value)

    def _retrain(self, again: Iterable[Any], optimizer: AnyOptimizer, steps: int, lr: float) -> None:
        before = Snapshot(self.problem)
        try:
            with self._stage("rest retrained"):
                retrain(self.problem, self.targets, again, self.loss, self.whole.call, optimizer, steps, lr)
        except NotFiniteError:
            before.restore()
            with self._stage("rest retrained"):
                self.notes.append(
                    "Retraining diverged, and the weights from before it are back: lower the learning rate."
                )

    def _check_values(self, steps: int) -> None:
        """A retraining has to know every required value: the loss hands them in, or ``fn=`` computes them."""
        awaited = [
            c.name
            for c in self.problem.constraints
            if c.slot is None and c.enabled and c.has_term and c.spec.function is None
        ]
        if not (steps and awaited):
            return
        clock = self.problem._clock
        before = clock.moment.call
        with evaluating(self.problem), torch.enable_grad():
            self.problem.recording = True  # the first value decides the shape of a constraint
            first_value(self.loss, self.whole.call, self.batches[0], "polish: loss")
        clock.close_window()
        called = clock.moment.call != before
        if not called:
            raise ValueError(
                f"polish: retraining needs the required values of {', '.join(awaited)}. Let loss(call, batch) return "
                f"problem.loss(task_loss, {awaited[0]}=…), declare them with fn=, or pass steps=0."
            )


def _check_numbers(steps: int, lr: float, evaluations: int | None, seconds: float | None) -> None:
    for name, value in (("steps", steps), ("evaluations", evaluations)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise ValueError(f"polish: {name} must be a whole number ≥ 0, got {value!r}.")
    if not lr > 0:
        raise ValueError(f"polish: lr must be positive, got {lr!r}.")
    if seconds is not None and not seconds >= 0:
        raise ValueError(f"polish: seconds must be ≥ 0, got {seconds!r}.")
