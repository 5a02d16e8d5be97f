"""Choosing among entries: fast selection by a mask, the largest entries of a row, values without a slope."""

from __future__ import annotations

import torch
from torch import Tensor

from feasible.sets.precision import wide
from feasible.sets.units import is_differentiated, is_plain_cpu

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_FEW = 16
"""Rows up to this length are ranked by comparing all pairs."""


def select(mask: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """``torch.where(mask, first, second)`` for tensors of one shape and dtype.

    On the CPU ``torch.where`` reads a random mask about five times more slowly than arithmetic on bits does.
    """
    if not (is_plain(first) and is_plain(second)):
        return torch.where(mask, first, second)
    integers = INTEGERS[first.dtype.itemsize]
    first_bits, second_bits = first.detach().view(integers), second.detach().view(integers)
    changed = (first_bits ^ second_bits).bitwise_and_(mask.to(integers).neg_())
    return changed.bitwise_xor_(second_bits).view(first.dtype)


def is_plain(x: Tensor) -> bool:
    """Whether it is an eager CPU tensor that nothing differentiates, maps or shards."""
    return is_plain_cpu(x) and not is_differentiated(x) and type(x.detach()) is Tensor


def without_slope(value: Tensor, x: Tensor) -> Tensor:
    """``value``, a piecewise constant function of ``x``: its derivative with respect to x is zero."""
    if not is_differentiated(x):
        return value
    return torch.where(torch.zeros_like(value, dtype=torch.bool), x, value)


def keep_zeros(x: Tensor, projected: Tensor) -> Tensor:
    """``projected``, with the sign of the zeros that were zeros already."""
    if not is_plain(x):
        return torch.where(x == projected, x, projected)
    integers = INTEGERS[x.dtype.itemsize]
    # A comparison that is written as integers takes half the time of one that is written as bools.
    equal = torch.eq(x, projected, out=torch.empty_like(x, dtype=integers)).neg_()
    bits = projected.view(integers)
    return (x.view(integers) ^ bits).bitwise_and_(equal).bitwise_xor_(bits).view(x.dtype)


def keep_largest(rows: Tensor, count: int) -> Tensor:
    """Rows with zeros in the place of all but the ``count`` largest magnitudes (the first of equal ones).

    The derivative is 1 at what is kept and 0 elsewhere; a row with a NaN becomes NaN.
    """
    length = rows.shape[-1]
    if count >= length:
        return spread_nan(rows, rows.clone())
    magnitude = rows.detach().abs()
    if length > _FEW and is_plain(rows) and _prefers_topk(magnitude, count):
        return _scatter_largest(rows.detach(), magnitude, count)
    magnitude = wide(magnitude)
    return spread_nan(rows, _zero_unless(largest(magnitude, count), rows, magnitude))


def _prefers_topk(magnitude: Tensor, count: int) -> bool:
    """Whether ``topk`` is faster than NumPy's selection: few of many, small tensors, float64, many equal numbers."""
    return (
        count * 64 <= magnitude.shape[-1]
        or magnitude.numel() < 2**15
        or magnitude.dtype == torch.float64
        or _has_many_equals(magnitude)
    )


def _has_many_equals(magnitude: Tensor) -> bool:
    """Whether a quarter of the positive numbers at the beginning of the first row are the same one."""
    first = magnitude.reshape(-1)[: min(magnitude.shape[-1], 1024)]
    positive = first[first > 0]
    counts = torch.unique(positive, return_counts=True)[1]
    return len(counts) > 0 and 4 * int(counts.max()) > len(positive)


def _scatter_largest(rows: Tensor, magnitude: Tensor, count: int) -> Tensor:
    """As ``keep_largest``: written into zeros where there is no doubt which they are. Uses ``magnitude`` up."""
    values, places = magnitude.topk(count, dim=-1, sorted=False)
    cut, following = values.amin(-1), magnitude.scatter_(-1, places, -1.0).amax(-1)
    kept = magnitude.zero_().scatter_(-1, places, rows.gather(-1, places))  # fresh memory would cost more
    doubtful = ~(cut > following) | (following == 0)  # ties, NaN, and members, whose zeros keep their sign
    if bool(doubtful.any()):
        unclear = rows[doubtful]
        sizes = unclear.abs()
        keep = _first_of_equals(sizes, cut[doubtful].unsqueeze(-1), count)
        kept[doubtful] = spread_nan(unclear, _zero_unless(keep, unclear, sizes))
    return kept


def _zero_unless(keep: Tensor, x: Tensor, magnitude: Tensor) -> Tensor:
    """``x`` where ``keep``, else 0; what is 0 already keeps its sign, and has the derivative 0."""
    plain = x.detach()
    if is_plain(x):
        integers = INTEGERS[x.dtype.itemsize]
        bits = (keep | (magnitude == 0)).to(integers).neg_()
        return bits.bitwise_and_(plain.view(integers)).view(x.dtype)
    zero = torch.zeros_like(plain)
    return torch.where(keep, x, torch.where(plain == 0, plain, zero))


def spread_nan(rows: Tensor, projected: Tensor) -> Tensor:
    """``projected``, all NaN in the rows that hold a NaN."""
    values = rows.detach()
    # Magnitudes cannot cancel, so that their sum is NaN only if one of them is.
    if is_plain_cpu(values) and not bool(values.abs().sum().isnan()):
        return projected
    return torch.where(values.isnan().any(-1, keepdim=True), torch.full_like(projected, torch.nan), projected)


def largest(magnitude: Tensor, count: int) -> Tensor:
    """Mask of the ``count`` largest entries of each row of numbers ≥ 0, the first of equal ones.

    Where a row has fewer positive entries, more zeros than asked for may be marked.
    """
    if magnitude.shape[-1] <= _FEW:
        return _by_rank(magnitude, count)
    if not is_plain(magnitude):
        return _first_of_equals(magnitude, magnitude.topk(count, dim=-1).values[..., -1:], count)
    cut = _cut(magnitude, count)
    keep = magnitude >= cut
    ambiguous = (keep.sum(-1, dtype=torch.int32) > count) & (cut > 0).squeeze(-1)
    if bool(ambiguous.any()):
        keep[ambiguous] = _first_of_equals(magnitude[ambiguous], cut[ambiguous], count)
    return keep


def _by_rank(magnitude: Tensor, count: int) -> Tensor:
    """An entry is kept where fewer than ``count`` others outrank it."""
    columns = magnitude.unbind(-1)
    outranked = [torch.zeros_like(column, dtype=torch.uint8) for column in columns]
    for i, first in enumerate(columns):
        for j, later in enumerate(columns[i + 1 :], start=i + 1):
            is_larger = later > first
            outranked[i] = outranked[i] + is_larger
            outranked[j] = outranked[j] + ~is_larger
    return torch.stack([number < count for number in outranked], -1)


def _first_of_equals(magnitude: Tensor, cut: Tensor, count: int) -> Tensor:
    """Everything above the cut, and as many at the cut as there is room for, from the left."""
    above, level = magnitude > cut, magnitude == cut
    room = count - above.sum(-1, keepdim=True, dtype=torch.int32)
    return above | (level & (level.cumsum(-1, dtype=torch.int32) <= room))


def _cut(magnitude: Tensor, count: int) -> Tensor:
    """The smallest magnitude that is kept, for each row; CPU tensors only."""
    # NumPy selects with vector instructions, in half the time of topk. It is slow where many numbers
    # are equal to those of the smaller part; that is why the zeros are on the other side.
    negative = magnitude.neg().contiguous()
    negative.numpy().partition(count - 1, axis=-1)
    return negative[..., count - 1 : count].neg()
