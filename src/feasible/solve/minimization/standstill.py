"""When steps no longer bring anything: at kinks, and where rounding rules."""

from __future__ import annotations

import numpy as np

from feasible.solve.minimization.unknowns import Vector

SHORT = 1e-7
"""Steps of less than this, over the size of x, are short."""


class Standstill:
    """Counts short steps after which the residual is no smaller than it has been; ``patience`` of them are enough."""

    def __init__(self, patience: int) -> None:
        self.patience, self.least, self.idle = patience, np.inf, 0

    def watch(self, before: Vector, after: Vector, residual: float) -> None:
        """Take note of a step, and of the residual before it."""
        reach = SHORT * max(1.0, float(np.abs(after).max()))
        if residual < 0.9 * self.least or float(np.abs(after - before).max()) > reach:
            self.idle = 0
        else:
            self.idle += 1
        self.least = min(self.least, residual)

    @property
    def is_reached(self) -> bool:
        """Whether to stop."""
        return self.idle >= self.patience
