"""Jets: a tensor together with some of its derivatives by the coordinates, and how they are multiplied and composed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Index(NamedTuple):
    """Which derivative: ``∂_i ∂_j …`` for sorted coordinates, or the sum ``Σ_i ∂_i²`` over them."""

    coordinates: tuple[int, ...] = ()
    is_laplacian: bool = False

    @property
    def order(self) -> int:
        """How often is differentiated."""
        return 2 if self.is_laplacian else len(self.coordinates)


VALUE = Index()


class NoJetError(Exception):
    """A function has no rule for jets; the message names it."""


def partial(coordinates: Iterable[int]) -> Index:
    """The index of a mixed partial derivative."""
    return Index(tuple(sorted(coordinates)))


def laplacian(coordinates: Iterable[int]) -> Index:
    """The index of a Laplacian."""
    return Index(tuple(sorted(coordinates)), True)


def closure(wanted: Iterable[Index]) -> tuple[Index, ...]:
    """These indices and all that their rules need, lower orders first; without Laplacians whose parts are there."""
    found = {VALUE}
    laplacians = [index for index in wanted if index.is_laplacian]
    for index in wanted:
        if not index.is_laplacian:
            found |= {partial(block) for block in subsets(index.coordinates)}
    for index in laplacians:
        found |= {Index((i,)) for i in index.coordinates}
        if not all(Index((i, i)) in found for i in index.coordinates):
            found.add(index)
    return tuple(sorted(found, key=lambda index: (index.order, index)))


def subsets(items: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All parts of a sequence, by place."""
    for mask in range(2 ** len(items)):
        yield tuple(item for place, item in enumerate(items) if mask >> place & 1)


class Jet:
    """A function of the coordinates at n points: its value, and the derivatives of one list of indices.

    It stands where a tensor would: modules call it, and the rules say what a function of torch makes of it.
    A coefficient that is not there is zero.

    Args:
        indices: the closed list that is carried along.
        parts: the value and the derivatives that are not zero.
        smoothness: how many derivatives are continuous functions.
        is_rectified: whether the value is 0 on one side of its kinks, so that its square has none.
    """

    def __init__(
        self,
        indices: tuple[Index, ...],
        parts: Mapping[Index, Tensor],
        smoothness: float = math.inf,
        is_rectified: bool = False,
    ) -> None:
        value = parts[VALUE]
        self.indices = indices
        self.parts = {
            index: part if part.shape == value.shape else part.expand(value.shape)
            for index, part in parts.items()
        }
        self.smoothness = smoothness
        self.is_rectified = is_rectified
        self.is_guarded = False
        """Whether it went through a function such as ``clamp``."""
        self.kink = ""
        """The function that the smoothness ends with."""

    @property
    def value(self) -> Tensor:
        """The function itself."""
        return self.parts[VALUE]

    @property
    def shape(self) -> torch.Size:
        """Of the value, and of each derivative."""
        return self.value.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of the value."""
        return self.value.dtype

    @property
    def device(self) -> torch.device:
        """Of the value."""
        return self.value.device

    @property
    def ndim(self) -> int:
        """Of the value."""
        return self.value.dim()

    def dim(self) -> int:
        """Of the value."""
        return self.value.dim()

    def size(self, dim: int | None = None) -> Any:
        """Of the value."""
        return self.value.size() if dim is None else self.value.size(dim)

    def like(self, parts: Mapping[Index, Tensor], *others: Jet) -> Jet:
        """A jet of the same indices, as smooth as this one and the others."""
        roughest = min((self, *others), key=lambda jet: jet.smoothness)
        result = Jet(self.indices, parts, roughest.smoothness)
        result.kink = roughest.kink
        result.is_guarded = any(jet.is_guarded for jet in (self, *others))
        return result

    @classmethod
    def __torch_function__(cls, function: Callable[..., Any], *rest: Any, **options: Any) -> Any:
        """Functions come here where ``Jets`` is not listening: none is known."""
        raise NoJetError(f"{function} was called outside of derivatives")

    def __bool__(self) -> bool:
        raise NoJetError("a decision depends on the coordinates")

    def __eq__(self, other: object) -> bool:
        raise NoJetError("a comparison depends on the coordinates")

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.value)


def coordinates(x: Tensor, indices: tuple[Index, ...]) -> Jet:
    """The jet of x itself, (n, d): the derivatives by its columns are unit vectors."""
    units = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    parts = {index: units[index.coordinates[0]].expand_as(x) for index in indices if index.order == 1}
    return Jet(indices, {VALUE: x, **parts})


def product(a: Jet, b: Jet, multiply: Callable[[Tensor, Tensor], Tensor]) -> Jet:
    """Leibniz's rule for anything bilinear: ``(ab)_α = Σ_{β ⊆ α} a_β b_{α−β}``."""
    parts: dict[Index, Tensor] = {}
    for index in a.indices:
        for (left, right), count in pairs(index).items():
            if left in a.parts and right in b.parts:
                add(parts, index, multiply(a.parts[left], b.parts[right]), count)
    return a.like(parts, b)


