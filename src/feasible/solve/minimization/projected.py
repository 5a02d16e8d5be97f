"""Sets on x alone: projected L-BFGS under bounds, spectral projected gradients in other convex sets."""

from __future__ import annotations

from collections import deque
from functools import partial

import numpy as np
import torch
from torch import Tensor

from feasible.solve.minimization.bounded import Oracle, Spot, minimize_bounded
from feasible.solve.minimization.monitor import Ending, Monitor
from feasible.solve.minimization.program import Point, Program, Requirement
from feasible.solve.minimization.result import Status, gradient_unit
from feasible.solve.minimization.unknowns import Vector

HISTORY = 10
"""Values among which a step has to beat the largest."""
ARMIJO = 1e-4
SHORTEST = 1e-14


class Projected:
    """``minimise f`` over sets that x, or each of its tensors, is in.

    Source: Bertsekas (1982) for bounds; Birgin, Martínez & Raydan, *Nonmonotone spectral projected gradient methods on
    convex sets* (2000) for other sets.
    """

    def __init__(self, program: Program, tol: float, memory: int, monitor: Monitor) -> None:
        self.program, self.tol, self.memory, self.monitor = program, tol, memory, monitor
        self.curved: list[Requirement] = [item for item in program.requirements if item.bounds is None]

    def run(self, start: Vector, iterations: int) -> Ending:
        """Go down until the projected gradient vanishes."""
        self.size, self.status = 1.0, Status.ITERATION_LIMIT
        spot = self._spot(self._project(start))
        if self.curved:
            spot = self._spectral(spot, iterations)
        else:
            oracle = Oracle(self._value, self._gradient)
            program = self.program
            # One more look than there are steps, so that the last point is judged, too.
            self.left = iterations
            spot, finished = minimize_bounded(
                oracle, spot, program.lower, program.upper, self._finished, iterations + 2, self.memory
            )
            if not finished:
                self.status = Status.NUMERICAL_TROUBLE
        return Ending(spot.x, self._multipliers(spot), self.status)

    def _finished(self, spot: Spot, stationarity: float) -> bool:
        self.size = gradient_unit(float(np.abs(spot.gradient).max()))
        known = partial(self._multipliers, spot)
        if not self.monitor.report(spot.x, spot.value, 0.0, stationarity / self.size, known):
            self.status = Status.INTERRUPTED
        elif stationarity <= self.tol * self.size:
            self.status = Status.CONVERGED
        elif self.monitor.is_bottomless(spot.x, spot.value, 0.0):
            self.status = Status.UNBOUNDED
        elif self.left <= 0:
            self.status = Status.ITERATION_LIMIT
        else:
            self.left -= 1
            return False
        return True

    # -- evaluation --------------------------------------------------------------------------------

    def _value(self, x: Vector) -> float:
        self.point: Point = self.program.evaluate_objective(x)
        return self.point.fun if self.point.is_finite else np.inf

    def _gradient(self) -> Vector:
        return self.program.differentiate(self.point).gradient

    def _spot(self, x: Vector) -> Spot:
        value = self._value(x)
        return Spot(x, value, self._gradient())

    def _project(self, x: Vector) -> Vector:
        projected = np.clip(x, self.program.lower, self.program.upper)
        for requirement in self.curved:
            part = self.program.unknowns.precise(projected, requirement.place)
            at = self.program.unknowns.slices[requirement.place]
            projected[at] = requirement.set.project(part).reshape(-1).numpy()
        return projected

    # -- other convex sets -------------------------------------------------------------------------

    def _spectral(self, spot: Spot, iterations: int) -> Spot:
        self.left = iterations
        recent: deque[float] = deque([spot.value], maxlen=HISTORY)
        length = 1.0 / max(float(np.abs(self._project(spot.x - spot.gradient) - spot.x).max()), 1e-12)
        while True:
            gap = self._project(spot.x - spot.gradient) - spot.x
            if self._finished(spot, float(np.abs(gap).max())):
                return spot
            move = self._project(spot.x - length * spot.gradient) - spot.x
            following = self._searched(spot, move, max(recent))
            if following is None:
                self.status = Status.NUMERICAL_TROUBLE
                return spot
            step, change = following.x - spot.x, following.gradient - spot.gradient
            curved = float(step @ change)
            length = float(np.clip(step @ step / curved, 1e-10, 1e10)) if curved > 0 else 1e10**0.5
            spot = following
            recent.append(spot.value)

    def _searched(self, spot: Spot, move: Vector, reference: float) -> Spot | None:
        slope = float(spot.gradient @ move)
        noise = 10 * np.finfo(float).eps * abs(spot.value)
        share = 1.0
        while share > SHORTEST and slope < 0:
            x = spot.x + share * move
            value = self._value(x)
            if value <= reference + ARMIJO * share * slope + noise:
                return Spot(x, value, self._gradient())
            share *= 0.5
        return None

    def _multipliers(self, spot: Spot) -> list[Tensor]:
        """``λ = −∇f`` on each tensor that has a set; at bounds where it points outwards."""
        at_bound = (spot.x <= self.program.lower) | (spot.x >= self.program.upper)
        left = np.where(at_bound, -spot.gradient, 0.0)
        found = []
        for requirement in self.program.requirements:
            if requirement.bounds is not None:
                found.append(self.program.share(requirement, left))
            else:
                found.append(
                    torch.as_tensor(-self.program.unknowns.precise(spot.gradient, requirement.place))
                )
        return found
