"""One atom of a dictionary: a direction in which data are sparse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from feasible.sets import Sphere
from feasible.workbook.tasks.task import Requirement, Task, TaskDefinition

__all__ = ["SparseDirection"]


@final
@dataclass(frozen=True)
class SparseDirection(TaskDefinition):
    """``min ‖Yᵀq‖₁/m`` subject to ``‖q‖ = 1``: not smooth, not convex; coordinate axes are the good minima.

    Args:
        size: the number of entries of q.
        share: of the entries of Y that differ from zero.

    Source: Bai, Jiang & Sun, *Subgradient descent learns orthogonal dictionaries* (ICLR 2019).
    """

    size: int = 30
    share: float = 0.3

    def make(self, seed: int) -> Task:
        """``m = 10 · size²`` samples with normal entries at random places."""
        generator = torch.Generator().manual_seed(seed)
        shape = (self.size, 10 * self.size**2)
        present = torch.rand(shape, dtype=torch.float64, generator=generator) < self.share
        samples = torch.randn(shape, dtype=torch.float64, generator=generator) * present
        start = torch.randn(self.size, dtype=torch.float64, generator=generator)
        return Task(
            lambda q: (q @ samples).abs().mean(),
            start / start.norm(),
            [Requirement("unit_length", Sphere())],
        )
