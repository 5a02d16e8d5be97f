"""Steps of a torch optimizer, in the loop that a user would write."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

import feasible as fs
from feasible.methods import Method
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.differential.rows import Rows
from feasible.workbook.differential.ways.way import Solved, Way
from feasible.workbook.errors import InputError, closest
from feasible.workbook.naming import identifier

__all__ = ["Steps"]

OPTIMIZERS = ("Adam", "SGD", "LBFGS", "SSBroyden")
Batch = list[tuple[Rows, Tensor | None]]


@final
@dataclass(frozen=True)
class Steps(Way):
    """Minimise the mean squared data rows; equation and conditions by a fixed weight, or by a method.

    Args:
        optimizer: a class of ``torch.optim`` or of ``feasible.optim``.
        learning_rate: of the optimizer; ``None``: its own.
        weight: of the mean squared equation and condition rows in the loss, where no method is given; 0: only data.
        by: a method for equation and condition rows in the place of the weight.
        per: ``"value"``: a multiplier for each row (all rows in every step); ``"sample"``: one for all.
        reduction: with one multiplier for all, of the rows' distances: ``"mean"``, the p of a p-mean, or ``"huber"``.
        data_weight: of the mean squared data rows; 0: only the equation and its conditions.
        batch_size: rows of each kind in a step; ``None``: all.

    Raises:
        InputError: there is no optimizer of this name.
    """

    optimizer: str = "Adam"
    learning_rate: float | None = None
    weight: float = 1.0
    by: Method | None = None
    per: Literal["value", "sample"] = "sample"
    reduction: str | float = "mean"
    data_weight: float = 1.0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            message = f'unknown optimizer "{self.optimizer}".{closest(self.optimizer, OPTIMIZERS)}'
            raise InputError(message, key=("optimizer",))

    def solve(self, posed: Posed, network: nn.Module, monitor: Monitor, generator: torch.Generator) -> Solved:
        """Epochs over the rows."""
        problem = self._problem(posed, network)
        optimizer = problem.attach(self._make(network))
        for _ in monitor.epochs(network):
            for batch in batches(posed, self.batch_size, generator):
                self._step(batch, network, problem, optimizer, monitor)
        problem.finish()
        return Solved(network, "encouraged" if self.by is None else type(self.by).__name__)

    def _problem(self, posed: Posed, network: nn.Module) -> fs.Problem:
        problem = fs.Problem(network)
        if self.by is not None:
            for rows in posed.of_kind("equation", "condition"):
                name = identifier(rows.name)
                problem.require(name, fs.Equal(0.0), by=self.by, per=self.per, reduction=self.reduction)
        return problem

    def _make(self, network: nn.Module) -> torch.optim.Optimizer:
        module = fs.optim if hasattr(fs.optim, self.optimizer) else torch.optim
        rate: dict[str, Any] = {} if self.learning_rate is None else {"lr": self.learning_rate}
        if self.optimizer == "LBFGS":
            rate["line_search_fn"] = "strong_wolfe"  # without it the first steps diverge
        made: torch.optim.Optimizer = getattr(module, self.optimizer)(network.parameters(), **rate)
        return made

    def _step(
        self, batch: Batch, network: nn.Module, problem: fs.Problem, optimizer: torch.optim.Optimizer, monitor: Monitor
    ) -> None:  # fmt: skip
        def closure() -> Tensor:
            optimizer.zero_grad()
            with monitor.section("rows"):
                loss = self._loss(batch, network, problem)
            with monitor.section("backward"):
                loss.backward()  # type: ignore[no-untyped-call]
            return loss

        with monitor.section("step and rows"):
            optimizer.step(closure)  # type: ignore[arg-type]  # torch wants a float, and takes a tensor

    def _loss(self, batch: Batch, network: nn.Module, problem: fs.Problem) -> Tensor:
        task = torch.zeros((), dtype=next(network.parameters()).dtype)
        required: dict[str, Tensor] = {}
        for rows, index in batch:
            if rows.kind == "data":
                task = task + self.data_weight * rows(network, index).square().mean()
            elif self.by is not None:
                required[identifier(rows.name)] = rows(network, index)
            elif self.weight:
                task = task + self.weight * rows(network, index).square().mean()
        return problem.loss(task, **required)


def batches(posed: Posed, size: int | None, generator: torch.Generator) -> Iterator[Batch]:
    """An epoch: all rows at once, or every kind in as many parts as the longest of them needs."""
    if size is None:
        yield [(rows, None) for rows in posed.rows]
        return
    steps = math.ceil(max(len(rows) for rows in posed.rows) / size)
    orders = [torch.randperm(len(rows), generator=generator) for rows in posed.rows]
    for step in range(steps):
        yield [
            (rows, order[(torch.arange(size) + step * size) % len(order)])
            for rows, order in zip(posed.rows, orders, strict=True)
        ]
