"""A few points of a block of rows at a time, for systems whose graph would not fit into memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from feasible.pde.inputs import taken

Model = Callable[..., Tensor]


@final
@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a block, in the units that they have among all of its rows.

    Args:
        rows: of ``(model, x, *inputs)``, one for each point.
        x: these points.
        inputs: of the model at these points.
        weight: of the block's mean square.
        points: how many points the whole block has.
    """

    rows: Callable[..., Tensor]
    x: Tensor
    inputs: tuple[Any, ...]
    weight: float
    points: int

    def __call__(self, model: Model) -> Tensor:
        """These rows, flat."""
        rows = self.rows(model, self.x, *self.inputs)
        count = rows.numel() * self.points / max(len(self.x), 1)
        return math.sqrt(self.weight / max(count, 1)) * rows.reshape(-1)


def parted(
    rows_of: Callable[[Tensor], Callable[..., Tensor]],
    x: Tensor,
    inputs: tuple[Any, ...],
    weight: float,
    size: int,
) -> Iterator[Part]:
    """The parts of a block, in the order of its points; ``rows_of`` gives the function of some of them."""
    for first in range(0, len(x), size):
        chosen = torch.arange(first, min(first + size, len(x)))
        own = x[chosen.to(x.device)]
        yield Part(rows_of(chosen), own, taken(inputs, chosen), weight, len(x))
