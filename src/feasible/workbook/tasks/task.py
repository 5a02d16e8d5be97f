"""A problem to minimise, and a record of how a solver went about it."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from feasible.sets import Set

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Requirement:
    """``function(x)`` must be in the set; x itself where there is no function."""

    name: str
    set: Set
    function: Function | None = None

    def violation(self, x: Tensor) -> float:
        """The largest distance to the set; 0 where the set itself calls it a member."""
        value = x if self.function is None else self.function(x)
        bound = self.set.bind(value)
        distance = torch.where(bound.contains(value), 0.0, bound.distance(value))
        return float(distance.max())


@dataclass(frozen=True)
class Task:
    """Minimise ``objective(x)`` subject to the requirements, from a start in float64."""

    objective: Function
    start: Tensor
    requirements: Sequence[Requirement] = ()
    optimum: float | None = None
    """The least objective, by means that have nothing to do with the solvers; ``None``: unknown."""

    def violation(self, x: Tensor) -> float:
        """The worst of all requirements."""
        return max((requirement.violation(x) for requirement in self.requirements), default=0.0)


@dataclass(frozen=True)
class TaskDefinition(ABC):
    """What ``[problem]`` names, with its size; a seed makes it a task.

    Raises:
        ValueError: the size is not positive.
    """

    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size!r}.")

    @abstractmethod
    def make(self, seed: int) -> Task:
        """The task that belongs to this seed."""


@dataclass
class Record:
    """Counts a task's evaluations, and keeps some of the points: ever rarer ones, so that memory stays small."""

    task: Task
    points: list[tuple[int, float, Tensor]] = field(default_factory=list)
    evaluations: int = 0
    _started: float = field(default_factory=time.process_time)

    def objective(self, x: Tensor) -> Tensor:
        """The task's objective, counted."""
        self.evaluations += 1
        if is_kept(self.evaluations):
            self.points.append((self.evaluations, self.seconds, x.detach().clone()))
        return self.task.objective(x)

    @property
    def seconds(self) -> float:
        """Processor time since the start."""
        return time.process_time() - self._started

    def history(self) -> Iterator[dict[str, float]]:
        """Objective and violation at the points that were kept."""
        return (self.row(number, seconds, x) for number, seconds, x in self.points)

    @torch.no_grad()
    def row(self, number: int, seconds: float, x: Tensor) -> dict[str, float]:
        """Objective and violation at a point that was reached after so many evaluations."""
        loss = float(self.task.objective(x))
        return {
            "epoch": float(number),
            "seconds": seconds,
            "train_loss": loss,
            "test_metric": loss,
            "worst_violation": self.task.violation(x),
        }


def is_kept(number: int) -> bool:
    """The first twenty evaluations, then about ten in every power of ten.

    >>> [number for number in range(1, 101) if is_kept(number)][18:]
    [19, 20, 26, 32, 40, 51, 64, 80, 100]
    """
    return number <= 20 or math.floor(10 * math.log10(number)) > math.floor(10 * math.log10(number - 1))
