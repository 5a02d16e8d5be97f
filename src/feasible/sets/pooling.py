"""Isotonic regression of many rows at once: adjacent blocks that violate the order are pooled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

MOST_ROUNDS = 32
"""Rounds in which all violating neighbours are pooled at once; what is left then goes one block at a time."""


@torch.library.custom_op("feasible::pool_violators", mutates_args=())
def pool_violators(x: Tensor, is_start: Tensor | None = None) -> Tensor:
    """``argmin_p ½‖p − x‖²`` subject to ``p_i ≤ p_{i+1}`` within each row of ``x``.

    Args:
        x: rows (B, n) in float64.
        is_start: where a new stretch begins, which need not lie above the one before; ``None``: each row is one.

    Source: Best & Chakravarti, *Active set algorithms for isotonic regression*, Math. Program. 47 (1990).
    """
    if x.shape[1] < 2 or x.numel() == 0:
        return x.clone()
    is_undefined = x.sum(-1, keepdim=True).isnan()
    has_undefined = bool(is_undefined.any())
    means = sums = (x.masked_fill(is_undefined, 0) if has_undefined else x).reshape(-1)
    if is_start is None:
        starts = torch.arange(0, x.numel(), x.shape[1], device=x.device)
    else:
        first = torch.arange(x.shape[1], device=x.device) == 0
        starts = (is_start | first).reshape(-1).nonzero().squeeze(1)
    places: Tensor | None = None  # where each block begins in x; None: each entry is one
    for _ in range(MOST_ROUNDS):
        is_begin = _is_begin(means, starts)
        begins = _positions(is_begin)
        if len(begins) == len(means):
            break
        places = begins if places is None else places[begins]
        starts = torch.searchsorted(begins, starts)
        sums = _sums_from(sums, is_begin, begins)
        means = sums / _lengths(places, x.numel())
    else:
        sums, places = _pool_in_order(sums, places, starts, x.numel())
        means = sums / _lengths(places, x.numel())
    pooled = means.clone() if places is None else _repeated(means, _lengths(places, x.numel()))
    pooled = pooled.view(x.shape)
    return pooled.masked_fill_(is_undefined, torch.nan) if has_undefined else pooled


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


def _is_begin(means: Tensor, starts: Tensor) -> Tensor:
    """Whether a block does not lie below the one before, or begins a stretch."""
    is_begin = torch.ones_like(means, dtype=torch.bool)
    torch.le(means[:-1], means[1:], out=is_begin[1:])
    is_begin[starts] = True
    return is_begin


def _positions(flags: Tensor) -> Tensor:
    if flags.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(flags.numpy()))
    return flags.nonzero().squeeze(1)


def _lengths(places: Tensor, count: int) -> Tensor:
    lengths = torch.empty_like(places)
    torch.sub(places[1:], places[:-1], out=lengths[:-1])
    lengths[-1] = count - places[-1]
    return lengths


def _sums_from(values: Tensor, is_begin: Tensor, begins: Tensor) -> Tensor:
    """Sums of the values from each of the ``begins`` to the next."""
    if values.device.type == "cpu":
        return values.new_zeros(len(begins) + 1).index_add_(0, is_begin.cumsum(0), values)[1:]
    # Elsewhere the order of the additions would change from run to run.
    return torch.segment_reduce(values, "sum", lengths=_lengths(begins, len(values)))


def _repeated(values: Tensor, lengths: Tensor) -> Tensor:
    if values.device.type == "cpu":
        return torch.from_numpy(np.repeat(values.numpy(), lengths.numpy()))
    return values.repeat_interleave(lengths)


def _pool_in_order(sums: Tensor, places: Tensor | None, starts: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The same from left to right: as many steps as there are blocks, whatever their values."""
    assert places is not None
    is_first = torch.zeros_like(places, dtype=torch.bool)
    is_first[starts] = True
    lengths = _lengths(places, count)
    blocks: list[tuple[float, float, int, int, bool]] = []
    columns = (sums, lengths, places, is_first)
    for total, length, place, first in zip(*(column.tolist() for column in columns), strict=True):
        while not first and blocks[-1][0] > total / length:
            _, below, more, place, first = blocks.pop()
            total, length = total + below, length + more
        blocks.append((total / length, total, length, place, first))
    return sums.new_tensor([block[1] for block in blocks]), places.new_tensor([block[3] for block in blocks])
