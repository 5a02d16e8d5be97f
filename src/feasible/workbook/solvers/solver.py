"""What every solver is: a frozen specification that takes a recorded task to its end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from feasible.workbook.tasks.task import Record


@dataclass(frozen=True)
class Solution:
    """Where a solver ended, and what it says of it."""

    x: Tensor
    status: str
    """In the solver's own words."""


@dataclass(frozen=True)
class Solver(ABC):
    """A way to solve a task within a number of evaluations."""

    @abstractmethod
    def solve(self, record: Record, evaluations: int) -> Solution:
        """Evaluate ``record.objective``, which counts, and end with a point."""
