"""Where the constraints cannot hold together: a point from which no step brings them closer."""

from __future__ import annotations

import numpy as np

from feasible.solve.minimization.curvature import Limited
from feasible.solve.minimization.program import Point, Program
from feasible.solve.minimization.quadratic import Quadratic
from feasible.solve.minimization.unknowns import Vector

REDUCTION = 1e-6
"""Share of the violation that a step has to promise, in the linearised rows, to count."""
ACCEPTED = 0.1
"""Share of the promise that a step has to keep."""
STEPS = 100
SHORTEST = 1e-12


def least_violation(program: Program, x: Vector, tol: float) -> tuple[Vector, bool]:
    """Go down the sum of all violations from x: where that ends, and whether it is stuck there.

    Each step solves ``min ½‖d‖²/t + Σ violations`` of the linearised rows under the bounds; t follows how well the
    linearised rows tell the truth. It is stuck where steps of moderate length promise nothing.

    Source: Fletcher, *Practical Methods of Optimization* (1987), section 14.3.
    """
    point = program.differentiate(program.evaluate(x))
    length = 1.0
    for _ in range(STEPS):
        total = violation(program, point.rows)
        if not point.is_finite or not point.has_derivatives or total <= tol:
            break
        move, promised = _step(program, point, length)
        if promised <= REDUCTION * total:
            return point.x, length >= 1.0 or _step(program, point, 1.0)[1] <= REDUCTION * total
        trial = program.evaluate(np.clip(point.x + move, program.lower, program.upper))
        if trial.is_finite and total - violation(program, trial.rows) >= ACCEPTED * promised:
            point = program.differentiate(trial)
            length *= 4.0
        else:
            length *= 0.25
            if length < SHORTEST:
                break
    return point.x, False


def violation(program: Program, rows: Vector) -> float:
    """The sum of what the rows are outside of their ranges."""
    return float(np.maximum(np.maximum(rows - program.high, program.low - rows), 0.0).sum())


def _step(program: Program, point: Point, length: float) -> tuple[Vector, float]:
    """A step against the violation, and by how much it brings the linearised rows closer."""
    rows, jacobian, x = point.rows, point.jacobian, point.x
    bounded = np.flatnonzero(np.isfinite(program.lower) | np.isfinite(program.upper))
    unit = Limited(len(x), 1, program.derivatives.dtype)
    unit.reset(length)
    search = Quadratic(unit, np.zeros_like(point.gradient), jacobian, 1.0, bounded)
    step = search.solve(
        np.concatenate([program.low - rows, (program.lower - x)[bounded]]),
        np.concatenate([program.high - rows, (program.upper - x)[bounded]]),
        np.zeros(len(rows) + len(bounded), dtype=np.int8),
    )
    return step.move, violation(program, rows) - violation(program, rows + step.heights)
