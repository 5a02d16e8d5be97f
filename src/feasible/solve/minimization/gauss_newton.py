"""Constrained Gauss–Newton: least squares under conditions, by damped steps on an augmented Lagrangian."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from feasible.optim.least_squares import Dense
from feasible.optim.quadratic import Quadratic
from feasible.optim.trials import Trials
from feasible.solve.minimization.monitor import Ending, Monitor
from feasible.solve.minimization.multipliers import shaped_multipliers
from feasible.solve.minimization.program import Program
from feasible.solve.minimization.residual_rows import Here, Linear, Squares
from feasible.solve.minimization.result import Status, gradient_unit
from feasible.solve.minimization.unknowns import Vector

DAMPING = 1e-3
"""First damping, as a share of the largest eigenvalue of ``JᵀJ``."""
TRIALS: dict[str, Any] = {"max_trials": 30, "increase": 2.0, "decrease": 2.0, "acceleration": 0.75}
"""As in ``optim.LevenbergMarquardt``."""
FIRST, RANGE = 10.0, 1e10
"""First penalty, in units of the squared slopes of the residual over those of the rows, and how far it may grow."""
SETTLED = 0.1
"""Multipliers move where the gradient is this share of what they would add to it."""
GROWTH, PROGRESS = 10.0, 0.25
"""A penalty grows where the gaps have not come down to this share since the multipliers moved last."""
WORTH = 100.0
"""Violations may be worth this many tolerances of the objective."""
FADED = 1e-8
"""After a step that lowers the squares by no more than this share, steps are tried that lower the gradient."""
POLISHED, POLISHES = 0.9, 10
"""To what share such a step has to bring it, and how many dampings are tried."""
BACK = 10.0
"""The damping grows by this where a step has led to slopes that are not finite."""
CONFLICT, FLAT = 1e-9, 1e-6
"""Shares of the squared violation that a step has to promise, or the constraints contradict each other: while steps
still descend, and where they do not any more."""
FINEST = 1e-10
"""First damping of such a step, as a share of the largest eigenvalue."""


class GaussNewton:
    """``minimise ½‖r(x)‖²`` under rows and bounds.

    Half the squares of r and of ``√ρ (v + λ/ρ − P(v + λ/ρ))``, for the rows v, are the augmented Lagrangian. Its
    damped Gauss–Newton steps are those of the KKT system ``[JᵀJ + μI, Aᵀ; A, −I/ρ]``, which rows that depend on each
    other do not upset; their second-order correction (geodesic acceleration) follows curved constraints. Once the
    gradient is small next to what new multipliers would add to it, they move: a stabilised SQP.

    Source: Nocedal & Wright, *Numerical Optimization* (2006), sections 10.3 and 17.4; Wright, *Superlinear convergence
    of a stabilized SQP method to a degenerate solution* (1998); Transtrum & Sethna (2012).
    """

    def __init__(self, program: Program, tol: float, memory: int, monitor: Monitor) -> None:
        self.program, self.tol, self.monitor = program, tol, monitor
        self.squares = Squares(program)

    @torch.no_grad()
    def run(self, start: Vector, iterations: int) -> Ending:
        """Damped steps from ``start``, which obeys the bounds, and multipliers that follow."""
        squares = self.squares
        squares.vector.write(torch.from_numpy(start).to(squares.low.device))
        here = squares.linearise()
        self.first = self._first_penalties(here)
        squares.penalties = self.first.clone()
        self.last_gaps = torch.full_like(squares.low, torch.inf)
        self.damping, self.has_faded = 0.0, False
        for iteration in range(iterations + 1):
            linear = squares.at_multipliers(here)
            status = self._judged(here, linear)
            if status is None and iteration == iterations:
                status = Status.ITERATION_LIMIT
            if status is not None:
                return self._ending(here, linear, status)
            is_settled = self._is_settled(here, linear)
            following = None if is_settled else self._step(here, linear)
            if following is None:
                if self._advance(linear) and self._is_stuck(here, CONFLICT):
                    return self._ending(here, linear, Status.INFEASIBLE)
                linear = squares.at_multipliers(here)
                following = self._step(here, linear)
            if following is None:
                status = Status.INFEASIBLE if self._is_stuck(here, FLAT) else Status.NUMERICAL_TROUBLE
                return self._ending(here, linear, status)
            here = following
        raise AssertionError("the last iteration returns")

    def _first_penalties(self, here: Here) -> Tensor:
        """Slopes of the rows that weigh a few times those of the residual, constraint by constraint."""
        penalties = torch.ones_like(self.squares.low)
        size = float(here.slopes.square().sum()) or 1.0
        for item in self.program.requirements:
            penalties[item.span] = FIRST * size / (float(here.jacobian[item.span].square().sum()) or 1.0)
        return penalties

    def _judged(self, here: Here, linear: Linear) -> Status | None:
        """Show the iterate; whether to stop there, and why."""
        slope = here.slopes.mT @ here.residual
        unit = gradient_unit(largest(slope), largest(linear.gradient - slope))
        self.length = self.squares.region.stationarity(here.x, linear.gradient)
        self.violation = largest(here.rows - self.squares.nearest(here.rows))
        known = partial(self._multipliers, here, linear)
        stationarity = self.length / unit
        self.is_stationary = stationarity <= 0.5 * self.tol
        if not self.monitor.report(here.x.cpu().numpy(), here.fun, self.violation, stationarity, known):
            return Status.INTERRUPTED
        worth = self.violation * largest(linear.multipliers)
        if worth > WORTH * self.tol * max(1.0, here.fun):
            return None
        is_met = max(stationarity, self.violation, largest(linear.gaps)) <= self.tol
        return Status.CONVERGED if is_met else None

    # -- multipliers -------------------------------------------------------------------------------

    def _is_settled(self, here: Here, linear: Linear) -> bool:
        """Whether the squares are as small as these multipliers are worth."""
        if self.is_stationary:
            return True
        change = here.jacobian.mT @ (self.squares.penalties * linear.gaps)
        free = self._free(here, linear.gradient)
        return largest(linear.gradient[free]) <= SETTLED * largest(change[free])

    def _free(self, here: Here, gradient: Tensor) -> Tensor:
        """The entries that no bound holds against ``−gradient``."""
        held = self.squares.region.pressed(here.x, gradient, 0.0)
        return torch.ones_like(gradient, dtype=torch.bool) if held is None else ~held

    def _advance(self, linear: Linear) -> bool:
        """Move the multipliers, and let penalties grow; whether some constraint has come no closer."""
        squares, slow = self.squares, False
        squares.multipliers = linear.multipliers
        for item in self.program.requirements:
            at = item.span
            if largest(linear.gaps[at]) > max(PROGRESS * largest(self.last_gaps[at]), self.tol):
                slow = True
                squares.penalties[at] = torch.minimum(GROWTH * squares.penalties[at], RANGE * self.first[at])
        self.last_gaps = linear.gaps
        return slow

    def _is_stuck(self, here: Here, share: float) -> bool:
        """Whether no step of moderate length lowers the squared violation of the linearised rows by this share.

        Source: Fletcher, *Practical Methods of Optimization* (1987), section 14.3.
        """
        squares = self.squares
        if self.violation <= self.tol:
            return False
        miss = here.rows - squares.nearest(here.rows)
        moves = squares.is_equation | (miss != 0)
        miss, system = miss[moves], Dense(here.jacobian[moves])
        free = self._free(here, system.transposed(miss))
        damping = FINEST * (system.size or 1.0)
        step = system.solve(miss, damping, free)
        while largest(step) > max(1.0, largest(here.x)):
            damping *= BACK
            step = system.solve(miss, damping, free)
        image = system.times(step)
        return -float(image @ (miss + 0.5 * image)) <= share * 0.5 * float(miss @ miss)

    # -- steps -------------------------------------------------------------------------------------

    def _step(self, here: Here, linear: Linear) -> Here | None:
        """The next point; ``None`` where no step leads any further."""
        squares = self.squares
        model = Quadratic(squares.region, linear.system, here.x, linear.r, linear.gradient)
        trials = Trials(model, squares, squares.vector, True, TRIALS)
        self.damping = self.damping or DAMPING * (linear.system.size or 1.0)
        first = max(self.damping, linear.system.least_damping)
        there = self._polished(here, model, first) if self.has_faded else None
        if there is not None:
            return there
        self.damping = trials.run(first)
        has_faded, self.has_faded = self.has_faded, trials.fall <= FADED * trials.loss
        if not trials.accepted:
            return None if has_faded else self._polished(here, model, first)
        there = squares.linearise()
        if there.is_finite:
            return there
        self.damping *= BACK
        squares.vector.write(here.x)
        return here

    def _polished(self, here: Here, model: Quadratic, damping: float) -> Here | None:
        """Where a step leads that brings the gradient down; descent is lost in rounding, or says little.

        Directions that decide on nothing are long, and bend: only a larger damping keeps their steps from undoing what
        others have gained.
        """
        squares = self.squares
        for _ in range(POLISHES):
            move = model.suggest(damping).s
            squares.vector.write(squares.region.project(here.x + move))
            there = squares.linearise()
            if there.is_finite:
                gradient = squares.at_multipliers(there).gradient
                if squares.region.stationarity(there.x, gradient) <= POLISHED * self.length:
                    self.damping = damping
                    return there
            damping *= BACK
        squares.vector.write(here.x)
        return None

    # -- the end -----------------------------------------------------------------------------------

    def _multipliers(self, here: Here, linear: Linear) -> list[Tensor]:
        """Those of the rows, and of the bounds what is left of the gradient."""
        x = here.x.cpu().numpy()
        at_bound = (x <= self.program.lower) | (x >= self.program.upper)
        left = np.where(at_bound, -linear.gradient.cpu().numpy(), 0.0)
        return shaped_multipliers(self.program, x, linear.multipliers.cpu().numpy(), left)

    def _ending(self, here: Here, linear: Linear, status: Status) -> Ending:
        note = ""
        if status is Status.INFEASIBLE:
            miss = (here.rows - self.squares.nearest(here.rows)).abs()
            at = int(miss.argmax())
            item = next(item for item in self.program.requirements if item.span.stop > at)
            note = (
                f"Of {item.name} a row stays {float(miss[at]):.2g} away; loosen it, or what it contradicts."
            )
        return Ending(here.x.cpu().numpy(), self._multipliers(here, linear), status, note)


def largest(values: Tensor) -> float:
    """The largest magnitude; 0 of none."""
    return float(values.abs().max()) if values.numel() else 0.0
