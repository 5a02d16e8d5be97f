"""A regression whose coefficients are not negative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from feasible.sets import NonNegative
from feasible.workbook.tasks.task import Requirement, Task, TaskDefinition

__all__ = ["NonNegativeLeastSquares"]


@final
@dataclass(frozen=True)
class NonNegativeLeastSquares(TaskDefinition):
    """``min ½‖Ax − b‖²`` subject to ``x ≥ 0``; half of the entries of the solution are 0.

    Args:
        size: the number of entries of x.
        rows: of A; twice as many as columns where it is left out.
    """

    size: int = 500
    rows: int = 0

    def make(self, seed: int) -> Task:
        """Normal A, and b from coefficients of both signs with some noise."""
        import scipy.optimize

        generator = torch.Generator().manual_seed(seed)
        rows = self.rows or 2 * self.size
        matrix = torch.randn(rows, self.size, dtype=torch.float64, generator=generator)
        truth = torch.randn(self.size, dtype=torch.float64, generator=generator)
        noise = torch.randn(rows, dtype=torch.float64, generator=generator)
        wanted = matrix @ truth + noise
        _, residual = scipy.optimize.nnls(matrix.numpy(), wanted.numpy(), maxiter=30 * self.size)
        return Task(
            lambda x: (matrix @ x - wanted).square().sum() / 2,
            torch.ones(self.size, dtype=torch.float64),
            [Requirement("non_negative", NonNegative())],
            residual**2 / 2,
        )
