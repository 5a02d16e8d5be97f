"""Least squares for the data, with the equation and its conditions as constraints."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import nn

import feasible as fs
from feasible.workbook.differential.checks import above_zero
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.differential.rows import averaged
from feasible.workbook.differential.ways.way import Solved, Way

__all__ = ["Minimized"]

TOLERANCE, ROUNDINGS = 1e-8, 200
"""The tolerance where none is given, and how many roundings it must be at least."""


@final
@dataclass(frozen=True)
class Minimized(Way):
    """``minimize`` by constrained Gauss–Newton: ½ the mean squared data, subject to equation and conditions = 0.

    There is no weight to choose: what the equation leaves open is what the data decide on. The Jacobian of all rows is
    factorised in every step.

    Args:
        tolerance: up to where stationarity and violation count as 0; ``None``: 1e-8, or what the precision allows.

    Raises:
        InputError: the tolerance is not positive.
    """

    tolerance: float | None = None

    def __post_init__(self) -> None:
        above_zero(self, "tolerance")

    def solve(self, posed: Posed, network: nn.Module, monitor: Monitor, generator: torch.Generator) -> Solved:
        """Iterations until the budget is used up, or the point is certified.

        Raises:
            ValueError: there are no data, or nothing beside them.
        """
        data, others = posed.of_kind("data"), posed.of_kind("equation", "condition")
        if not data:
            raise ValueError(
                "Minimized: the problem has no data to fit. LeastSquares solves equations alone."
            )
        constraints: list[Any] = [(partial(averaged, rows, network), fs.Equal(0.0)) for rows in others]
        constraints += [(name, unknown.set) for name, unknown in posed.unknowns.items()]
        shown = copy.deepcopy(network)
        epochs = monitor.epochs(shown)

        def look(iterate: Any) -> None:
            shown.load_state_dict(iterate.x, strict=False)
            if next(epochs, None) is None and monitor.seconds_left <= 0:
                raise StopIteration

        with monitor.section("iterations"):
            result = fs.minimize(
                lambda: torch.cat([averaged(rows, network) for rows in data]),
                network,
                constraints,
                method="gauss-newton",
                tol=self.tolerance or max(TOLERANCE, ROUNDINGS * torch.finfo(data[0].columns[0].dtype).eps),
                max_iterations=monitor.budget.epochs,
                callback=look,
            )
        monitor.look(network, int(monitor.history[-1]["epoch"]) + 1)
        return Solved(network, result.message)
