"""Whether a point without feasible neighbours in sight is a stationary point of the violation."""

from __future__ import annotations

import numpy as np

from feasible.solve.minimization.curvature import Limited
from feasible.solve.minimization.program import Program
from feasible.solve.minimization.quadratic import Quadratic
from feasible.solve.minimization.unknowns import Vector

REDUCTION = 1e-6
"""Share of the violation that a step has to remove, in the linearised rows, to count."""


def is_stationary_violation(program: Program, x: Vector) -> bool:
    """Whether no step of moderate length brings the linearised rows closer to their ranges.

    It solves ``min ½‖d‖² + Σ violations`` of the rows, scaled to gradients of length 1; where rows violate each other,
    their subgradients cancel.
    """
    point = program.differentiate(program.evaluate(x))
    if not point.is_finite or not point.has_derivatives:
        return False
    rows, jacobian = point.rows, point.jacobian
    size = np.maximum(np.linalg.norm(jacobian, axis=1), 1.0)
    low, high, rows = program.low / size, program.high / size, rows / size
    jacobian = jacobian / size[:, None]
    total = _violation(rows, low, high)
    bounded = np.flatnonzero(np.isfinite(program.lower) | np.isfinite(program.upper))
    count = program.unknowns.count
    search = Quadratic(Limited(count, 1), np.zeros(count), jacobian, 1.0, bounded)
    step = search.solve(
        np.concatenate([low - rows, (program.lower - x)[bounded]]),
        np.concatenate([high - rows, (program.upper - x)[bounded]]),
        np.zeros(len(low) + len(bounded), dtype=np.int8),
    )
    return total - _violation(rows + jacobian @ step.move, low, high) <= REDUCTION * total


def _violation(rows: Vector, low: Vector, high: Vector) -> float:
    return float(np.maximum(np.maximum(rows - high, low - rows), 0.0).sum())
