"""What every problem is: a frozen definition that a seed makes into rows, a reference and points to test on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from feasible.pde import Domain, System
from feasible.sets import Set
from feasible.workbook.differential.rows import Columns, Kind, Rows


class Unknown(NamedTuple):
    """A coefficient that is learned with the solution: a parameter of the network, one number."""

    truth: float
    set: Set
    """What is known of it."""


@dataclass(frozen=True)
class Shown:
    """Points for the plots of solution, error and residual: a line, or the nodes of a grid."""

    columns: Columns
    """Points, and the network's inputs there; all of them in the order of the axes."""
    axes: Sequence[tuple[str, Tensor]]
    """One or two: the name of a coordinate, and its nodes."""
    reference: Tensor
    """The solution there, (n, m)."""


@dataclass(frozen=True)
class Posed:
    """A problem with its points."""

    rows: Sequence[Rows]
    """What is trained on: data, equation, conditions."""
    held_out: Rows
    """The equation at points that are not trained on."""
    test: Columns
    """Where the solution is compared: points, and the network's inputs."""
    reference: Tensor
    """The solution there, (n, m), by means that have nothing to do with networks."""
    domain: Domain
    shown: Shown
    is_linear: bool
    """Whether all rows are affine in the solution, and so in a network's last layer."""
    inputs: int = 0
    """How many numbers a network is given beside the coordinates."""
    outputs: int = 1
    built_in: Callable[[nn.Module], nn.Module] = field(default=lambda network: network)
    """What holds by construction, put around a network."""
    queries: Sequence[Tensor] = ()
    """Inputs whose solutions are different functions: how different the network's are says whether it collapsed."""
    query_reference: Sequence[Tensor] = ()
    """The solutions there at the points of ``test``."""
    unknowns: Mapping[str, Unknown] = field(default_factory=dict)
    """By the names that ``built_in`` gives them."""
    system: System | None = None
    """The rows of equation and conditions as the library's own, where they are nothing else."""

    def of_kind(self, *kinds: Kind) -> list[Rows]:
        """The rows of these kinds."""
        return [rows for rows in self.rows if rows.kind in kinds]

    def to(self, dtype: torch.dtype) -> Posed:
        """The same problem in another precision; the reference stays as it is."""
        return replace(
            self,
            rows=[rows.to(dtype) for rows in self.rows],
            held_out=self.held_out.to(dtype),
            test=tuple(column.to(dtype) for column in self.test),
            shown=replace(self.shown, columns=tuple(column.to(dtype) for column in self.shown.columns)),
            queries=[query.to(dtype) for query in self.queries],
        )


@dataclass(frozen=True)
class ProblemDefinition(ABC):
    """What ``[equation]`` names, with its sizes."""

    metric = "relative error"
    """What ways are compared by: ``"relative error"`` (L2) or ``"mean squared error"``, on the test points."""

    @abstractmethod
    def make(self, seed: int) -> Posed:
        """The problem with the points that belong to this seed, in float64."""

    @abstractmethod
    def solution(self, x: Tensor, *inputs: Tensor) -> Tensor:
        """What is to be found, (n, m), at points (n, d): by means that have nothing to do with networks.

        It can be differentiated, so that it can be put into the problem's own rows.
        """

    def facts(self) -> Mapping[str, Any]:
        """What the page says of it."""
        return {"equation": repr(self)}
