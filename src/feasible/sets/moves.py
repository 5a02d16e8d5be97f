"""From one member of a discrete set to its neighbours: the steps of a local search."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.sets.algebra import Flatten, Where
from feasible.sets.blocks import put, take
from feasible.sets.candidates import Candidates
from feasible.sets.combinatorial import OneHot
from feasible.sets.discrete import FiniteSet, Integers
from feasible.sets.fixed import Fixed
from feasible.sets.intersection import Intersection
from feasible.sets.picked import Picked
from feasible.sets.set import Set
from feasible.sets.transport import Permutation
from feasible.sets.union import Union

SHORT = 16
"""From longer lists of values an entry moves to the next smaller and the next larger one only."""
_LISTED = 4096
"""Sets without moves of their own are searched member by member up to this number of them."""
_BLOCK = 2**20
"""Changed entries that are listed at a time."""


@dataclass(frozen=True)
class Moves:
    """Moves that change the same number of entries each; places count through the flattened tensor.

    Moves that share a unit exclude each other; any others lead to a member together, too.
    """

    index: Tensor
    """Which entries change: (moves, entries)."""
    value: Tensor
    """What they become: (moves, entries)."""
    unit: Tensor
    """What the move takes possession of: (moves, units)."""

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, chosen: Tensor) -> Moves:
        return Moves(self.index[chosen], self.value[chosen], self.unit[chosen])

    def change(self, x: Tensor) -> Tensor:
        """New minus old values of the entries: (moves, entries)."""
        return self.value - x.reshape(-1)[self.index]

    def apply(self, x: Tensor) -> Tensor:
        """``x`` after all these moves."""
        flat = x.reshape(-1).clone()
        flat[self.index.reshape(-1)] = self.value.reshape(-1)
        return flat.reshape(x.shape)


@singledispatch
def neighbours(set: Set, x: Tensor) -> Iterator[Moves]:
    """The moves from the member ``x`` to the members next to it, in blocks and in a fixed order.

    Lists of values and whole numbers: one entry takes another value (the adjacent ones, where there are more
    than 16). ``OneHot``: the 1 of one vector moves. ``Permutation``: two rows swap. ``Candidates``, and any other
    set with at most 4,096 members: another member. Masks, flattened views and unions: as their parts. More
    kinds may be registered.

    Args:
        set: a discrete set, bound to x.
        x: a member.

    Raises:
        UnsupportedError: no moves are known.

    >>> from feasible import FiniteSet
    >>> [block.value.tolist() for block in neighbours(FiniteSet([-1, 0, 1]), torch.tensor([0.0, 1.0]))]
    [[[-1.0], [1.0], [-1.0], [0.0]]]

    Source: textbook local search, as in Aarts & Lenstra, *Local Search in Combinatorial Optimization* (1997).
    """
    if not set.discrete or not set.offers("count") or not set.offers("members"):
        raise UnsupportedError(f"{set!r} has no moves from one member to the next.")
    count = set.count(tuple(x.shape))
    if count > _LISTED:
        shown = f"{count:,}" if count < 10**15 else "all too many"
        raise UnsupportedError(
            f"{set!r} has no moves of its own, and its {shown} members are too many to try all (at most {_LISTED:,})."
        )
    return _to_each(torch.stack([member.to(x) for member in set.members(tuple(x.shape))]), x)


def discrete_entries(set: Set, x: Tensor) -> Tensor:
    """Which entries of ``x`` a discrete set or discrete parts of it decide about: a bool mask."""
    match set:
        case Where():
            return set.mask.to(x.device).expand_as(x) & discrete_entries(set.inner, x)
        case Picked():
            picked = discrete_entries(set.inner, take(x, set.axes))
            return put(torch.zeros_like(x, dtype=torch.bool), set.axes, picked)
        case Flatten():
            return discrete_entries(set.inner, _flat(set, x)).reshape(x.shape)
        case Intersection():
            found = torch.zeros_like(x, dtype=torch.bool)
            for part in set.parts:
                found = found | discrete_entries(part, x)
            return found
    return torch.full_like(x, set.discrete, dtype=torch.bool)


# -- entry by entry --------------------------------------------------------------------------------


@neighbours.register
def _(set: FiniteSet, x: Tensor) -> Iterator[Moves]:
    values = torch.tensor(set.numbers, dtype=torch.float64).to(x)
    if len(values) <= SHORT:
        offsets = torch.arange(len(values), device=x.device)
        return _to_values(x, lambda entries: values[offsets].expand(len(entries), -1))

    def adjacent(entries: Tensor) -> Tensor:
        place = torch.bucketize(entries, values)  # the entry's own
        both = torch.stack([place - 1, place + 1], 1)
        return values[both.clamp(0, len(values) - 1)]

    return _to_values(x, adjacent)


@neighbours.register
def _(set: Integers, x: Tensor) -> Iterator[Moves]:
    low, high = set.lower, set.upper
    if low is not None and high is not None and high - low < SHORT:
        return neighbours(FiniteSet(range(int(low), int(high) + 1)), x)
    return _to_values(x, lambda entries: set.project(torch.stack([entries - 1, entries + 1], 1)))


@neighbours.register
def _(set: Fixed, x: Tensor) -> Iterator[Moves]:
    return iter(())  # a single member has no neighbours


def _to_values(x: Tensor, values: Callable[[Tensor], Tensor]) -> Iterator[Moves]:
    """A move for every entry and every value that is another one."""
    flat = x.reshape(-1)
    for start in range(0, len(flat), _BLOCK // SHORT):
        entries = flat[start : start + _BLOCK // SHORT]
        options = values(entries)
        place, option = (options != entries.unsqueeze(1)).nonzero(as_tuple=True)
        index = (place + start).unsqueeze(1)
        yield Moves(index, options[place, option].unsqueeze(1), index)


# -- vectors and matrices --------------------------------------------------------------------------


@neighbours.register
def _(set: OneHot, x: Tensor) -> Iterator[Moves]:
    table = set.rows(torch.arange(x.numel(), device=x.device).reshape(x.shape))
    rows = set.rows(x).reshape(-1, table.shape[-1])
    table = table.reshape(rows.shape)
    length = rows.shape[1]
    most = max(_BLOCK // max(length, 1), 1)
    for start in range(0, len(rows), most):
        block = rows[start : start + most]
        vector, new = (block != 1).nonzero(as_tuple=True)
        old = block.argmax(1)[vector]
        vector = vector + start
        index = torch.stack([table[vector, old], table[vector, new]], 1)
        value = torch.tensor([0.0, 1.0], dtype=x.dtype, device=x.device).expand(len(index), 2)
        yield Moves(index, value, vector.unsqueeze(1))


@neighbours.register
def _(set: Permutation, x: Tensor) -> Iterator[Moves]:
    size = x.shape[-1]
    orders = x.reshape(-1, size, size).argmax(-1)
    value = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=x.dtype, device=x.device)
    for number, order in enumerate(orders):
        for first in range(size - 1):
            second = torch.arange(first + 1, size, device=x.device)
            i, j = torch.full_like(second, first), second
            row_i, row_j = (number * size + i) * size, (number * size + j) * size
            index = torch.stack([row_i + order[i], row_i + order[j], row_j + order[j], row_j + order[i]], 1)
            yield Moves(index, value.expand(len(index), 4), torch.stack([i, j], 1) + number * size)


@neighbours.register
def _(set: Candidates, x: Tensor) -> Iterator[Moves]:
    return _to_each(set.stack.to(x), x)


def _to_each(members: Tensor, x: Tensor) -> Iterator[Moves]:
    """A move to every member but ``x``; each takes the whole tensor."""
    rows, flat = members.reshape(len(members), -1), x.reshape(-1)
    places = torch.arange(len(flat), device=x.device)
    for block in torch.split(rows, max(_BLOCK // max(len(flat), 1), 1)):
        others = block[(block != flat).any(1)]
        yield Moves(places.expand(len(others), -1), others, places.new_zeros(len(others), 1))


# -- made of others --------------------------------------------------------------------------------


@neighbours.register
def _(set: Where, x: Tensor) -> Iterator[Moves]:
    mask = set.mask.to(x.device)
    picked = mask.expand_as(x).reshape(-1)
    safe = torch.where(mask, x, set.inner.project(x))  # free entries need not be members
    for block in neighbours(set.inner, safe):
        yield block[picked[block.index].all(1)]


@neighbours.register
def _(set: Picked, x: Tensor) -> Iterator[Moves]:
    places = take(torch.arange(x.numel(), device=x.device).reshape(x.shape), set.axes).reshape(-1)
    for block in neighbours(set.inner, take(x, set.axes)):
        yield Moves(places[block.index], block.value, block.unit)


@neighbours.register
def _(set: Flatten, x: Tensor) -> Iterator[Moves]:
    return neighbours(set.inner, _flat(set, x))


@neighbours.register
def _(set: Union, x: Tensor) -> Iterator[Moves]:
    """Each part's own moves in its units, and every unit's jump to the nearest member of another part."""
    units = _units(set, x)
    for part in set.parts:
        point = part.project(x)
        inside = part.spread(part.is_member(x), x).reshape(-1)
        changed = units[(~inside[units]).any(1)]
        number = (~inside[units]).any(1).nonzero()
        yield Moves(changed, point.reshape(-1)[changed], number)
        owner = torch.empty_like(inside, dtype=torch.long)
        owner[units] = torch.arange(len(units), device=x.device).unsqueeze(1).expand_as(units)
        for block in neighbours(part, point):
            own = block[inside[block.index].all(1)]
            yield Moves(own.index, own.value, owner[own.index].amax(1, keepdim=True))


def _flat(set: Flatten, x: Tensor) -> Tensor:
    return x.flatten(set.start_dim) if x.dim() else x.reshape(1)


def _units(set: Set, x: Tensor) -> Tensor:
    """The places of each unit's entries: (units, entries)."""
    count = set.sum_units(torch.ones_like(x)).numel()
    numbers = torch.arange(count, device=x.device, dtype=torch.float64)
    owner = set.spread(numbers.reshape(set.sum_units(x).shape), x).reshape(-1)
    return owner.argsort(stable=True).reshape(count, -1)