def composition(z: Jet, derivatives: Sequence[Tensor], ratio: Tensor | None = None) -> Jet:
    """Faà di Bruno's rule for an elementwise f: ``(f∘z)_α = Σ_π f⁽ᵖ⁾(z) Π_{β ∈ π} z_β``.

    The sum is over the partitions π of α, into p blocks each.

    Args:
        z: the inner function.
        derivatives: f(z), f′(z), … up to the highest order of the indices.
        ratio: ``f″/f′``, in place of the second derivative and where that is the highest.
    """
    parts = {VALUE: derivatives[0]}
    products: dict[tuple[Index, ...], Tensor] = {}
    for index in z.indices[1:]:
        sums: dict[int, Tensor] = {}
        for blocks, count in partitions(index).items():
            if all(block in z.parts for block in blocks):
                if blocks not in products:
                    products[blocks] = math.prod((z.parts[b] for b in blocks[1:]), start=z.parts[blocks[0]])
                add(sums, len(blocks), products[blocks], count)
        if ratio is not None and 2 in sums:
            bent = torch.addcmul(sums[1], ratio, sums[2]) if 1 in sums else ratio * sums[2]
            parts[index] = derivatives[1] * bent
            continue
        for power, total in sums.items():
            add(parts, index, derivatives[power] * total)
    return z.like(parts)


def add(totals: dict[Any, Tensor], key: Any, term: Tensor, count: int = 1) -> None:
    """Add a term so many times."""
    term = term if count == 1 else count * term
    totals[key] = totals[key] + term if key in totals else term


@lru_cache(maxsize=1024)
def pairs(index: Index) -> Counter[tuple[Index, Index]]:
    """How a derivative of a product is shared between its factors."""
    if index.is_laplacian:
        both = {(Index((i,)), Index((i,))): 2 for i in index.coordinates}
        return Counter({(index, VALUE): 1, (VALUE, index): 1, **both})
    places = range(index.order)
    return Counter(
        (
            partial(index.coordinates[place] for place in left),
            partial(index.coordinates[place] for place in places if place not in left),
        )
        for left in subsets(places)
    )


@lru_cache(maxsize=1024)
def partitions(index: Index) -> Counter[tuple[Index, ...]]:
    """The partitions of a derivative into blocks, with how often each occurs."""
    if index.is_laplacian:
        squares: list[tuple[Index, ...]] = [(Index((i,)), Index((i,))) for i in index.coordinates]
        return Counter([(index,), *squares])
    return Counter(
        tuple(sorted(partial(index.coordinates[place] for place in block) for block in blocks))
        for blocks in set_partitions(list(range(index.order)))
    )


def set_partitions(places: list[int]) -> Iterator[list[list[int]]]:
    """All partitions of a set."""
    if not places:
        yield []
        return
    first, *rest = places
    for blocks in set_partitions(rest):
        yield [[first], *blocks]
        for number, block in enumerate(blocks):
            yield [*blocks[:number], [first, *block], *blocks[number + 1 :]]
