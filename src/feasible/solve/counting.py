"""How many members a set has, as a power: numbers that cannot be written down, or even computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from feasible.errors import UnsupportedError
from feasible.sets import Candidates, FiniteSet, Flatten, Integers, OneHot, Permutation, Set, Union, Where
from feasible.sets.blocks import block_shape
from feasible.sets.picked import Picked

_WRITTEN = 10**9
"""Larger numbers are shown as powers only."""
_COUNTED = 10_000
"""Of sets of other kinds with no more entries the members are counted by themselves."""


@dataclass(frozen=True)
class Count:
    """``base^exponent`` members, or several such numbers multiplied; without parts: not finitely many."""

    parts: tuple[tuple[int, int], ...] | None

    @staticmethod
    def of_all(counts: Sequence[Count]) -> Count:
        """The number of choices of several weights together."""
        parts: dict[int, int] = {}
        for count in counts:
            if count.parts is None:
                return Count(None)
            for base, exponent in count.parts:
                parts[base] = parts.get(base, 0) + exponent
        return Count(tuple(parts.items()))

    @property
    def is_finite(self) -> bool:
        """Whether there are finitely many."""
        return self.parts is not None

    @property
    def digits(self) -> float:
        """The logarithm of the number to base 10; ``math.inf`` where there is no such number."""
        if self.parts is None:
            return math.inf
        return sum(exponent * math.log10(max(base, 1)) for base, exponent in self.parts)

    def up_to(self, digits: float) -> int | None:
        """The number itself, unless it has more digits: it may be too large to be computed."""
        if self.parts is None or self.digits > digits:
            return None
        number: int = math.prod(base**exponent for base, exponent in self.parts)
        return number

    @property
    def number(self) -> int | None:
        """The number itself where it has at most nine digits."""
        number = self.up_to(9.5)
        return number if number is not None and number <= _WRITTEN else None

    @property
    def text(self) -> str | None:
        """As it is shown; ``None`` where there is no such number."""
        return None if self.parts is None else str(self)

    def __str__(self) -> str:
        shown = [
            f"{_factorial_or_number(base)}^{exponent}" if exponent > 1 else _factorial_or_number(base)
            for base, exponent in self.parts or ()
            if base > 1 and exponent
        ]
        power, number = " · ".join(shown), self.number
        if number is None:
            return power
        return f"{power} = {number:,}" if power and power != f"{number:,}" else f"{number:,}"


def count_members(set: Set, shape: Sequence[int]) -> Count:
    """How many members a tensor of this shape has; free entries make it infinite, but do not count.

    >>> from feasible import FiniteSet
    >>> str(count_members(FiniteSet([-1, 0, 1]), (10, 32)))
    '3^320'
    """
    size = torch.Size(shape)
    if isinstance(set, FiniteSet):
        return Count(((len(set.numbers), math.prod(size)),))
    if isinstance(set, Integers):
        low, high = set._ends()
        return Count(None if low is None or high is None else ((high - low + 1, math.prod(size)),))
    if isinstance(set, OneHot):
        length = set.length(size)
        return Count(((length, math.prod(size) // max(length, 1)),))
    if isinstance(set, Permutation):
        return Count(((math.factorial(size[-1]), math.prod(size[:-2])),))
    if isinstance(set, Candidates):
        return Count(((set.count(size), 1),))
    if isinstance(set, Flatten):
        return count_members(set.inner, torch.empty(size, device="meta").flatten(set.start_dim).shape)
    if isinstance(set, Where):
        return count_members(set.inner, (int(set.mask.expand(size).sum()),))
    if isinstance(set, Picked):
        return count_members(set.inner, block_shape(size, set.axes))
    if isinstance(set, Union) and set.offers("members"):
        single = set.single(size)
        if math.prod(single) > _COUNTED:
            return Count(None)
        return Count(((set.count(single), set.units(size).numel()),))
    if math.prod(size) > _COUNTED:
        return Count(None)
    try:
        return Count(((set.count(size), 1),))
    except UnsupportedError:
        return Count(None)


def _factorial_or_number(base: int) -> str:
    if base <= _WRITTEN:
        return f"{base:,}"
    n, factorial = 1, 1
    while factorial < base:
        n, factorial = n + 1, factorial * (n + 1)
    return f"{n}!" if factorial == base else f"10^{math.log10(base):.0f}"
