"""Rows that are 0 where a network fits: of data, of an equation, of a condition."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from feasible.pde.samplers import chosen

Model = Callable[..., Tensor]
Kind = Literal["data", "equation", "condition"]
Columns = tuple[Tensor, ...]
CANDIDATES = 10
"""Rows that each of those chosen by their residuals is chosen from."""


@dataclass(frozen=True)
class Rows:
    """Nondimensional residuals of one kind at their points."""

    name: str
    kind: Kind
    residual: Callable[..., Tensor]
    """Of ``(model, *columns)``, (n, m)."""
    columns: Columns
    """The points, (n, d), then whatever else belongs to a row: inputs of the network, measured values."""
    draw: Callable[[int, torch.Generator], Columns] | None = None
    """So many new rows at random; ``None``: these are all there are."""

    def __len__(self) -> int:
        return len(self.columns[0])

    def __call__(self, model: Model, index: Tensor | None = None) -> Tensor:
        """The residuals of these rows, or of some of them, (n, m)."""
        columns = self.columns if index is None else [column[index] for column in self.columns]
        return self.residual(model, *columns)

    def parts(self, size: int) -> list[Rows]:
        """The same rows in parts of so many."""
        index = torch.split(torch.arange(len(self)), size)
        return [replace(self, columns=tuple(c[part] for c in self.columns), draw=None) for part in index]

    def redrawn(self, generator: torch.Generator, count: int | None = None) -> Rows:
        """As many other rows, where there are others; these, in parts, where there are none."""
        if self.draw is not None:
            return replace(self, columns=self.draw(count or len(self), generator))
        if count is None or count >= len(self):
            return self
        index = torch.randperm(len(self), generator=generator)[:count]
        return replace(self, columns=tuple(column[index] for column in self.columns))

    def adapted(self, model: Model, generator: torch.Generator, count: int | None = None) -> Rows:
        """As many other rows, more of them where the residual is large; where none can be drawn, as ``redrawn``."""
        if self.draw is None:
            return self.redrawn(generator, count)
        wanted = count or len(self)
        columns = self.draw(CANDIDATES * wanted, generator)
        index = chosen(self.residual(model, *columns), wanted, power=1.0, offset=1.0, generator=generator)
        return replace(self, columns=tuple(column[index] for column in columns))

    def to(self, dtype: torch.dtype) -> Rows:
        """The same rows in another precision."""
        draw = self.draw
        converted = None if draw is None else lambda n, g: tuple(c.to(dtype) for c in draw(n, g))
        return replace(self, columns=tuple(c.to(dtype) for c in self.columns), draw=converted)


def stacked(rows: Sequence[Rows], model: Model, weights: Sequence[float] | None = None) -> Tensor:
    """All residuals as one vector whose squared norm is the sum of the blocks' mean squares, times their weights."""
    weighted = zip(rows, weights or [1.0] * len(rows), strict=True)
    return torch.cat([math.sqrt(weight) * averaged(one, model) for one, weight in weighted])


def averaged(rows: Rows, model: Model) -> Tensor:
    """Residuals as a vector whose squared norm is their mean square."""
    values = rows(model).reshape(-1)
    return values / math.sqrt(len(values))


def root_mean_square(values: Tensor) -> float:
    """``√ mean v²``, in float64."""
    return float(values.detach().double().square().mean().sqrt())
