"""Isotonic regression of many rows at once: adjacent blocks that violate the order are pooled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]
Flags = NDArray[np.bool_]

MOST_ROUNDS = 32
"""Rounds in which all violating neighbours are pooled at once; what is left then goes one block at a time."""
WIDEST = 8
"""Averages of up to so many neighbouring blocks are compared once the blocks are few."""


@torch.library.custom_op("feasible::pool_violators", mutates_args=())
def pool_violators(x: Tensor, is_start: Tensor | None = None) -> Tensor:
    """``argmin_p ½‖p − x‖²`` subject to ``p_i ≤ p_{i+1}`` within each row of ``x``; computed on the host.

    Args:
        x: rows (B, n) in float64.
        is_start: where a new stretch begins, which need not lie above the one before; ``None``: each row is one.

    Source: Best & Chakravarti, *Active set algorithms for isotonic regression*, Math. Program. 47 (1990).
    """
    if x.shape[1] < 2 or x.numel() == 0:
        return x.clone()
    rows = x.detach().cpu().double()
    is_undefined = rows.sum(-1, keepdim=True).isnan()
    has_undefined = bool(is_undefined.any())
    if has_undefined:
        rows = rows.masked_fill(is_undefined, 0)
    if is_start is None:
        starts = np.arange(0, x.numel(), x.shape[1])
    else:
        is_first = torch.arange(x.shape[1]) == 0
        starts = np.flatnonzero((is_start.cpu() | is_first).numpy())
    with np.errstate(invalid="ignore", over="ignore"):
        means, lengths = _pooled(rows.numpy().reshape(-1), starts)
    pooled = torch.from_numpy(np.repeat(means, lengths)).view(x.shape)
    if has_undefined:
        pooled.masked_fill_(is_undefined, torch.nan)
    return pooled.to(x)


@pool_violators.register_fake
def _(x: Tensor, is_start: Tensor | None = None) -> Tensor:
    return x.new_empty(x.shape)


def _all_batches(
    info: Any, in_dims: tuple[int | None, int | None], x: Tensor, is_start: Tensor | None = None
) -> tuple[Tensor, int]:
    """One more batch dimension is only more rows."""

    def flat(value: Tensor, dim: int | None) -> Tensor:
        batch = value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)
        return batch.flatten(0, 1)

    stretches = None if is_start is None else flat(is_start, in_dims[1])
    return pool_violators(flat(x, in_dims[0]), stretches).unflatten(0, (info.batch_size, -1)), 0


pool_violators.register_vmap(_all_batches)


def _pooled(values: Numbers, starts: Places) -> tuple[Numbers, Places]:
    """Means and lengths of the blocks, of stretches that begin at ``starts``."""
    means = sums = values
    lengths = np.ones(1, dtype=np.int64)
    places: Places | None = None  # where each block begins; None: each entry is one
    for _ in range(MOST_ROUNDS):
        is_begin = np.empty(len(means), dtype=bool)
        if 4 * len(means) <= len(values):
            is_begin[1:] = _in_order(sums, lengths, starts)
        else:
            np.less_equal(means[:-1], means[1:], out=is_begin[1:])
        is_begin[starts] = True
        begins = np.flatnonzero(is_begin)
        if len(begins) == len(means):
            return means, lengths
        places = begins if places is None else places[begins]
        starts = np.searchsorted(begins, starts)
        sums = _sums_from(sums, is_begin, begins)
        lengths = _lengths(places, len(values))
        means = sums / lengths
    assert places is not None
    sums, places = _pool_in_order(sums, lengths, places, starts)
    lengths = _lengths(places, len(values))
    return sums / lengths, lengths


def _in_order(sums: Numbers, lengths: Places, starts: Places) -> Flags:
    """Between which neighbours no average that ends at the left one exceeds one that begins at the right one.

    Averages of single blocks would do; those of 2, 4, 8 settle in one round what takes those several.
    """
    means = sums / lengths
    highest, lowest = means[:-1].copy(), means[1:].copy()
    count = 1
    while count < min(WIDEST, len(sums)):
        sums, lengths = sums[:-count] + sums[count:], lengths[:-count] + lengths[count:]
        count *= 2
        means = sums / lengths
        crossing = (starts[1:, None] - np.arange(1, count)).reshape(-1)
        means[crossing[(crossing >= 0) & (crossing < len(means))]] = np.nan
        np.fmax(highest[count - 1 :], means[:-1], out=highest[count - 1 :])
        np.fmin(lowest[: len(means) - 1], means[1:], out=lowest[: len(means) - 1])
    ordered: Flags = highest <= lowest
    return ordered


def _sums_from(values: Numbers, is_begin: Flags, begins: Places) -> Numbers:
    """Sums of the values from each of the ``begins`` to the next."""
    if 4 * len(begins) < len(values):
        return np.add.reduceat(values, begins)
    # Where blocks are short this is several times as fast.
    blocks = torch.from_numpy(is_begin).cumsum(0, dtype=torch.int32)
    sums = torch.zeros(len(begins) + 1, dtype=torch.float64)
    return sums.index_add_(0, blocks, torch.from_numpy(values)).numpy()[1:]


def _lengths(places: Places, count: int) -> Places:
    lengths = np.empty_like(places)
    np.subtract(places[1:], places[:-1], out=lengths[:-1])
    lengths[-1] = count - places[-1]
    return lengths


def _pool_in_order(sums: Numbers, lengths: Places, places: Places, starts: Places) -> tuple[Numbers, Places]:
    """The same from left to right: as many steps as there are blocks, whatever their values."""
    is_first = np.zeros(len(places), dtype=bool)
    is_first[starts] = True
    blocks: list[tuple[float, float, int, int, bool]] = []
    columns = (sums, lengths, places, is_first)
    for total, length, place, first in zip(*(column.tolist() for column in columns), strict=True):
        while not first and blocks[-1][0] > total / length:
            _, below, more, place, first = blocks.pop()
            total, length = total + below, length + more
        blocks.append((total / length, total, length, place, first))
    return np.array([block[1] for block in blocks]), np.array([block[3] for block in blocks])
