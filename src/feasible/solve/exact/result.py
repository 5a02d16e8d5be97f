"""What an exact solver hands back: the best weight, and how far below its loss anything can lie."""

from __future__ import annotations

import enum
import math
import time
from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["ExactResult", "ExactStatus"]


_STRIDE = 1024
"""Nodes between two looks at the clock."""


class ExactStatus(enum.Enum):
    """How the search ended; the value is the sentence."""

    OPTIMAL = "No member of the set has a smaller loss, up to rounding."
    BUDGET = "The budget of nodes or seconds ended the search: this is the best member found."


@dataclass(frozen=True)
class ExactResult:
    """The best member of a discrete set for a linear layer, with its certificate.

    Args:
        weight: the member, in the shape and dtype that were asked for.
        bias: the free bias that goes with it; ``None`` where none was fitted.
        loss: its loss, a sum over samples and outputs in float64.
        lower_bound: no member has a smaller loss than this, up to rounding.
        status: how the search ended.
        nodes: partial or whole choices that were looked at.
        seconds: wall-clock time.
    """

    weight: Tensor
    bias: Tensor | None
    loss: float
    lower_bound: float
    status: ExactStatus
    nodes: int
    seconds: float

    @property
    def proven(self) -> bool:
        """Whether the weight is known to be the best one."""
        return self.status is ExactStatus.OPTIMAL

    @property
    def gap(self) -> float:
        """``loss − lower_bound``: 0 where the weight is proven to be the best."""
        return 0.0 if self.proven else self.loss - self.lower_bound

    @property
    def message(self) -> str:
        """The status in words, with the figures."""
        return f"{self.status.value} Loss {self.loss:.6g}, gap {self.gap:.3g}, {self.nodes} nodes."


@dataclass
class Budget:
    """Nodes and seconds that a search may still take; several searches may share one."""

    max_nodes: int | None
    seconds: float | None
    nodes: int = 0
    start: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        for name, value in (("max_nodes", self.max_nodes), ("seconds", self.seconds)):
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must be a number ≥ 0, or None for no limit; got {value!r}.")

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    @property
    def seconds_left(self) -> float:
        """Seconds until the end, perhaps +inf."""
        return math.inf if self.seconds is None else max(self.seconds - self.elapsed, 0.0)

    def is_spent(self) -> bool:
        """Whether nothing is left."""
        return (self.max_nodes is not None and self.nodes >= self.max_nodes) or self.seconds_left == 0.0

    def stride(self) -> int:
        """Nodes until the next look at the budget."""
        left = _STRIDE if self.max_nodes is None else self.max_nodes - self.nodes
        return max(min(left, _STRIDE), 1)

    def part(self, nodes: int) -> Budget:
        """At most so many of the nodes that are left, in the same time."""
        left = self.nodes + nodes if self.max_nodes is None else min(self.nodes + nodes, self.max_nodes)
        return Budget(left, self.seconds, self.nodes, self.start)

    def share(self, searches: int) -> Budget:
        """An equal share of what is left, for the first of several searches."""
        nodes, seconds = self.max_nodes, self.seconds
        if nodes is not None:
            nodes = self.nodes + max(nodes - self.nodes, 0) // searches
        if seconds is not None:
            seconds = self.elapsed + self.seconds_left / searches
        return Budget(nodes, seconds, self.nodes, self.start)
