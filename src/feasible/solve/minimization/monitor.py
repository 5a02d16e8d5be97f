"""What watches a run: the best point so far, the callback, the progress line; and how a run ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from feasible.solve.minimization.program import Program
from feasible.solve.minimization.result import Intermediate, Status
from feasible.solve.minimization.unknowns import Vector

BOTTOM = 1e15
"""An objective that has fallen by this, over its size at the start, has no bound."""


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
        self.multipliers: Callable[[], list[Tensor]] = self._no_multipliers
        self.lowest = -np.inf

    def report(
        self,
        x: Vector,
        fun: float,
        violation: float,
        stationarity: float,
        multipliers: Callable[[], list[Tensor]],
    ) -> bool:
        """Take note of an iterate, with what gives its multipliers; whether to go on."""
        self.iterations += 1
        if self.iterations == 0:
            self.lowest = -BOTTOM * max(1.0, abs(fun))
        is_outside = violation > self.tol
        key = (is_outside, violation if is_outside else fun)
        if key <= self.best_key:
            self.best, self.best_key, self.multipliers = x, key, multipliers
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

    def is_bottomless(self, x: Vector, fun: float, violation: float) -> bool:
        """Whether the objective has fallen beyond every bound, where the constraints hold for numbers of x's size."""
        return fun < self.lowest and violation <= self.tol * max(1.0, float(np.abs(x).max()))

    def interrupted(self) -> Ending:
        """The best point so far, with its multipliers."""
        return Ending(self.best, self.multipliers(), Status.INTERRUPTED)

    def _no_multipliers(self) -> list[Tensor]:
        return [torch.zeros(value.shape, dtype=torch.float64) for value in self.program.values]
