"""What is chosen from: the members of the sets of the named weights, counted first, then listed."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from feasible.errors import UnsupportedError
from feasible.methods.slot import Slot, find_slots
from feasible.sets import Set
from feasible.sets.algebra import Flatten, Where
from feasible.sets.blocks import block_shape, put
from feasible.sets.picked import Picked
from feasible.solve.counting import Count, count_members

MERGES = {"rows": 0, "columns": 1}
"""The dimension whose slices may change places."""
_UNITS = ((365.25 * 86400, "years"), (86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


@dataclass(frozen=True, eq=False)
class Choice:
    """One weight and all it may be."""

    slot: Slot
    set: Set
    count: Count
    members: Callable[[], Iterator[Tensor]]
    """An iterator of tensors of the weight's shape; entries that are not chosen are 0."""
    mask: Tensor | None = None
    """Which entries are chosen, where the others stay free."""
    merge: str | None = None

    @property
    def name(self) -> str:
        """The weight's name."""
        return self.slot.name


@dataclass(frozen=True, eq=False)
class Table:
    """All choices: the product over the weights, by number, the last weight's member moving fastest."""

    names: tuple[str, ...]
    members: tuple[Tensor, ...]
    """For each weight its members along dimension 0."""
    sizes: tuple[Tensor, ...]
    """For each member how many of the set it stands for."""

    def __len__(self) -> int:
        return math.prod(map(len, self.members))

    @property
    def total(self) -> int:
        """How many choices all of them stand for."""
        return math.prod(int(sizes.sum()) for sizes in self.sizes)

    def places(self, numbers: Tensor) -> tuple[Tensor, ...]:
        """For each weight which of its members the numbered choices take."""
        return torch.unravel_index(numbers, tuple(map(len, self.members)))

    def take(self, numbers: Tensor) -> dict[str, Tensor]:
        """The weights of the numbered choices, stacked."""
        found = zip(self.names, self.members, self.places(numbers))
        return {name: members[place.to(members.device)] for name, members, place in found}

    def choice(self, number: int) -> dict[str, Tensor]:
        """The weights of one choice."""
        return {name: stack[0] for name, stack in self.take(torch.tensor([number])).items()}

    def size(self, number: int) -> int:
        """How many choices this one stands for."""
        places = self.places(torch.tensor([number]))
        return math.prod(int(sizes[place]) for sizes, place in zip(self.sizes, places))


def find_choices(
    model: nn.Module, choices: Mapping[str, Set], merge: str | Mapping[str, str] | None
) -> list[Choice]:
    """Every named weight with its set, bound and counted; nothing is listed yet.

    Raises:
        ValueError: a name matches nothing, a weight is named twice, or does not fit its set.
        UnsupportedError: a set is not finite, or its choices cannot be merged.
    """
    if not isinstance(choices, Mapping) or not choices:
        raise ValueError(
            "choices must be a dict of weights and their sets, with at least one entry, got "
            f'{choices!r}.\n  For example {{"head.weight": OneHot(dim=0)}}.'
        )
    slots = find_slots(model)
    found: dict[str, Choice] = {}
    for pattern, set in choices.items():
        for slot in _match(slots, pattern, "choices"):
            if slot.name in found:
                raise ValueError(f"{slot.name} is chosen twice: {pattern!r} names it again. Name it once.")
            found[slot.name] = _choice(slot, set)
    for pattern, kind in _merges(merge, found).items():
        for slot in _match({name: slots[name] for name in found}, pattern, "merge"):
            found[slot.name] = _merging(found[slot.name], kind)
    return list(found.values())


def listed(choices: Sequence[Choice], most: int | None = None) -> Table:
    """The members of all weights as stacks; ``most``: only the first so many of each."""
    stacks, sizes = zip(*(_stack(choice, most) for choice in choices))
    return Table(tuple(choice.name for choice in choices), stacks, sizes)


