"""Matrices of a bounded rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.sets.matrices import on_finite
from feasible.sets.precision import normal
from feasible.sets.simplex import check_kind
from feasible.sets.singular import SingularValues, split_by_span
from feasible.sets.spectra import allowed_error, from_singular
from feasible.sets.spectral_charts import ProjectionChart

__all__ = ["LowRank"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class LowRank(SingularValues):
    """Matrices of at most a given rank; not convex.

    ``project(x)`` is a nearest such matrix: x with all but its ``rank`` largest singular values set to 0. Of
    several nearest ones (the singular values tie) it takes the one whose directions the SVD lists first.

    Args:
        rank: the largest rank allowed, ≥ 0.

    Raises:
        ValueError: ``rank`` is not a non-negative integer.

    >>> LowRank(1).project(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    tensor([[3., 0.],
            [0., 0.]])

    Source: Eckart & Young, *The approximation of one matrix by another of lower rank* (1936).
    """

    rank: int
    convex = False

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 0:
            raise ValueError(f"LowRank: rank must be a non-negative integer, got {self.rank!r}.")

    def _allows(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        small = values <= allowed_error(values, dtype).unsqueeze(-1)
        return small[..., self.rank :].all(-1) & ~values.isnan().any(-1)

    def _nearest(self, values: Tensor) -> tuple[Tensor, Tensor]:
        kept = torch.arange(values.shape[-1], device=values.device) < self.rank
        return torch.where(kept, values, 0.0), kept.to(values).expand_as(values)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Products of normal factors."""
        self.check_shape(torch.Size(shape))
        left = normal((*shape[:-1], self.rank), generator)
        right = normal((*shape[:-2], self.rank, shape[-1]), generator)
        return self.project(left @ right / math.sqrt(max(self.rank, 1)))

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """Onto the tangent cone: what meets the row or column space of x, and the best of the rest up to the rank."""
        return on_finite(x, lambda safe: (self._turn(safe, direction, x.dtype),))[0]

    def _turn(self, x: Tensor, direction: Tensor, dtype: torch.dtype) -> Tensor:
        moved = direction.to(x)
        parts = split_by_span(x, moved, dtype)
        beyond_left, free, beyond_right = parts.beyond
        room = self.rank - parts.rank
        lost = torch.where(torch.arange(free.shape[-1], device=free.device) < room, 0.0, free)
        return (moved - from_singular(beyond_left, lost, beyond_right)).to(direction.dtype)

    def chart(self, kind: str | None = None) -> ProjectionChart:
        """``"nearest"``: the projection of free coordinates; members are their own."""
        check_kind(self, kind, ("nearest",))
        return ProjectionChart(self)
