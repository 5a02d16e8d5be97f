"""What watches a run: the best point so far, the callback, the progress line; and how a run ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch import Tensor

from feasible.solve.minimization.program import Program
from feasible.solve.minimization.result import Intermediate, Status
from feasible.solve.minimization.unknowns import Vector


class Ending(NamedTuple):
    """How a method ended."""

    x: Vector
    multipliers: list[Tensor]
    """One for each constraint, in float64."""
    status: Status
    note: str = ""
    """A sentence on what is special."""
    stationarity: float | None = None
    """Where it is not that of the gradient at x alone."""


class Monitor:
    """Sees every iterate.

    Args:
        program: the problem.
        tol: up to which violation a point counts as feasible.
        watchers: are shown each iterate; ``StopIteration`` ends the run.
    """

    def __init__(
        self, program: Program, tol: float, watchers: list[Callable[[Intermediate], object]] | None = None
    ) -> None:
        self.program, self.tol, self.watchers = program, tol, watchers or []
        self.iterations = -1
        self.best = program.unknowns.start
        self.best_key = (True, np.inf)

    def report(self, x: Vector, fun: float, violation: float, stationarity: float) -> bool:
        """Take note of an iterate; whether to go on."""
        self.iterations += 1
        is_outside = violation > self.tol
        key = (is_outside, violation if is_outside else fun)
        if key <= self.best_key:
            self.best, self.best_key = x, key
        if not self.watchers:
            return True
        shown = Intermediate(
            self.program.unknowns.copied(x),
            fun,
            violation,
            stationarity,
            self.iterations,
            self.program.evaluations,
        )
        try:
            for watcher in self.watchers:
                watcher(shown)
        except StopIteration:
            return False
        return True
