"""Steps of a torch optimizer, in the loop that a user would write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

import feasible as fs
from feasible.methods import Method
from feasible.workbook.differential.checks import above_zero, at_least, one_of
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.differential.ways.loop import (
    OPTIMIZERS,
    Batch,
    batches,
    constrained,
    made,
    mean_square,
    stepped,
)
from feasible.workbook.differential.ways.way import Solved, Way
from feasible.workbook.naming import identifier

__all__ = ["Steps"]


@final
@dataclass(frozen=True)
class Steps(Way):
    """Minimise the mean squared data rows; equation and conditions by a fixed weight, or by a method.

    Unknown coefficients are reparametrized, so that they stay in their sets.

    Args:
        optimizer: a class of ``torch.optim`` or of ``feasible.optim``.
        learning_rate: of the optimizer; ``None``: its own.
        weight: of the mean squared equation and condition rows in the loss, where no method is given; 0: only data.
        by: a method for equation and condition rows in the place of the weight.
        per: ``"value"``: a multiplier for each row of a step; ``"index"``: one for each row, also where the steps see
            parts of them; ``"sample"``: one for all.
        reduction: with one multiplier for all, of the rows' distances: ``"mean"``, the p of a p-mean, or ``"huber"``.
        data_weight: of the mean squared data rows; 0: only the equation and its conditions.
        batch_size: rows of each kind in a step; ``None``: all.

    Raises:
        InputError: there is no optimizer of this name, or a number is out of its range.
    """

    optimizer: str = "Adam"
    learning_rate: float | None = None
    weight: float = 1.0
    by: Method | None = None
    per: Literal["value", "sample", "index"] = "sample"
    reduction: str | float = "mean"
    data_weight: float = 1.0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        one_of(self, "optimizer", OPTIMIZERS)
        one_of(self, "per", ("value", "sample", "index"))
        above_zero(self, "learning_rate")
        at_least(self, weight=0, data_weight=0, batch_size=1)

    def solve(self, posed: Posed, network: nn.Module, monitor: Monitor, generator: torch.Generator) -> Solved:
        """Epochs over the rows."""
        problem = self._problem(posed, network)
        optimizer = problem.attach(made(self.optimizer, self.learning_rate, network))
        for _ in monitor.epochs(network):
            for batch in batches(posed, self.batch_size, generator):
                stepped(optimizer, lambda: self._loss(batch, network, problem), monitor)  # noqa: B023  # called at once
        problem.finish()
        return Solved(network, "encouraged" if self.by is None else type(self.by).__name__)

    def _problem(self, posed: Posed, network: nn.Module) -> fs.Problem:
        problem = constrained(posed, network)
        if self.by is not None:
            for rows in posed.of_kind("equation", "condition"):
                problem.require(
                    identifier(rows.name),
                    fs.Equal(0.0),
                    by=self.by,
                    per=self.per,
                    size=len(rows) if self.per == "index" else None,
                    reduction=self.reduction,
                )
        return problem

    def _loss(self, batch: Batch, network: nn.Module, problem: fs.Problem) -> Tensor:
        # 0 with a gradient: where there are no data, methods alone move the network
        task = 0.0 * torch.stack([parameter.sum() for parameter in network.parameters()]).sum()
        required: dict[str, Any] = {}
        for rows, index in batch:
            if rows.kind == "data":
                task = task + self.data_weight * mean_square(rows, network, index)
            elif self.by is not None:
                required[identifier(rows.name)] = self._handed(rows(network, index), index)
            elif self.weight:
                task = task + self.weight * mean_square(rows, network, index)
        return problem.loss(task, **required)

    def _handed(self, value: Tensor, index: Tensor | None) -> Any:
        """What ``problem.loss`` gets."""
        if self.per != "index":
            return value
        return value, torch.arange(len(value)) if index is None else index
