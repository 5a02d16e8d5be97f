"""What every way is: a frozen specification that takes a network to a solution within a budget."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.problems.problem import Posed


class Solved(NamedTuple):
    """Where a way ended."""

    model: nn.Module
    """The solution; the network that was given, or another one."""
    status: str
    """What the way says of it, in a few words."""


@dataclass(frozen=True)
class Way(ABC):
    """A way to make a network obey."""

    @abstractmethod
    def solve(self, posed: Posed, network: nn.Module, monitor: Monitor, generator: torch.Generator) -> Solved:
        """Change the network (or make another one) until the monitor's budget is used up, or all is done.

        Args:
            posed: the problem, in the network's precision.
            network: as its specification builds it.
            monitor: counts the epochs, and is shown the network.
            generator: of points that are drawn on the way.
        """
