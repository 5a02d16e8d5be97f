"""The members of one unit, seen from a point: the nearest one, and all others added up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

from feasible.sets.precision import widest

_PIECE = 2**20
"""Numbers that are worked on at a time."""
_CACHED = 2**15
"""Numbers that a few passes find in the cache."""
SAMPLED = 32
"""How many members stand for all of them where distances between members are averaged."""


class Rivals(NamedTuple):
    """What a point has to all members of its units, in float64 where the device has it."""

    residual: Tensor
    """``x − c`` for the nearest member c, in the shape of x."""
    others: int
    """How many other members, the rivals, a unit has."""
    logs: Tensor
    """``Σ log ‖x − c‖²`` over the rivals, one number a unit."""
    slopes: Tensor
    """The derivative of those sums, ``Σ 2 (x − c) / ‖x − c‖²``, in the shape of x."""


def rivals_of_numbers(x: Tensor, nearest: Tensor, values: Sequence[float]) -> Rivals:
    """Entry by entry, among different numbers; ``nearest`` is one of them for each entry."""
    point, closest = widest(x.detach()), widest(nearest.detach())
    logs, slopes = torch.zeros_like(point).reshape(-1), torch.zeros_like(point).reshape(-1)
    numbers = torch.tensor(values, dtype=point.dtype, device=x.device).unsqueeze(-1)
    pieces = (_cached(flat.reshape(-1)) for flat in (point, closest, logs, slopes))
    for entries, own, log, slope in zip(*pieces, strict=True):
        for some in _cached(numbers, max(len(entries), 1)):
            is_own = own == some
            gap = (entries - some).masked_fill_(is_own, 1.0)
            slope += (1 / gap).masked_fill_(is_own, 0.0).sum(0)
            log += gap.abs_().log_().sum(0)
    logs, slopes = (2 * total.reshape(x.shape) for total in (logs, slopes))
    return Rivals(point - closest, len(values) - 1, logs, slopes)


def _cached(x: Tensor, each: int = 1) -> tuple[Tensor, ...]:
    """Pieces along dimension 0 that stay in the cache where every row stands for ``each`` numbers."""
    return torch.split(x, max(_CACHED // each, 1)) if len(x) else ()


def rivals_of_unit_vectors(rows: Tensor, nearest: Tensor) -> Rivals:
    """For rows, among the unit vectors: ``‖x − e‖² = ‖x‖² − 2 ⟨x, e⟩ + 1``.

    The difference cancels near e only, and rivals are at least half a distance between members away.
    """
    point, closest = widest(rows.detach()), widest(nearest.detach())
    squares = point.square().sum(-1, keepdim=True) + 1 - 2 * point
    logs = squares.masked_fill(closest == 1, 1.0).log().sum(-1)
    pulls = (2 / squares).masked_fill(closest == 1, 0.0)
    slopes = point * pulls.sum(-1, keepdim=True) - pulls
    return Rivals(point - closest, rows.shape[-1] - 1, logs, slopes)


def rivals_of_permutations(x: Tensor, nearest: Tensor) -> Rivals:
    """For matrices, among all permutation matrices: ``‖x − p‖² = ‖x‖² − 2 ⟨x, p⟩ + n``."""
    size = x.shape[-1]
    point, closest = widest(x.detach()).flatten(-2), widest(nearest.detach()).flatten(-2)
    table = permutation_table(size).to(point)
    logs, slopes = [], []
    for rows, own in _together(point.reshape(-1, size * size), closest.reshape(-1, size * size), len(table)):
        squares = rows.square().sum(-1, keepdim=True) + size - 2 * rows @ table.T
        is_own = own @ table.T > size - 0.5
        pulls = (2 / squares).masked_fill(is_own, 0.0)
        logs.append(squares.masked_fill(is_own, 1.0).log().sum(-1))
        slopes.append(rows * pulls.sum(-1, keepdim=True) - pulls @ table)
    total = torch.cat([point.new_empty(0), *logs]).reshape(x.shape[:-2])
    slope = torch.cat([point.new_empty(0, size * size), *slopes]).reshape(x.shape)
    return Rivals((point - closest).reshape(x.shape), len(table) - 1, total, slope)


def _together(first: Tensor, second: Tensor, each: int) -> Iterator[tuple[Tensor, Tensor]]:
    at_once = max(4 * _PIECE // each, 1)
    return zip(torch.split(first, at_once), torch.split(second, at_once), strict=True)


@lru_cache(maxsize=2)
def permutation_table(size: int) -> Tensor:
    """All permutation matrices of this size as rows of zeros and ones."""
    orders = torch.tensor(list(permutations(range(size))), dtype=torch.long).reshape(-1, size)
    return torch.nn.functional.one_hot(orders, size).flatten(1).to(torch.float32)


def spacing(distances: Sequence[Tensor]) -> float:
    """``√(δ Γ)``: geometric means over members of the distance to the nearest other one, and of all distances.

    ``distances``: for some members those to all of them, among which their own, 0, does not count.
    """
    others = [row[row > 0] for row in distances]
    if not others or not len(others[0]):
        return 1.0
    least = torch.stack([row.min().log() for row in others]).mean()
    mean = torch.stack([row.log().mean() for row in others]).mean()
    return math.exp(float(least + mean) / 2)


def sampled(count: int) -> list[int]:
    """Places of some members, evenly among so many."""
    return sorted({round(i * (count - 1) / (SAMPLED - 1)) for i in range(SAMPLED)})
