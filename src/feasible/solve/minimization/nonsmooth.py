"""Objectives and constraints with kinks: BFGS on an exact penalty, with a search for weak Wolfe points."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from feasible.solve.minimization.curvature import Matrix, curvature
from feasible.solve.minimization.monitor import Ending, Monitor
from feasible.solve.minimization.multipliers import shaped_multipliers
from feasible.solve.minimization.program import Point, Program
from feasible.solve.minimization.quadratic import Quadratic, Step
from feasible.solve.minimization.result import Status, gradient_unit
from feasible.solve.minimization.unknowns import Vector

ARMIJO, WOLFE = 1e-4, 0.5
BISECTIONS, DOUBLINGS = 40, 25
"""After so many doublings a step is stretched by 10, to see whether there is an end."""
NEAR = 1e-6
"""Gradients within this distance of x, over its size, are taken to be those of its own kink."""
STEERING = 0.9
"""A step has to bring at least this share of the violation that a step for the rows alone brings."""
SMALLEST = 1e-8
"""μ is not made smaller than this."""
WIDEST = 1e3
"""Radius of the first samples of gradients, over ``NEAR``."""
IDLE = 5
"""After so many steps within ``NEAR`` it is worth asking whether a combination vanishes."""
SAMPLES = 100


@dataclass
class _Here:
    point: Point
    excess: Vector
    """Signed: how far each row is above (or, negative, below) its range."""


class Nonsmooth:
    """``minimise φ = μ f + Σ violations`` over the bounds, with μ lowered until the rows hold.

    Directions solve the quadratic program of the linearised rows with the BFGS matrix of φ, and the line search ends at
    points where φ has gone down enough and is less steep than before, which keeps the matrix positive definite at
    kinks (weak Wolfe). It ends where a combination of the gradients next to x vanishes.

    Source: Lewis & Overton, *Nonsmooth optimization via quasi-Newton methods*, Math. Program. 141 (2013); Curtis,
    Mitchell & Overton, *A BFGS-SQP method for nonsmooth, nonconvex, constrained optimization*, OMS 32 (2017).
    """

    def __init__(self, program: Program, tol: float, memory: int, monitor: Monitor) -> None:
        self.program, self.tol, self.monitor = program, tol, monitor
        self.lower, self.upper = program.lower, program.upper
        self.low, self.high = program.low, program.high
        self.bounded = np.flatnonzero(np.isfinite(self.lower) | np.isfinite(self.upper))
        self.inverse = curvature(program.unknowns.count, memory, program.derivatives.dtype)
        self.share = 1.0
        """μ."""
        self.idle = 0
        self.widened = WIDEST
        self.generator = np.random.default_rng(0)
        self.recent: deque[Point] = deque(maxlen=max(20, 20 + 5 * min(program.unknowns.count, SAMPLES)))

    def run(self, start: Vector, iterations: int) -> Ending:
        """Iterate from ``start``, which obeys the bounds."""
        here = self._here(self.program.differentiate(self.program.evaluate(start)))
        status = Status.ITERATION_LIMIT
        for iteration in range(iterations + 1):
            step = self._steered(here)
            worst = float(np.abs(here.excess).max(initial=0.0))
            stationarity = float(np.abs(step.image).max())
            known = partial(self._shaped, here.point.x, step.multipliers / self.share, step.pull / self.share)
            if not self.monitor.report(here.point.x, here.point.fun, worst, stationarity, known):
                status = Status.INTERRUPTED
                break
            if self.monitor.is_bottomless(here.point.x, here.point.fun, worst):
                status = Status.UNBOUNDED
                break
            if self.idle >= IDLE:
                self.idle = 0
                if self._settled(here, worst):
                    status = Status.CONVERGED_NONSMOOTH
                    break
            if iteration == iterations:
                break
            found = self._search(here, step.move)
            if found is None and worst > self.tol and self.share > SMALLEST:
                self.share *= 0.1
                self.inverse.reset(1.0)
                continue
            if found is None:
                found = self._sampled(here)
                self.inverse.reset(1.0)
            if found is None:
                status = (
                    Status.CONVERGED_NONSMOOTH if self._settled(here, worst) else Status.NUMERICAL_TROUBLE
                )
                break
            new = self._here(found)
            is_short = float(np.abs(new.point.x - here.point.x).max()) <= self._reach(new)
            self.idle = self.idle + 1 if is_short else 0
            self._learn(here, new)
            here = new
        _, _, stationarity, _ = self._combined(here, self._reach(here))
        if status is Status.ITERATION_LIMIT and self._settled(here, worst):
            status = Status.CONVERGED_NONSMOOTH
        return Ending(here.point.x, self._multipliers(here), status, stationarity=stationarity)

    def _multipliers(self, here: _Here) -> list[Tensor]:
        rows, pull, _, _ = self._combined(here, self._reach(here))
        return self._shaped(here.point.x, rows, pull)

    def _shaped(self, x: Vector, rows: Vector, pull: Vector) -> list[Tensor]:
        return shaped_multipliers(self.program, x, rows, pull)

    # -- the penalty function ----------------------------------------------------------------------

    def _here(self, point: Point) -> _Here:
        self.recent.append(point)
        return _Here(point, self._excess(point))

    def _excess(self, point: Point) -> Vector:
        above = np.maximum(point.rows - self.high, 0.0)
        below = np.maximum(self.low - point.rows, 0.0)
        signed: Vector = above - below
        return signed

    def _value(self, point: Point) -> float:
        if not point.is_finite:
            return np.inf
        return self.share * point.fun + float(np.abs(self._excess(point)).sum())

    def _slope(self, point: Point) -> Vector:
        """A gradient of φ."""
        signs = np.sign(self._excess(point))
        gradient: Vector = self.share * point.gradient + point.jacobian.T @ signs
        return gradient

    # -- directions --------------------------------------------------------------------------------

    def _steered(self, here: _Here) -> Step:
        """A step that brings the rows closer, with μ as large as that allows."""
        step, left = self._direction(here, self.share)
        violation = float(np.abs(here.excess).sum())
        if violation <= self.tol:
            return step
        _, least = self._direction(here, 0.0)
        while violation - left < STEERING * (violation - least) and self.share > SMALLEST:
            self.share *= 0.5
            step, left = self._direction(here, self.share)
        return step

    def _direction(self, here: _Here, share: float) -> tuple[Step, float]:
        """The step for this μ, and how much violation the linearised rows have left after it."""
        point = here.point
        program = Quadratic(self.inverse, share * point.gradient, point.jacobian, 1.0, self.bounded)
        x = point.x
        low = np.concatenate([self.low - point.rows, (self.lower - x)[self.bounded]])
        high = np.concatenate([self.high - point.rows, (self.upper - x)[self.bounded]])
        sides = np.zeros(len(low), dtype=np.int8)
        step = program.solve(low, high, sides)
        rows = point.rows + step.heights
        left = np.maximum(np.maximum(rows - self.high, self.low - rows), 0.0).sum()
        return step, float(left)

    def _search(self, here: _Here, move: Vector) -> Point | None:
        """A weak Wolfe point along the direction, by bisection and doubling; ``None`` where none is found."""
        start = self._value(here.point)
        slope = float(self._slope(here.point) @ move)
        if not slope < 0:
            return None
        least, most, length, best = 0.0, np.inf, 1.0, None
        longest = 1.0 if len(self.bounded) else np.inf
        for attempt in range(BISECTIONS):
            trial = self.program.evaluate(np.clip(here.point.x + length * move, self.lower, self.upper))
            if not self._value(trial) < start + ARMIJO * length * slope:
                most = length
            else:
                best = self.program.differentiate(trial)
                if float(self._slope(best) @ move) >= WOLFE * slope or length >= longest:
                    return best
                self.recent.append(best)
                least = length
            stretch = 2.0 if attempt < DOUBLINGS else 10.0
            length = stretch * least if not np.isfinite(most) else (least + most) / 2
        return best

    def _learn(self, here: _Here, new: _Here) -> None:
        step = new.point.x - here.point.x
        change = self._slope(new.point) - self._slope(here.point)
        if float(step @ change) > 1e-14 * float(np.linalg.norm(step) * np.linalg.norm(change)):
            self.inverse.update(step, change, change)

    # -- the end -----------------------------------------------------------------------------------

    def _reach(self, here: _Here) -> float:
        return NEAR * max(1.0, float(np.abs(here.point.x).max()))

    def _sampled(self, here: _Here) -> Point | None:
        """A step against the shortest combination of gradients around x, closer and closer; ``None`` where none helps.

        Source: Burke, Lewis & Overton, *A robust gradient sampling algorithm*, SIAM J. Optim. 15 (2005).
        """
        radius = self._reach(here)
        while self.widened > 1.0:
            self._sample(here, radius * self.widened)
            direction = self._combined(here, radius * self.widened)[3]
            found = self._search(here, -direction)
            if found is not None:
                return found
            self.widened /= 10
        self._sample(here, radius)
        self._probe(here, radius)
        return None

    def _sample(self, here: _Here, radius: float) -> None:
        """Look at gradients around x, on the other sides of its kinks."""
        x = here.point.x
        for _ in range(min(2 * len(x), SAMPLES)):
            away = radius * self.generator.uniform(-1, 1, len(x))
            point = self.program.evaluate(np.clip(x + away, self.lower, self.upper))
            if point.is_finite and self.program.differentiate(point).has_derivatives:
                self.recent.append(point)

    def _probe(self, here: _Here, radius: float) -> None:
        """Look where the combination of the gradients known so far promises descent, until it vanishes."""
        x = here.point.x
        for _ in range(min(20 + 2 * len(x), SAMPLES)):
            rest = self._combined(here, radius)[3]
            size = float(np.abs(rest).max())
            if size <= self.tol:
                return
            point = self.program.evaluate(np.clip(x - 0.5 * radius / size * rest, self.lower, self.upper))
            if not point.is_finite or not self.program.differentiate(point).has_derivatives:
                return
            self.recent.append(point)

    def _settled(self, here: _Here, worst: float) -> bool:
        """Whether x is feasible, and a combination of the gradients next to it vanishes."""
        stationarity = self._combined(here, self._reach(here))[2]
        return worst <= max(self.tol, 1e-8) and stationarity <= max(self.tol, 1e-6)

    def _combined(self, here: _Here, reach: float) -> tuple[Vector, Vector, float, Vector]:
        """The combination of gradients within reach of x that is nearest to zero: multipliers of rows and bounds, its
        largest entry over the gradients' size, and itself.
        """
        nnls = _nonnegative_least_squares()
        x, count = here.point.x, self.program.unknowns.count
        near = [point for point in self.recent if float(np.abs(point.x - x).max()) <= reach] or [here.point]
        objective = np.stack([point.gradient for point in near], 1)
        size = gradient_unit(float(np.abs(objective).max()))
        columns: list[Matrix] = [objective / size]
        owners: list[tuple[int, float]] = []
        for row in range(len(self.low)):
            for sign, bound in ((1.0, self.high[row]), (-1.0, self.low[row])):
                if abs(here.point.rows[row] - bound) <= reach:
                    columns.append(sign * np.stack([point.jacobian[row] for point in near], 1))
                    owners += [(row, sign)] * len(near)
        for sign, bounds in ((1.0, self.upper), (-1.0, self.lower)):
            for index in np.flatnonzero(
                np.abs(x - bounds) <= 1e-12 * max(1.0, float(np.abs(x).max()))
            ).tolist():
                unit = np.zeros((count, 1))
                unit[index] = sign
                columns.append(unit)
                owners.append((-1 - index, sign))
        matrix = np.concatenate(columns, 1)
        heavy = 1e3
        total = np.zeros((1, matrix.shape[1]))
        total[0, : len(near)] = heavy
        weights, _ = nnls(
            np.concatenate([matrix, total]), np.append(np.zeros(count), heavy), maxiter=100 * matrix.shape[1]
        )
        share = float(weights[: len(near)].sum())
        if share <= 0:
            return np.zeros(len(self.low)), np.zeros(count), np.inf, np.zeros(count)
        weights = weights / share
        rest = matrix @ weights
        rows, pull = np.zeros(len(self.low)), np.zeros(count)
        for (owner, sign), weight in zip(owners, weights[len(near) :], strict=True):
            if owner >= 0:
                rows[owner] += sign * weight * size
            else:
                pull[-1 - owner] += sign * weight * size
        return rows, pull, float(np.abs(rest).max()), rest


def _nonnegative_least_squares() -> Callable[..., Any]:
    try:
        from scipy.optimize import nnls
    except ImportError:
        raise ImportError('minimize: kinks need scipy: pip install "feasible[solve]"') from None
    found: Callable[..., Any] = nnls
    return found
