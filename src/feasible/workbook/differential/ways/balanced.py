"""A soft penalty whose weights balance themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final, get_args

import torch
from torch import Tensor, nn

from feasible.pde.balance import Rule, balanced
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
from feasible.workbook.errors import InputError

__all__ = ["Balanced"]

PROBES = 2
"""Random vectors that estimate a trace."""


@final
@dataclass(frozen=True)
class Balanced(Way):
    """Minimise ``Σ wᵢ Lᵢ``, the mean squares of data, equation and conditions, with weights that balance themselves.

    Every so many steps they move a tenth of the way to where no kind of rows holds the parameters tighter than
    another, as in ``pde.System.balance``.

    Args:
        rule: what is made equal: ``"gradient"``, the lengths of the losses' gradients, or ``"trace"``, those of the
            rows' Jacobians.
        optimizer: a class of ``torch.optim`` or of ``feasible.optim``.
        learning_rate: of the optimizer; ``None``: its own.
        batch_size: rows of each kind in a step; ``None``: all.
        every: steps between two looks at the gradients.
        momentum: how much of the old weights stays.

    Raises:
        InputError: there is no optimizer or rule of this name, or a number is out of its range.

    Source: Wang, Sankaran, Wang & Perdikaris, *An expert's guide to training physics-informed neural networks* (2023).
    """

    rule: Rule = "gradient"
    optimizer: str = "Adam"
    learning_rate: float | None = None
    batch_size: int | None = None
    every: int = 100
    momentum: float = 0.9

    def __post_init__(self) -> None:
        one_of(self, "rule", get_args(Rule))
        one_of(self, "optimizer", OPTIMIZERS)
        above_zero(self, "learning_rate")
        at_least(self, batch_size=1, every=1, momentum=0)
        if self.momentum >= 1:
            raise InputError(f"momentum must be below 1, got {self.momentum}.", key=("momentum",))

    def solve(self, posed: Posed, network: nn.Module, monitor: Monitor, generator: torch.Generator) -> Solved:
        """Epochs over the rows."""
        problem = constrained(posed, network)
        optimizer = problem.attach(made(self.optimizer, self.learning_rate, network))
        weights, step = [1.0] * len(posed.rows), 0
        for _ in monitor.epochs(network):
            for batch in batches(posed, self.batch_size, generator):
                if step % self.every == 0:
                    with monitor.section("weights"):
                        weights = self._balanced(batch, network, weights, step)
                stepped(optimizer, lambda: _loss(batch, network, weights), monitor)  # noqa: B023  # called at once
                step += 1
        problem.finish()
        found = zip(posed.rows, weights, strict=True)
        return Solved(network, "weights: " + ", ".join(f"{rows.name} {weight:.2g}" for rows, weight in found))

    def _balanced(self, batch: Batch, network: nn.Module, weights: list[float], seed: int) -> list[float]:
        blocks = [rows(network, index) for rows, index in batch]
        names = [rows.name for rows, _ in batch]
        return balanced(blocks, names, weights, network, self.rule, self.momentum, None, PROBES, seed)


def _loss(batch: Batch, network: nn.Module, weights: list[float]) -> Tensor:
    squares = [mean_square(rows, network, index) for rows, index in batch]
    return torch.stack(squares) @ torch.tensor(weights, dtype=squares[0].dtype)