def spelled(count: int | Count) -> str:
    """A count in a sentence; a long one by its power of ten."""
    if isinstance(count, int):
        count = Count(((count, 1),))
    number = count.up_to(15)
    return f"about 10^{count.digits:.0f}" if number is None else f"{number:,}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it, in two digits.

    >>> duration(100), duration(0.0123), duration(9_400), duration(4.6e9)
    ('100 s', '0.012 s', '2.6 h', '150 years')
    """
    if math.isinf(seconds):
        return "more than 10^290 years"
    length, unit = next((pair for pair in _UNITS if seconds >= 2 * pair[0]), _UNITS[-1])
    value = seconds / length
    if value >= 1e6:
        return f"about 10^{math.log10(value):.0f} {unit}"
    return f"{float(f'{value:.2g}'):,g} {unit}" if value < 100 else f"{round(value, -1):,.0f} {unit}"


def _match(slots: Mapping[str, Slot], pattern: object, argument: str) -> list[Slot]:
    if not isinstance(pattern, str):
        raise ValueError(f"{argument}: a weight's name must be a string, got {pattern!r}.")
    found = [
        slot for slot in slots.values() if any(fnmatchcase(k, pattern) for k in (slot.name, *slot.aliases))
    ]
    if found:
        return found
    if f"{pattern}.original" in slots or f"{pattern}.original0" in slots:
        raise UnsupportedError(
            f"{pattern} is computed by a parametrization, so it cannot be chosen.\n"
            "  Make it a plain weight first: problem.finish(), or torch.nn.utils.parametrize.remove_parametrizations."
        )
    known = [name for slot in slots.values() for name in (slot.name, *slot.aliases)]
    near = difflib.get_close_matches(pattern, known, n=1)
    hint = f" Closest: {near[0]!r}." if near else ""
    listing = ", ".join(known[:30]) + (f", … and {len(known) - 30} more" if len(known) > 30 else "")
    raise ValueError(
        f"{argument}: {pattern!r} matches no parameter.{hint}\n  There are: {listing or 'no parameters'}"
    )


def _choice(slot: Slot, set: object) -> Choice:
    """The set bound to the weight, with its number of members."""
    if not isinstance(set, Set):
        hint = f" Did you mean {set.__name__}(…)?" if isinstance(set, type) else ""
        raise ValueError(f"choices[{slot.name!r}]: expected a set such as OneHot(dim=0), got {set!r}.{hint}")
    weight = slot.value()
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise ValueError(f"{slot.name} has no shape yet: run the model once before the search.")
    try:
        bound = set.bind(weight.detach())
    except ValueError as error:
        raise type(error)(f"{slot.name}: {error}") from None
    return _listing(slot, bound, weight.shape)


def _listing(slot: Slot, set: Set, shape: torch.Size) -> Choice:
    """How the members are counted and listed; what a mask leaves free is no part of the choice."""
    if isinstance(set, Flatten):
        flat = torch.empty(shape, device="meta").flatten(set.start_dim).shape
        inner = _listing(slot, set.inner, flat)
        mask = None if inner.mask is None else inner.mask.reshape(shape)
        return Choice(
            slot, set, inner.count, lambda: (member.reshape(shape) for member in inner.members()), mask
        )
    if isinstance(set, Where):
        mask = set.mask.expand(shape)
        picked = (int(mask.sum()),)
        entries = _finite(slot, set, set.inner)
        zeros = torch.zeros(shape, device=mask.device)
        return Choice(
            slot,
            set,
            _count(entries, picked),
            lambda: (zeros.to(m).masked_scatter(mask, m.to(mask.device)) for m in entries.members(picked)),
            mask,
        )
    if isinstance(set, Picked):
        block, axes = block_shape(shape, set.axes), set.axes
        part = _finite(slot, set, set.inner)
        zeros = torch.zeros(shape, device=set.mask.device)
        return Choice(
            slot,
            set,
            _count(part, block),
            lambda: (put(zeros.to(m.dtype), axes, m.to(zeros.device)) for m in part.members(block)),
            set.mask.expand(shape),
        )
    whole = _finite(slot, set, set)
    return Choice(slot, set, _count(whole, shape), lambda: whole.members(shape))


def _count(set: Set, shape: Sequence[int]) -> Count:
    """As a power: the number itself may be too large to be computed."""
    count = count_members(set, shape)
    return count if count.is_finite else Count(((set.count(shape), 1),))


def _finite(slot: Slot, set: Set, listed: Set) -> Set:
    if listed.offers("members") and listed.offers("count"):
        return listed
    raise UnsupportedError(
        f"{slot.name}: the members of {set!r} cannot be listed, so there is nothing to search.\n"
        "  Works with: FiniteSet, Integers(lower, upper), OneHot, Permutation, Candidates, their unions, and "
        "set.where(mask) of those."
    )


def _merges(merge: str | Mapping[str, str] | None, names: Iterable[str]) -> Mapping[str, str]:
    merges = dict.fromkeys(names, merge) if isinstance(merge, str) else merge or {}
    if not isinstance(merges, Mapping) or any(kind not in MERGES for kind in merges.values()):
        raise ValueError(
            f'merge must be None, "rows", "columns", or a dict of weights and one of these, got {merge!r}.'
        )
    return merges


def _merging(choice: Choice, kind: str) -> Choice:
    needed = MERGES[kind] + 1
    if choice.mask is not None or choice.slot.value().dim() < needed:
        why = "some of its entries stay free" if choice.mask is not None else f"it has no {kind}"
        raise UnsupportedError(f"merge={kind!r} does not apply to {choice.name}: {why}. Leave merge out.")
    return Choice(choice.slot, choice.set, choice.count, choice.members, merge=kind)


def _stack(choice: Choice, most: int | None) -> tuple[Tensor, Tensor]:
    """Different members, or one of each class that ``merge`` makes, and how many each stands for."""
    weight = choice.slot.value().detach()
    # What the dtype cannot tell apart is one member.
    stack = torch.stack(list(itertools.islice(choice.members(), most))).to(weight.dtype)
    numbers = _numbered(stack if choice.merge is None else _classes(stack, MERGES[choice.merge]))
    sizes = numbers.bincount()
    first = torch.full_like(sizes, len(stack)).scatter_reduce(0, numbers, torch.arange(len(stack)), "amin")
    return stack[first.to(stack.device)].to(weight.device), sizes


def _classes(stack: Tensor, dim: int) -> Tensor:
    """A row for each member that is the same for those whose slices along ``dim`` are permutations."""
    slices = stack.movedim(1 + dim, 1)
    return _numbered(slices.flatten(0, 1)).reshape(slices.shape[:2]).sort(1).values


def _numbered(rows: Tensor) -> Tensor:
    """The same number for equal tensors along dimension 0, in the order in which they appear; −0 is 0."""
    flat = rows.flatten(1) if rows.dim() > 1 else rows.unsqueeze(1)
    data = (flat + 0).contiguous().cpu().view(torch.uint8).numpy()
    known: dict[bytes, int] = {}
    return torch.tensor([known.setdefault(row.tobytes(), len(known)) for row in data])
