"""Vectors described by which of their entries may differ from zero."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor

from feasible.sets.relaxations import OneHotRelaxation
from feasible.sets.rivals import Rivals, rivals_of_unit_vectors
from feasible.sets.selection import keep_largest, keep_zeros, without_slope
from feasible.sets.tuples import tuples
from feasible.sets.units import Vectors, along, is_plain_cpu

__all__ = ["KSparse", "NofM", "OneHot"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class OneHot(Vectors):
    """Vectors with a single 1 and zeros elsewhere.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` over the unit vectors along ``dim``: the 1 goes to the largest
    entry, to the first of several.

    Args:
        dim: the dimension that holds one vector; all others are batches. ``None``: the whole tensor.

    Raises:
        ValueError: the vectors have no entries.

    >>> OneHot(dim=0).project(torch.tensor([[0.2, 3.0], [0.4, 3.0]]))
    tensor([[0., 1.],
            [1., 0.]])
    """

    dim: int | None = -1

    convex = False
    discrete = True
    exact = True
    default_method = "StraightThrough"

    def check_shape(self, shape: torch.Size) -> None:
        """A vector without entries has no room for a 1."""
        super().check_shape(shape)
        if self.has_empty_vectors(shape):
            raise ValueError(
                f"{self!r} is empty: a vector without entries, as in {tuple(shape)}, holds no 1."
            )

    def project(self, x: Tensor) -> Tensor:
        """1 at the largest entry; the derivative is 0."""
        return without_slope(along(self.dim, x.detach(), _one_at_largest), x)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each vector is one of the unit vectors."""
        rows = self.rows(x)
        return (rows == 1).sum(-1).eq(1) & (rows != 0).sum(-1).eq(1)

    def support(self, y: Tensor) -> Tensor:
        """``max(y)``."""
        return self.rows(y).amax(-1)

    def lmo(self, gradient: Tensor) -> Tensor:
        """1 at the smallest gradient, the first of several."""
        return along(self.dim, -gradient.detach(), _one_at_largest)

    def relaxation(self) -> OneHotRelaxation:
        """The softmax of coordinates."""
        return OneHotRelaxation(self)

    def rivals(self, x: Tensor) -> Rivals:
        """Among the unit vectors."""
        found = rivals_of_unit_vectors(self.rows(x), self.rows(self.project(x)))
        residual, slopes = (self.from_rows(rows, x) for rows in (found.residual, found.slopes))
        return found._replace(residual=residual, slopes=slopes)

    def spacing(self, shape: Sequence[int]) -> float:
        """``√2``, between any two."""
        return math.sqrt(2)

    def members(self, shape: Sequence[int]) -> Iterator[Tensor]:
        """All of them: the last vector's 1 moves fastest, from the first entry to the last."""
        size = torch.Size(shape)
        vectors, length = self._number_of_vectors(size), self.length(size)
        like = torch.empty(size, device="meta")
        rows = self.rows(like).shape

        def member(places: tuple[int, ...]) -> Tensor:
            index = torch.tensor(places, dtype=torch.long).reshape(rows[:-1])
            ones = torch.nn.functional.one_hot(index, length)
            return self.from_rows(ones.to(torch.get_default_dtype()), like)

        return map(member, tuples(lambda: range(length), vectors))

    def count(self, shape: Sequence[int]) -> int:
        """Length of a vector to the power of their number."""
        vectors = self._number_of_vectors(torch.Size(shape))
        return int(self.length(torch.Size(shape)) ** vectors)

    def _number_of_vectors(self, shape: torch.Size) -> int:
        self.check_shape(shape)
        return math.prod(shape) // max(self.length(shape), 1)


def _one_at_largest(rows: Tensor) -> Tensor:
    if rows.numel() == 0:
        return rows.clone()
    place = rows.argmax(-1, keepdim=True)  # of a NaN, if there is one
    largest = rows.gather(-1, place)
    ones = torch.zeros_like(rows).scatter(-1, place, 1.0)
    if is_plain_cpu(rows) and not bool(((largest == 1) | largest.isnan()).any()):
        return ones
    # Members are what they are, down to the sign of their zeros.
    return torch.where(largest.isnan(), largest, keep_zeros(rows, ones))


class Sparse(Vectors):
    """Vectors of which only so many entries may differ from zero."""

    convex = False
    exact = True

    def support(self, y: Tensor) -> Tensor:
        """0 at 0, else +inf: the set holds a whole line in every direction of the axes."""
        rows = self.rows(y)
        size = rows.abs().sum(-1)
        return torch.where(size > 0, torch.full_like(size, math.inf), size)


@final
@dataclass(frozen=True, eq=False, repr=False)
class KSparse(Sparse):
    """Vectors with at most ``k`` entries that differ from zero.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``‖p‖₀ ≤ k`` along ``dim``: the k entries of largest
    magnitude stay, the first of equal ones; all others become 0.

    Args:
        k: the largest number of entries that differ from zero, ≥ 1.
        dim: the dimension that holds one vector; all others are batches. ``None``: the whole tensor.

    Raises:
        ValueError: ``k`` is not a whole number ≥ 1, or larger than the vectors.

    >>> KSparse(2).project(torch.tensor([3.0, -1.0, 0.5, -4.0]))
    tensor([ 3.,  0.,  0., -4.])

    Source: Blumensath & Davies, *Iterative hard thresholding for compressed sensing* (2009).
    """

    k: int
    dim: int | None = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _is_whole(self.k) or self.k < 1:
            raise ValueError(
                f"KSparse: k must be a whole number ≥ 1, got {self.k!r}. For zeros use Equal(0)."
            )

    def check_shape(self, shape: torch.Size) -> None:
        """A vector must have at least k entries."""
        super().check_shape(shape)
        if self.k > self.length(shape):
            raise ValueError(
                f"{self!r} asks for k={self.k} of {self.length(shape)} entries in a tensor of shape {tuple(shape)}.\n"
                f"  Choose k ≤ {self.length(shape)}, or another dim."
            )

    def project(self, x: Tensor) -> Tensor:
        """The k largest magnitudes, where they are; the derivative is 1 there and 0 elsewhere."""
        return along(self.dim, x, lambda rows: keep_largest(rows, self.k))

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each vector has at most k entries that differ from zero, and no NaN."""
        return _has_at_most(self.k, self.rows(x))


@final
@dataclass(frozen=True, eq=False, repr=False)
class NofM(Sparse):
    """Vectors with at most ``n`` entries other than zero in every group of ``m`` consecutive ones.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``‖group‖₀ ≤ n`` for all groups along ``dim``: in each,
    the n entries of largest magnitude stay, the first of equal ones. ``NofM(2, 4)`` is 2:4 sparsity.

    Args:
        n: the largest number of entries other than zero in a group, ≥ 1.
        m: the length of a group, ≥ n.
        dim: the dimension that holds one vector; all others are batches. ``None``: the whole tensor.

    Raises:
        ValueError: not ``1 ≤ n ≤ m``, or the vectors do not divide into groups of m.

    >>> NofM(2, 4).project(torch.tensor([3.0, -1.0, 0.5, -4.0, 0.0, 0.1, 0.2, 0.3]))
    tensor([ 3.0000,  0.0000,  0.0000, -4.0000,  0.0000,  0.0000,  0.2000,  0.3000])

    Source: Mishra et al., *Accelerating sparse deep neural networks* (2021).
    """

    n: int
    m: int
    dim: int | None = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (_is_whole(self.n) and _is_whole(self.m) and 1 <= self.n <= self.m):
            raise ValueError(
                f"NofM: n and m must be whole numbers with 1 ≤ n ≤ m, got n={self.n!r} and m={self.m!r}.\n"
                "  NofM(2, 4) keeps two of four."
            )

    @classmethod
    def example(cls) -> Self:
        """Two of four."""
        return cls(2, 4)

    def check_shape(self, shape: torch.Size) -> None:
        """The length of a vector must be a multiple of m."""
        super().check_shape(shape)
        if self.length(shape) % self.m:
            raise ValueError(
                f"{self!r} needs vectors whose length divides by m={self.m}, but a tensor of shape {tuple(shape)} "
                f"has length {self.length(shape)}.\n  Choose another m or dim, or flatten first."
            )

    def project(self, x: Tensor) -> Tensor:
        """The n largest magnitudes of each group, where they are; the derivative is 1 there and 0 elsewhere."""
        return along(self.dim, x, lambda rows: keep_largest(self._groups(rows), self.n).flatten(-2))

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each group has at most n entries other than zero, and no NaN."""
        return _has_at_most(self.n, self._groups(self.rows(x))).all(-1)

    def _groups(self, rows: Tensor) -> Tensor:
        return rows.reshape(*rows.shape[:-1], rows.shape[-1] // self.m, self.m)


def _has_at_most(count: int, rows: Tensor) -> Tensor:
    return (torch.count_nonzero(rows, dim=-1) <= count) & ~rows.isnan().any(-1)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
