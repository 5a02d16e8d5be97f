"""Sequential quadratic programming with a BFGS matrix of the Lagrangian, for smooth problems."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from feasible.solve.minimization.curvature import Curvature, Matrix, combined, curvature
from feasible.solve.minimization.monitor import Ending, Monitor
from feasible.solve.minimization.multipliers import shaped_multipliers
from feasible.solve.minimization.program import Point, Program
from feasible.solve.minimization.quadratic import Quadratic, Step
from feasible.solve.minimization.result import Status, gradient_unit
from feasible.solve.minimization.standstill import Standstill
from feasible.solve.minimization.unknowns import Vector

STEEP = 100.0
"""Gradients larger than this at the start are scaled down to it."""
LIMIT, LARGEST = 1e4, 1e9
"""First and last bound on the multipliers, in units of the gradient's size."""
ARMIJO = 1e-4
SHORTEST = 1e-12
IDLE = 8
PATIENCE = 3
"""Fresh starts of the curvature after failed line searches before giving up."""


@dataclass
class _Here:
    """A point with what the method needs there, scaled."""

    point: Point
    fun: float
    rows: Vector
    gradient: Vector
    jacobian: Matrix


class SQP:
    """``minimise f`` under rows and bounds.

    Each step solves ``min gᵀd + ½ dᵀBd`` subject to the linearised rows, searches the ℓ1 merit function along d with
    one second-order correction, and teaches B by a damped BFGS update; derivatives are computed only where a trial
    point has passed.

    Source: Nocedal & Wright, *Numerical Optimization* (2006), chapter 18; Powell (1978); Fletcher (1982).
    """

    def __init__(self, program: Program, tol: float, memory: int, monitor: Monitor) -> None:
        self.program, self.tol, self.monitor = program, tol, monitor
        self.lower, self.upper = program.lower, program.upper
        self.bounded = np.flatnonzero(np.isfinite(self.lower) | np.isfinite(self.upper))
        self.inverse: Curvature = curvature(program.unknowns.count, memory, program.derivatives.dtype)
        self.sides = np.zeros(len(program.low) + len(self.bounded), dtype=np.int8)
        self.limit = LIMIT
        self.failures = 0
        self.standstill = Standstill(IDLE)

    def run(self, start: Vector, iterations: int) -> Ending:
        """Iterate from ``start``, which obeys the bounds."""
        point = self.program.differentiate(self.program.evaluate(start))
        self._scale(point)
        self.weights = np.zeros(len(self.program.low))
        here = self._here(point)
        status = Status.ITERATION_LIMIT
        step = self._step(here)
        for iteration in range(iterations + 1):
            stationarity = self._stationarity(here, step)
            violation = self._violation(here.rows)
            worst = self._worst(here.point)
            known = partial(self._multipliers, here.point.x, step)
            if not self.monitor.report(here.point.x, here.point.fun, worst, stationarity, known):
                status = Status.INTERRUPTED
                break
            if stationarity <= self.tol and worst <= self.tol and self._complements(here, step):
                status = Status.CONVERGED
                break
            if self.monitor.is_bottomless(here.point.x, here.point.fun, worst):
                status = Status.UNBOUNDED
                break
            if self.standstill.is_reached:
                status = Status.NUMERICAL_TROUBLE
                break
            if iteration == iterations:
                break
            found = self._search(here, step, violation)
            if found is None:
                self.failures += 1
                if self.failures > PATIENCE:
                    status = Status.NUMERICAL_TROUBLE
                    break
                self.inverse.reset(1.0)
                step = self._step(here)
                continue
            trial, image = found
            new = self._here(trial)
            self.standstill.watch(here.point.x, new.point.x, max(stationarity, worst))
            self._learn(here, new, step, image)
            here = new
            step = self._step(here)
        return Ending(here.point.x, self._multipliers(here.point.x, step), status)

    def _multipliers(self, x: Vector, step: Step) -> list[Tensor]:
        rows, pull = step.multipliers * self.row_scale / self.scale, step.pull / self.scale
        return shaped_multipliers(self.program, x, rows, pull)

    # -- scaling -----------------------------------------------------------------------------------

    def _scale(self, point: Point) -> None:
        """Objective and rows with gradients of moderate size at the start."""

        def factor(size: NDArray[np.float64]) -> NDArray[np.float64]:
            return STEEP / np.maximum(size, STEEP)

        self.scale = float(factor(np.abs(point.gradient).max(keepdims=True))[0])
        largest = np.abs(point.jacobian).max(1) if len(point.jacobian) else np.empty(0)
        self.row_scale = factor(largest)
        self.is_plain = bool((self.row_scale == 1.0).all())
        self.low, self.high = self.program.low * self.row_scale, self.program.high * self.row_scale

    def _here(self, point: Point) -> _Here:
        return _Here(
            point,
            self.scale * point.fun,
            self.row_scale * point.rows,
            self.scale * point.gradient,
            point.jacobian
            if self.is_plain
            else point.jacobian * self.row_scale.astype(point.jacobian.dtype)[:, None],
        )

    def _violation(self, rows: Vector) -> Vector:
        excess: Vector = np.maximum(np.maximum(rows - self.high, self.low - rows), 0.0)
        return excess

    def _worst(self, point: Point) -> float:
        excess = np.maximum(point.rows - self.program.high, self.program.low - point.rows)
        return max(float(excess.max(initial=0.0)), 0.0)

    # -- the quadratic program ---------------------------------------------------------------------

    def _step(self, here: _Here) -> Step:
        """The solution of the quadratic program; the bound on the multipliers grows while that helps the rows."""
        while True:
            size = max(1.0, float(np.abs(here.gradient).max()))
            self.quadratic = Quadratic(
                self.inverse, here.gradient, here.jacobian, self.limit * size, self.bounded
            )
            step = self._solved(here, here.rows)
            if not step.is_elastic or self.limit >= LARGEST:
                return step
            self.limit *= 100

    def _solved(self, here: _Here, rows: Vector) -> Step:
        x = here.point.x
        low = np.concatenate([self.low - rows, (self.lower - x)[self.bounded]])
        high = np.concatenate([self.high - rows, (self.upper - x)[self.bounded]])
        return self.quadratic.solve(low, high, self.sides)

    def _stationarity(self, here: _Here, step: Step) -> float:
        size = gradient_unit(
            float(np.abs(here.point.gradient).max()), float(np.abs(step.pull).max()) / self.scale
        )
        return float(np.abs(step.image).max()) / self.scale / size

    def _complements(self, here: _Here, step: Step) -> bool:
        """Whether rows and bounds with a multiplier are active."""
        multipliers, x = step.multipliers, here.point.x
        room = np.where(multipliers > 0, self.high - here.rows, here.rows - self.low)
        room = np.where(multipliers == 0, 0.0, np.abs(room))
        gap = np.where(step.pull > 0, self.upper - x, x - self.lower)
        gap = np.where(step.pull == 0, 0.0, np.abs(gap))
        allowed = self.tol * max(1.0, float(np.abs(x).max()))
        return bool((room <= self.tol).all() and (gap <= allowed).all())

    # -- line search -------------------------------------------------------------------------------

    def _search(self, here: _Here, step: Step, violation: Vector) -> tuple[Point, Vector] | None:
        """A point that lowers the merit function enough, and what the curvature expected of the gradient there."""
        self._weigh(step)
        linear = self._violation(here.rows + step.heights)
        slope = float(here.gradient @ step.move - self.weights @ (violation - linear))
        if not slope < 0:
            return None
        merit = here.fun + float(self.weights @ violation)
        noise = 10 * np.finfo(float).eps * max(abs(merit), abs(here.fun))
        length = 1.0
        while length > SHORTEST:
            trial = self._trial(here, step.move, length)
            reached = self._merit(trial)
            if reached <= merit + ARMIJO * length * slope + noise:
                if self.program.differentiate(trial).has_derivatives:
                    return trial, length * step.image
                length *= 0.5
                continue
            if length == 1.0 and trial.is_finite:
                corrected = self._corrected(here, step, trial)
                passes = corrected is not None and self._merit(corrected[0]) <= merit + ARMIJO * slope
                if (
                    corrected is not None
                    and passes
                    and self.program.differentiate(corrected[0]).has_derivatives
                ):
                    return corrected
            length *= _shortened(merit, slope * length, reached)
        return None

    def _weigh(self, step: Step) -> None:
        size = np.abs(step.multipliers)
        self.weights = np.maximum(size, (self.weights + size) / 2)

    def _trial(self, here: _Here, move: Vector, length: float) -> Point:
        x = np.clip(here.point.x + length * move, self.lower, self.upper)
        return self.program.evaluate(x)

    def _merit(self, point: Point) -> float:
        if not point.is_finite:
            return np.inf
        return self.scale * point.fun + float(self.weights @ self._violation(self.row_scale * point.rows))

    def _corrected(self, here: _Here, step: Step, trial: Point) -> tuple[Point, Vector] | None:
        """The second-order correction: rows as they were found at the full step, extrapolated back."""
        if not len(self.low):
            return None
        sides = self.sides.copy()
        rows = self.row_scale * trial.rows - step.heights
        corrected = self._solved(here, rows)
        self.sides = sides
        if np.linalg.norm(corrected.move - step.move) > np.linalg.norm(step.move):
            return None
        return self._trial(here, corrected.move, 1.0), corrected.image

    def _learn(self, here: _Here, new: _Here, step: Step, image: Vector) -> None:
        moved = new.point.x - here.point.x
        change = new.gradient + combined(step.multipliers, new.jacobian) + step.image + step.pull
        self.inverse.update(moved, change, image)


def _shortened(merit: float, slope: float, reached: float) -> float:
    """The factor for the next length: the minimum of a parabola, between 0.1 and 0.5."""
    if not np.isfinite(reached):
        return 0.1
    return float(np.clip(-slope / (2 * (reached - merit - slope)), 0.1, 0.5))
