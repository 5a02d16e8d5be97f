"""Which of several numbers is the nearest, and which whole numbers a dtype holds."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from feasible.sets.selection import INTEGERS, is_plain
from feasible.sets.units import is_plain_cpu

_FEW = 32
"""Up to so many values, counting the cuts below an entry beats a binary search on the CPU."""
_FEWER = 8
"""Up to so many values, adding differences of their bits beats reading them from a table."""
_PIECE = 2**16
"""Entries that are treated at a time: what a few passes over them need stays in the cache."""


def by_pieces(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function of single entries, on pieces of a large tensor of the CPU."""
    if x.numel() <= _PIECE or not (is_plain(x) and x.is_contiguous()):
        return function(x)
    whole = torch.empty_like(x)
    for part, piece in zip(torch.split(whole.view(-1), _PIECE), torch.split(x.view(-1), _PIECE), strict=True):
        part.copy_(function(piece))
    return whole


def cuts_between(values: Tensor) -> Tensor:
    """The largest number of the dtype that is at least as near to each value as to the next, and +inf."""
    exact = values.double()
    shrink = torch.where(exact.abs().amax() > 1e300, 0.5, 1.0)  # sums of two stay finite
    low, high = exact[:-1] * shrink, exact[1:] * shrink
    total = low + high
    part = total - low
    error = (low - (total - part)) + (high - part)  # what rounding has taken from the sum (Knuth)
    half = total * 0.5  # rounded where it is subnormal
    middle = torch.where(shrink < 1, total, half)
    is_above = torch.where(shrink < 1, error < 0, (half * 2 > total) | ((half * 2 == total) & (error < 0)))
    middle = _next_below(middle, is_above)
    rounded = middle.to(values.dtype)
    rounded = _next_below(rounded, rounded.double() > middle)
    return torch.cat([rounded, rounded.new_full((1,), math.inf)])


def _next_below(x: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, torch.nextafter(x, torch.full_like(x, -math.inf)), x)


def chosen(x: Tensor, table: Tensor, cuts: Tensor) -> Tensor:
    """For each entry the number of the table in whose cell it lies, for NaN the last one; their bits are kept."""
    if len(cuts) > _FEWER or not is_plain(x):
        return table.index_select(0, cell(x, cuts).reshape(-1)).reshape(x.shape)
    integers = INTEGERS[table.dtype.itemsize]
    bits = table.view(integers).tolist()
    found = torch.full_like(x, bits[-1], dtype=integers)
    not_above = torch.empty_like(found)
    for number in range(len(cuts) - 1, -1, -1):
        torch.le(x, cuts[number], out=not_above)
        found.add_(not_above, alpha=_wrapped(bits[number] - bits[number + 1], 8 * table.dtype.itemsize))
    return found.view(table.dtype)


def _wrapped(difference: int, width: int) -> int:
    """The signed integer of so many bits that sums which wrap around cannot tell from the difference."""
    half = 1 << (width - 1)
    return (difference + half) % (2 * half) - half


def cell(x: Tensor, cuts: Tensor) -> Tensor:
    """How many cuts lie below each entry; NaN lies above them all."""
    if len(cuts) > _FEW or not is_plain_cpu(x):
        return torch.bucketize(x.contiguous(), cuts)
    above = torch.full_like(x, len(cuts), dtype=torch.int32)
    not_above = torch.empty_like(above)
    for cut in cuts:
        # Written as integers, a comparison takes half the time that it takes as bools.
        above.sub_(torch.le(x, cut, out=not_above))
    return above


def rounded_down(bound: int, dtype: torch.dtype) -> float:
    """The largest number of the dtype that is not above the bound."""
    kind = torch.finfo(dtype)
    excess = abs(bound).bit_length() - (1 - round(math.log2(kind.eps)))
    if excess > 0:
        bound = (bound >> excess) << excess
    if abs(bound) <= int(kind.max):
        return float(bound)
    return kind.max if bound > 0 else -math.inf
