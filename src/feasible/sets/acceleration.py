"""Fixed points reached sooner: what the last rounds have in common is extrapolated, unit by unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

EVERY = 5
"""Plain rounds between two extrapolations, and how many differences of rounds each looks at."""


class Units(NamedTuple):
    """What moves by itself: sums of entries per unit, and one value per unit written back to its entries."""

    total: Callable[[Tensor], Tensor]
    spread: Callable[[Tensor, Tensor], Tensor]

    def product(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """The inner product of two states, per unit."""
        return torch.stack([self.total(a * b) for a, b in zip(first, second, strict=True)]).sum(0)


class Anderson:
    """Anderson's acceleration of ``state ↦ state + change``, alternating with plain rounds.

    Where an extrapolation has led a unit upwards (or, on the level of rounding, to larger changes), the unit goes
    back to the best state it had.

    Source: Pratapa, Suryanarayana & Pask, *Anderson acceleration of the Jacobi iterative method*, J. Comput.
    Phys. 306 (2016).
    """

    def __init__(self, units: Units) -> None:
        self.units = units
        self.seen: list[tuple[list[Tensor], list[Tensor]]] = []
        self.best: tuple[list[Tensor], Tensor, Tensor] | None = None
        self.rounds = 0

    def next(
        self, state: list[Tensor], change: list[Tensor], height: Tensor, rounding: Tensor
    ) -> list[Tensor] | None:
        """Where to go on after a round that has changed the state; ``None``: from there.

        Args:
            state: after the round.
            change: by how much it differs from that before.
            height: what plain rounds make smaller, per unit.
            rounding: how far off the height may be.
        """
        self.seen = [*self.seen[-EVERY:], (state, change)]
        self.rounds += 1
        if self.rounds % EVERY or self.rounds == EVERY:
            return None
        size = self.units.product(change, change)
        extrapolated = self._extrapolated(state, change, size)
        if self.best is None:
            self.best = state, size, height
            return extrapolated
        states, least, lowest = self.best
        is_level = (height - lowest).abs() <= rounding
        is_worse = torch.where(is_level, size > 4 * least, height > lowest)
        kept = [
            torch.where(self.units.spread(is_worse, new), old, new)
            for old, new in zip(states, state, strict=True)
        ]
        # What plain rounds make of it counts as better, so that nothing is tried for ever.
        self.best = kept, torch.where(is_worse, torch.inf, size), torch.where(is_worse, torch.inf, height)
        return [
            torch.where(self.units.spread(is_worse, new), old, new)
            for old, new in zip(states, extrapolated, strict=True)
        ]

    def _extrapolated(self, state: list[Tensor], change: list[Tensor], size: Tensor) -> list[Tensor]:
        """The state less the combination of past differences that takes the most of the change away."""
        steps = [[new - old for new, old in zip(state, past, strict=True)] for past, _ in self.seen[:-1]]
        bends = [[new - old for new, old in zip(change, past, strict=True)] for _, past in self.seen[:-1]]
        gram = torch.stack([torch.stack([self.units.product(a, b) for b in bends], -1) for a in bends], -2)
        right = torch.stack([self.units.product(bend, change) for bend in bends], -1)
        diagonal = gram.diagonal(0, -2, -1)
        damping = 1e-12 * diagonal.sum(-1) + 1e-14 * size
        damping = torch.where(damping > 0, damping, 1.0)
        damped = gram + torch.diag_embed(damping.unsqueeze(-1).expand_as(diagonal))
        weights = torch.linalg.solve_ex(damped, right.unsqueeze(-1)).result.squeeze(-1).unbind(-1)
        return [
            new
            - sum(
                self.units.spread(weight, new) * step[k] for weight, step in zip(weights, steps, strict=True)
            )
            for k, new in enumerate(state)
        ]
