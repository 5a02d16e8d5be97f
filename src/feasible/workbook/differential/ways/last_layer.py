"""Random features and one linear solve."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import nn

import feasible as fs
from feasible import pde
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.differential.rows import averaged
from feasible.workbook.differential.ways.way import Solved, Way

__all__ = ["LastLayer"]


@final
@dataclass(frozen=True)
class LastLayer(Way):
    """Hidden layers stay as they are drawn; the last one solves all rows by ``project_parameters``.

    Where the problem is linear it is one rank-revealing solve, else Gauss–Newton steps. Rows that cannot all hold
    are solved by least squares.

    Args:
        spread: whether ``pde.init_features_`` spreads the features of a single hidden layer over the domain, their
            scale found by a search, before the solve.
        scale: in the place of the search; one number, or one for each input.
    """

    spread: bool = True
    scale: float | tuple[float, ...] | None = None

    def solve(self, posed: Posed, network: nn.Module, monitor: Monitor, generator: torch.Generator) -> Solved:
        """Features, then the solve."""
        monitor.look(network, 0)
        last = "*readout.*"
        constraints = [(partial(averaged, rows), fs.Equal(0.0)) for rows in posed.rows]
        if self.spread:
            with monitor.section("features"):
                hidden = network.get_submodule("hidden1")
                assert isinstance(hidden, nn.Linear)
                pde.init_features_(
                    hidden,
                    posed.domain,
                    self.scale,
                    model=network,
                    constraints=None if self.scale is not None else constraints,
                    parameters=last,
                    generator=generator,
                )
        with monitor.section("solve"):
            result = fs.project_parameters(network, constraints, last)
        monitor.look(network, 1)
        rank = "" if result.rank is None else f", rank {result.rank}"
        return Solved(network, ("one solve" if result.is_affine else "Gauss–Newton") + rank)
