"""Nearest points by trying all members; of equally near ones the first."""

from collections.abc import Callable, Iterable
from itertools import combinations

import torch
from torch import Tensor

from .references import Reference


def nearest_of(vectors: Callable[[int], Tensor], dim: int | None = -1, group: int | None = None) -> Reference:
    """The nearest of ``vectors(length)`` for every vector along ``dim``, or every ``group`` of its entries."""

    def nearest(x: Tensor) -> Tensor:
        rows = x.reshape(1, -1) if dim is None else x.movedim(dim, -1)
        groups = rows.reshape(-1, group or rows.shape[-1])
        found = vectors(groups.shape[-1])
        if found.dim() == 2:
            found = found.expand(len(groups), *found.shape)
        best = (groups.unsqueeze(1) - found).square().sum(-1).argmin(1)
        chosen = found[torch.arange(len(groups)), best].reshape(rows.shape)
        return (chosen if dim is None else chosen.movedim(-1, dim)).reshape(x.shape)

    return nearest


def among(values: Iterable[float]) -> Reference:
    """The nearest of the values, entry by entry; the first of them is the smallest."""
    ordered = torch.tensor(sorted(values), dtype=torch.float64)
    return lambda x: ordered[(x.unsqueeze(-1) - ordered).abs().argmin(-1)]


def up_to(lower: float | None = None, upper: float | None = None) -> Reference:
    """The nearest of the two whole numbers around each entry, in a range."""

    def nearest(x: Tensor) -> Tensor:
        below = x.floor()
        chosen = torch.where((x - below).abs() <= (below + 1 - x).abs(), below, below + 1)
        return chosen if lower is None and upper is None else chosen.clamp(lower, upper)

    return nearest


def one_hot_vectors(length: int) -> Tensor:
    """The unit vectors."""
    return torch.eye(length, dtype=torch.float64)


def sparse_vectors(count: int, dim: int | None = -1, group: int | None = None) -> Reference:
    """The best choice of ``count`` entries to keep, the first in lexicographic order."""

    def nearest(x: Tensor) -> Tensor:
        rows = x.reshape(1, -1) if dim is None else x.movedim(dim, -1)
        groups = rows.reshape(-1, group or rows.shape[-1])
        kept = torch.zeros_like(groups)
        for row, result in zip(groups, kept, strict=True):
            choices = combinations(range(len(row)), count)
            best = max(choices, key=lambda choice: float(row[list(choice)].abs().sort().values.sum()))
            result[list(best)] = row[list(best)]
        kept = kept.reshape(rows.shape)
        return (kept if dim is None else kept.movedim(-1, dim)).reshape(x.shape)

    return nearest
