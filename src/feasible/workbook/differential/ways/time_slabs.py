"""One network after the other, each for a slab of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from feasible import pde
from feasible.workbook.differential.checks import above_zero, at_least
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.differential.ways.way import Solved, Way

__all__ = ["TimeSlabs"]


@final
@dataclass(frozen=True)
class TimeSlabs(Way):
    """``pde.march``: Levenberg–Marquardt on points that follow the residual, slab by slab.

    A slab that is not solved after its rounds is cut in two and both are solved again.

    Args:
        slabs: how many of equal length.
        tolerance: of the residual on fresh points.
        built_in: parts of the boundary whose conditions are built into each network.
        halvings: how often a slab that is not solved is cut in two.
        rounds: how often the points of a slab are drawn anew.
        iterations: of Levenberg–Marquardt on the same points.

    Raises:
        InputError: a number is out of its range.
    """

    slabs: int = 5
    tolerance: float = 1e-5
    built_in: tuple[str, ...] = ()
    halvings: int = 3
    rounds: int = 20
    iterations: int = 10

    def __post_init__(self) -> None:
        at_least(self, slabs=1, halvings=0, rounds=1, iterations=1)
        above_zero(self, "tolerance")

    def solve(self, posed: Posed, network: nn.Module, monitor: Monitor, generator: torch.Generator) -> Solved:
        """All slabs, within the budget.

        Raises:
            ValueError: the problem is more than an equation with conditions, or some are in the network already.
            UnsupportedError: the problem has no time.
        """
        if posed.system is None:
            raise ValueError(
                'TimeSlabs: the conditions must be rows of their own (equation.conditions = "rows"), without data.'
            )
        monitor.look(network, 0)

        # A budget that cuts the rounds short leaves slabs unsolved: halving them would not solve them either.
        rounds = min(self.rounds, monitor.budget.epochs)
        halvings = self.halvings if rounds == self.rounds else 0

        def solve(piece: nn.Module, system: pde.System) -> pde.Collocation:
            return pde.collocate(
                piece,
                system,
                tol=self.tolerance,
                rounds=rounds,
                iterations=self.iterations,
                seconds=max(monitor.seconds_left, 0.0),
                generator=generator,
            )

        with monitor.section("slabs"):
            result = pde.march(
                posed.system, network, self.slabs, solve, built_in=self.built_in, halvings=halvings
            )
        monitor.look(result.solution, sum(outcome.rounds for outcome in result.outcomes))
        within = sum(outcome.success for outcome in result.outcomes)
        return Solved(result.solution, f"{within} of {len(result.outcomes)} slabs within {self.tolerance:g}")
