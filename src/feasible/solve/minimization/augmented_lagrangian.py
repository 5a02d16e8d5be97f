"""The augmented Lagrangian: any set that can project, and as many constraints as one likes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from feasible.solve.minimization.bounded import Oracle, Spot, minimize_bounded, projected_gradient
from feasible.solve.minimization.monitor import Ending, Monitor
from feasible.solve.minimization.program import Program
from feasible.solve.minimization.result import Status
from feasible.solve.minimization.unknowns import Vector

FIRST, WITHIN, LARGEST = 10.0, (1e-2, 1e2), 1e12
"""First penalty, in units of the objective over the squared violation, its range, and the last one."""
STUCK = 2
"""Rounds in a row that rounding ends, at points that satisfy the constraints, before giving up."""
GROWTH, PROGRESS = 10.0, 0.5
"""The penalty grows where a round has not brought the violation down to this share."""
OUTER = 60
WORTH = 100.0
"""Violations may be worth this many tolerances of the objective."""
FAR, LOWEST = 1e3, 1e25
"""Where a violation grows by this factor, or the value falls below −this, the penalty is too small."""
INNER = 1000


class AugmentedLagrangian:
    """``L_ρ(v, λ) = ρ/2 ‖v + λ/ρ − P(v + λ/ρ)‖² − ‖λ‖²/(2ρ)`` for each constraint value v, over the bounds on x.

    The value of the sum is searched by projected L-BFGS; its gradient is that of ``f + ⟨λ⁺, v⟩`` with
    ``λ⁺ = ρ (v + λ/ρ − P(v + λ/ρ))``: one forward and one backward, however many constraints there are.

    Source: Birgin & Martínez, *Practical Augmented Lagrangian Methods* (2014).
    """

    def __init__(self, program: Program, tol: float, memory: int, monitor: Monitor) -> None:
        self.program, self.tol, self.memory, self.monitor = program, tol, memory, monitor
        self.soft = [index for index, item in enumerate(program.requirements) if item.bounds is None]
        self.interrupted = False

    def run(self, start: Vector, iterations: int) -> Ending:
        """Rounds of minimising, then moving the multipliers."""
        program = self.program
        self.left = iterations
        self.fun, self.gradient_size, self.escaped = 0.0, 1.0, False
        values = program.values_at(start)
        self.multipliers = [torch.zeros_like(self._precise(values[index])) for index in self.soft]
        self.penalties = self._first_penalties(start)
        oracle = Oracle(self._value, self._gradient)
        spot = self._spot(start)
        worst, accuracy = np.full(len(self.soft), np.inf), 0.1
        status, stuck = Status.ITERATION_LIMIT, 0
        for _ in range(OUTER):
            accuracy = max(accuracy * 0.1, 0.5 * self.tol)
            before = spot
            spot, finished = self._minimise(oracle, spot, accuracy)
            if self.is_bottomless:
                status = Status.UNBOUNDED
                break
            if self.escaped:
                if (self.penalties >= LARGEST).all():
                    status = Status.UNBOUNDED
                    break
                self.penalties = np.minimum(self.penalties * GROWTH, LARGEST)
                spot = self._spot(before.x)
                continue
            gaps = self._advance(spot.x)
            if self.interrupted:
                status = Status.INTERRUPTED
                break
            stationarity = self._stationarity(spot) / self.gradient_size
            is_close = (gaps <= self.tol).all() and self._is_worth_little(gaps)
            if is_close and stationarity <= self.tol:
                status = Status.CONVERGED
                break
            if self.left <= 0:
                break
            stuck = 0 if finished or not is_close else stuck + 1
            if stuck >= STUCK:
                status = Status.NUMERICAL_TROUBLE
                break
            slow = gaps > np.maximum(PROGRESS * worst, self.tol if is_close else 0.0)
            if (gaps > self.tol).any() and (self.penalties >= LARGEST).any():
                status = Status.INFEASIBLE
                break
            self.penalties = np.where(slow, np.minimum(self.penalties * GROWTH, LARGEST), self.penalties)
            worst = gaps
            spot = self._spot(spot.x)
        else:
            status = Status.NUMERICAL_TROUBLE
        return Ending(spot.x, self._all_multipliers(spot, self.multipliers), status)

    # -- the function that is minimised ------------------------------------------------------------

    def _value(self, x: Vector) -> float:
        program = self.program
        leaves = program.unknowns.leaves(x)
        with torch.enable_grad():
            objective = program.objective_at(leaves)
            values = program.values_of(leaves)
        self.fun = objective.item()
        total, pulls = self.fun, []
        for place, index in enumerate(self.soft):
            height, pull = self._term(place, values[index])
            total += height
            pulls.append(pull)
        self.graph: tuple[Any, ...] = (leaves, objective, [values[index] for index in self.soft], pulls)
        self.next_multipliers = pulls
        return total if np.isfinite(total) else np.inf

    def _term(self, place: int, value: Tensor) -> tuple[float, Tensor]:
        """``L_ρ`` and ``λ⁺`` of one constraint."""
        penalty, multiplier = float(self.penalties[place]), self.multipliers[place]
        shifted = self._precise(value) + multiplier / penalty
        pull = penalty * self.program.requirements[self.soft[place]].set.residual(shifted)
        return float((pull * pull).sum() - (multiplier * multiplier).sum()) / (2 * penalty), pull

    def _gradient(self) -> Vector:
        leaves, objective, values, pulls = self.graph
        self.program.differentiations += 1
        outputs, weights = [], []
        for output, weight in [
            (objective, torch.ones((), dtype=objective.dtype)),
            *zip(values, pulls, strict=True),
        ]:
            if output.requires_grad:
                outputs.append(output)
                weights.append(weight.to(output.device, output.dtype))
        parts = torch.autograd.grad(outputs, leaves, weights, allow_unused=True, materialize_grads=True)
        return self.program.unknowns.flat(parts)

    def _spot(self, x: Vector) -> Spot:
        value = self._value(x)
        return Spot(x, value, self._gradient())

    @staticmethod
    def _precise(value: Tensor) -> Tensor:
        return value.detach().to("cpu", torch.float64)

    # -- rounds ------------------------------------------------------------------------------------

    def _first_penalties(self, start: Vector) -> Vector:
        """``10 max(1, |f|) / max(1, ½ dist²)`` for each constraint, within reason."""
        self.penalties = np.ones(len(self.soft))
        self._value(start)
        distances = np.array([float((pull * pull).sum()) / 2 for pull in self.next_multipliers])
        penalties: Vector = np.clip(FIRST * max(1.0, abs(self.fun)) / np.maximum(1.0, distances), *WITHIN)
        return penalties

    def _minimise(self, oracle: Oracle, spot: Spot, accuracy: float) -> tuple[Spot, bool]:
        self.gradient_size = max(
            1.0, *(float(m.abs().max()) if m.numel() else 0.0 for m in self.multipliers), 1.0
        )

        far = FAR * (1.0 + self._distance(spot.x))
        self.escaped = self.is_bottomless = False

        def finished(at: Spot, stationarity: float) -> bool:
            worst = self._distance(at.x)
            known = partial(self._all_multipliers, at, self.next_multipliers)
            going = self.monitor.report(at.x, self.fun, worst, stationarity / self.gradient_size, known)
            self.left -= 1
            self.interrupted = not going
            self.escaped = worst > far or at.value < -LOWEST
            self.is_bottomless = self.monitor.is_bottomless(at.x, self.fun, worst)
            has_left = self.escaped or self.is_bottomless
            return not going or has_left or self.left <= 0 or stationarity <= accuracy * self.gradient_size

        return minimize_bounded(
            oracle, spot, self.program.lower, self.program.upper, finished, INNER, self.memory
        )

    def _distance(self, x: Vector) -> float:
        """Largest distance of the values that were computed last."""
        _, _, values, _ = self.graph
        distances = [
            self.program.requirements[index].set.distance(self._precise(value))
            for index, value in zip(self.soft, values, strict=True)
        ]
        return max((float(distance.max()) for distance in distances if distance.numel()), default=0.0)

    def _advance(self, x: Vector) -> Vector:
        """Move the multipliers; how far values and complementarity are off, one number a constraint."""
        self._value(x)
        gaps = []
        for place, pull in enumerate(self.next_multipliers):
            change = (pull - self.multipliers[place]) / float(self.penalties[place])
            gaps.append(float(change.abs().max()) if change.numel() else 0.0)
        self.multipliers = self.next_multipliers
        return np.array(gaps)

    def _is_worth_little(self, gaps: Vector) -> bool:
        """Whether what is left of the violations, times their multipliers, does not change the objective either."""
        largest = [float(each.abs().max()) if each.numel() else 0.0 for each in self.multipliers]
        worth = float((gaps * np.array(largest)).max(initial=0.0))
        return worth <= WORTH * self.tol * max(1.0, abs(self.fun))

    def _stationarity(self, spot: Spot) -> float:
        return float(np.abs(projected_gradient(spot, self.program.lower, self.program.upper)).max())

    def _all_multipliers(self, spot: Spot, multipliers: list[Tensor]) -> list[Tensor]:
        """Those of the soft constraints, and of the bounds what is left of the gradient."""
        at_bound = (spot.x <= self.program.lower) | (spot.x >= self.program.upper)
        left = np.where(at_bound, -spot.gradient, 0.0)
        found = dict(zip(self.soft, multipliers, strict=True))
        return [
            found[index] if index in found else self.program.share(requirement, left)
            for index, requirement in enumerate(self.program.requirements)
        ]
