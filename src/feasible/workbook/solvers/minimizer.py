"""The library's own deterministic solvers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import feasible as fs
from feasible.workbook.solvers.solver import Solution, Solver
from feasible.workbook.tasks.task import Record

__all__ = ["Minimize"]


@final
@dataclass(frozen=True)
class Minimize(Solver):
    """``feasible.minimize``.

    Args:
        method: as there.
        tol: as there.
    """

    method: str = "auto"
    tol: float = 1e-8

    def solve(self, record: Record, evaluations: int) -> Solution:
        """Its status is the name of the enum's member."""
        task = record.task
        constraints = [
            one.set if one.function is None else (one.function, one.set) for one in task.requirements
        ]
        result = fs.minimize(
            record.objective,
            task.start,
            constraints,
            method=self.method,
            tol=self.tol,
            max_iterations=evaluations,
        )
        return Solution(result.x, result.status.name.replace("_", " ").lower())
