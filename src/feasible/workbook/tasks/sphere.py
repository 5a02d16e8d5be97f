"""The largest eigenvalue as a minimum on the sphere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from feasible.sets import Sphere
from feasible.workbook.tasks.task import Requirement, Task, TaskDefinition

__all__ = ["LargestEigenvalue"]


@final
@dataclass(frozen=True)
class LargestEigenvalue(TaskDefinition):
    """``min −xᵀA x`` subject to ``‖x‖ = 1``: minus the largest eigenvalue of a random symmetric matrix.

    Args:
        size: the number of entries of x.
    """

    size: int = 300

    def make(self, seed: int) -> Task:
        """``A = (G + Gᵀ)/2`` with normal G."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(self.size, self.size, dtype=torch.float64, generator=generator)
        matrix = (noise + noise.T) / 2
        start = torch.randn(self.size, dtype=torch.float64, generator=generator)
        return Task(
            lambda x: -(x @ (matrix @ x)),
            start / start.norm(),
            [Requirement("unit_length", Sphere())],
            -float(torch.linalg.eigvalsh(matrix)[-1]),
        )
