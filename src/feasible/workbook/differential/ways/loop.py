"""The training loop that ways with a torch optimizer share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import feasible as fs
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.differential.rows import Rows

OPTIMIZERS = ("Adam", "SGD", "LBFGS", "SSBroyden")
Batch = list[tuple[Rows, Tensor | None]]
"""Rows, and which of them; ``None``: all."""


def constrained(posed: Posed, network: nn.Module) -> fs.Problem:
    """A problem with what is known of the unknown coefficients; its optimizer is to be made after it."""
    problem = fs.Problem(network)
    for name, unknown in posed.unknowns.items():
        problem.constrain(name, unknown.set, by=fs.Reparametrize())
    return problem


def made(name: str, learning_rate: float | None, network: nn.Module) -> torch.optim.Optimizer:
    """An optimizer of torch or of feasible, by its name."""
    module = fs.optim if hasattr(fs.optim, name) else torch.optim
    options: dict[str, Any] = {} if learning_rate is None else {"lr": learning_rate}
    if name == "LBFGS":
        options["line_search_fn"] = "strong_wolfe"  # without it the first steps diverge
    optimizer: torch.optim.Optimizer = getattr(module, name)(network.parameters(), **options)
    return optimizer


def batches(posed: Posed, size: int | None, generator: torch.Generator) -> Iterator[Batch]:
    """An epoch: all rows at once; or so many of every kind, as often as the longest kind needs, in random order."""
    if size is None:
        yield [(rows, None) for rows in posed.rows]
        return
    orders = [torch.randperm(len(rows), generator=generator) for rows in posed.rows]
    for step in range(math.ceil(max(len(rows) for rows in posed.rows) / size)):
        yield [
            (rows, order[(torch.arange(min(size, len(order))) + step * size) % len(order)])
            for rows, order in zip(posed.rows, orders, strict=True)
        ]


def stepped(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], monitor: Monitor) -> None:
    """One step, its parts timed."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        with monitor.section("rows"):
            value = loss()
        with monitor.section("backward"):
            value.backward()  # type: ignore[no-untyped-call]
        return value

    with monitor.section("step"):
        optimizer.step(closure)  # type: ignore[arg-type]  # torch wants a float, and takes a tensor


def mean_square(rows: Rows, network: nn.Module, index: Tensor | None = None) -> Tensor:
    """Of these rows, or of some of them."""
    return rows(network, index).square().mean()
