"""What a discrete set allows, in the form that a search branches on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.sets import (
    Candidates,
    Equal,
    FiniteSet,
    Flatten,
    Frozen,
    Integers,
    OneHot,
    Permutation,
    Set,
    Where,
)

Array = NDArray[np.float64]

MOST_MEMBERS = 2**20
"""Sets that can only be listed are refused from this number of entries of all members on."""
LONGEST_RANGE = 2**16
"""Whole numbers of a longer range are listed only near the optimum."""


@dataclass(frozen=True)
class Whole:
    """Whole numbers from ``lower`` to ``upper`` that the weight's dtype holds; the ends may be infinite."""

    lower: float
    upper: float
    dtype: torch.dtype

    def listed(self, lower: float = -math.inf, upper: float = math.inf) -> Array:
        """Those between two further bounds."""
        low, high = math.ceil(max(self.lower, lower)), math.floor(min(self.upper, upper))
        numbers = torch.arange(low, high + 1, dtype=torch.float64)
        return numbers[numbers.to(self.dtype).double() == numbers].numpy()


Values = Array | Whole | None
"""What one entry may be: sorted numbers, a range of whole ones, or anything (``None``)."""


@dataclass(frozen=True)
class Entries:
    """Every entry of W (d, m) by itself: ``values[i][j]``."""

    values: list[list[Values]]


@dataclass(frozen=True)
class Rows:
    """Every row of W (d, m) is one of the vectors (s, m); ``distinct``: no two rows are equal."""

    vectors: Array
    distinct: bool


@dataclass(frozen=True)
class Listed:
    """W (d, m), or every column of it by itself, is one of the matrices (s, d, m or 1)."""

    matrices: Array
    per_column: bool


Choices = Entries | Rows | Listed


def choices(set: Set, like: Tensor, transposed: bool) -> Choices:
    """What the set allows a tensor such as ``like`` to be, as choices for W (d, m).

    Args:
        set: a discrete set.
        like: a tensor of the shape and dtype that the set speaks of, (d, m) or (d,); (m, d) if ``transposed``.
        transposed: whether W is the transpose of what the set speaks of.

    Raises:
        ValueError: the set cannot hold such a tensor.
        UnsupportedError: it is not discrete, or no exact search is known for it.
    """
    if not isinstance(set, Set):
        raise ValueError(f"expected a set such as FiniteSet([-1, 0, 1]), got {set!r}.")
    bound = set.bind(like)
    if isinstance(bound, Flatten) and bound.start_dim % max(like.dim(), 1) == like.dim() - 1:
        bound = bound.inner  # the last dimension alone: the same tensor
    entries = _entries(bound, like)
    if entries is not None:
        table = [entries] if like.dim() == 1 else entries
        is_column = like.dim() == 1 or transposed
        return Entries([list(column) for column in zip(*table)] if is_column else table)
    if isinstance(bound, OneHot) and bound.dim is not None:
        along_d = like.dim() == 1 or (bound.dim % 2 == 1) == transposed
        if along_d:
            return Listed(np.eye(bound.length(like.shape))[:, :, None], per_column=True)
        return Rows(np.eye(bound.length(like.shape)), distinct=False)
    if isinstance(bound, Permutation):
        return Rows(np.eye(like.shape[-1]), distinct=True)
    members = _members(bound, like).double()
    shaped = members.reshape(len(members), *(like.shape if like.dim() == 2 else (*like.shape, 1)))
    return Listed(
        (shaped.mT if transposed and like.dim() == 2 else shaped).contiguous().numpy(), per_column=False
    )


def _entries(set: Set, like: Tensor) -> list[Any] | None:
    """What each entry may be, nested as the tensor is; ``None`` where entries depend on each other."""
    flat = _flat_entries(set, like)
    if flat is None:
        return None
    if like.dim() == 1:
        return flat
    columns = like.shape[1]
    return [flat[start : start + columns] for start in range(0, len(flat), columns)]


def _flat_entries(set: Set, like: Tensor) -> list[Values] | None:
    count = like.numel()
    if isinstance(set, FiniteSet):
        return [np.array(set.numbers)] * count
    if isinstance(set, Integers):
        low, high = set._ends()
        whole = Whole(-math.inf if low is None else low, math.inf if high is None else high, like.dtype)
        is_short = whole.upper - whole.lower < LONGEST_RANGE
        return [whole.listed() if is_short else whole] * count
    if isinstance(set, Equal | Frozen):
        fixed = set.project(torch.zeros_like(like)).double().flatten().tolist()
        return [np.array([value]) for value in fixed]
    if isinstance(set, Flatten):
        return _flat_entries(set.inner, like.flatten(set.start_dim)) if set.separable else None
    if isinstance(set, Where):
        inner = _flat_entries(set.inner, like)
        picked = set.mask.expand(like.shape).flatten().tolist()
        return None if inner is None else [value if pick else None for value, pick in zip(inner, picked)]
    return None


def _members(set: Set, like: Tensor) -> Tensor:
    """All members, for sets that have few enough of them."""
    if isinstance(set, Candidates):
        return set.stack
    if not (set.discrete and set.offers("members") and set.offers("count")):
        raise UnsupportedError(
            f"{set!r} has no exact solver: its members cannot be listed, or its entries cannot be chosen by "
            "themselves.\n  Works with: FiniteSet, Integers, OneHot, Permutation, Candidates, FiniteSet.where(mask)."
        )
    count = set.count(like.shape)
    if count * like.numel() > MOST_MEMBERS:
        raise UnsupportedError(
            f"{set!r} has too many members in a tensor of shape {tuple(like.shape)} to try one after the other.\n"
            "  Train it instead: SoftmaxAnneal or StraightThrough, then problem.polish."
        )
    return torch.stack(list(set.members(like.shape))).to(like.dtype)
