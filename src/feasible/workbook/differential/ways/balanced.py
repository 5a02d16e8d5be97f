"""Soft penalties whose weights are found along the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from feasible.pde.balance import Rule, balanced
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.differential.ways.steps import Batch, batches
from feasible.workbook.differential.ways.way import Solved, Way

__all__ = ["Balanced"]

PROBES = 2
"""Random vectors that estimate a trace."""


@final
@dataclass(frozen=True)
class Balanced(Way):
    """Adam on ``Σ wᵢ Lᵢ``, the mean squares of data, equation and conditions, with weights that balance themselves.

    Every ``every`` steps they move a tenth of the way to where no kind of rows holds the parameters tighter than
    another, as in ``pde.System.balance``.

    Args:
        rule: what is made equal: ``"gradient"``, the lengths of the losses' gradients, or ``"trace"``, those of the
            rows' Jacobians.
        learning_rate: of Adam.
        batch_size: rows of each kind in a step; ``None``: all.
        every: steps between two looks at the gradients.
        momentum: how much of the old weights stays.

    Raises:
        ValueError: ``every`` is not positive.

    Source: Wang, Sankaran, Wang & Perdikaris, *An expert's guide to training physics-informed neural networks* (2023).
    """

    rule: Rule = "gradient"
    learning_rate: float = 1e-3
    batch_size: int | None = None
    every: int = 100
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every!r}.")

    def solve(self, posed: Posed, network: nn.Module, monitor: Monitor, generator: torch.Generator) -> Solved:
        """Epochs over the rows."""
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        weights, step = [1.0] * len(posed.rows), 0
        for _ in monitor.epochs(network):
            for batch in batches(posed, self.batch_size, generator):
                if step % self.every == 0:
                    with monitor.section("weights"):
                        weights = self._balanced(batch, network, weights, step)
                with monitor.section("step"):
                    optimizer.zero_grad()
                    losses = [rows(network, index).square().mean() for rows, index in batch]
                    loss = torch.stack(
                        [weight * one for weight, one in zip(weights, losses, strict=True)]
                    ).sum()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                step += 1
        found = zip(posed.rows, weights, strict=True)
        return Solved(network, "weights: " + ", ".join(f"{rows.name} {weight:.2g}" for rows, weight in found))

    def _balanced(self, batch: Batch, network: nn.Module, weights: list[float], seed: int) -> list[float]:
        blocks = [rows(network, index) for rows, index in batch]
        names = [rows.name for rows, _ in batch]
        return balanced(blocks, names, weights, network, self.rule, self.momentum, None, PROBES, seed)
