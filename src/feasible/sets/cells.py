"""Which of several numbers is the nearest, and which whole numbers a dtype holds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from feasible.sets.units import is_plain_cpu

_FEW = 32
"""Up to so many values, counting the cuts below an entry beats a binary search on the CPU."""


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


def cell(x: Tensor, cuts: Tensor) -> Tensor:
    """How many cuts lie below each entry; NaN lies above them all."""
    if len(cuts) > _FEW or not is_plain_cpu(x):
        return torch.bucketize(x.contiguous(), cuts)
    not_above = torch.zeros_like(x, dtype=torch.uint8)
    for cut in cuts:
        not_above += (x <= cut).view(torch.uint8)
    return (len(cuts) - not_above).to(torch.int32)


def rounded_down(bound: int, dtype: torch.dtype) -> float:
    """The largest number of the dtype that is not above the bound."""
    kind = torch.finfo(dtype)
    excess = abs(bound).bit_length() - (1 - round(math.log2(kind.eps)))
    if excess > 0:
        bound = (bound >> excess) << excess
    if abs(bound) <= int(kind.max):
        return float(bound)
    return kind.max if bound > 0 else -math.inf
