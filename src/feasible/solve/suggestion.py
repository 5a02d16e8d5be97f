"""Which way to discrete weights: try all, solve exactly, or anneal; with the cost, and a line to copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from feasible.errors import UnsupportedError
from feasible.methods import ProximalAnneal, SoftmaxAnneal, StraightThrough
from feasible.methods.lookup import find_weights
from feasible.methods.matrix import works_with
from feasible.methods.method import Method
from feasible.methods.slot import Slot, find_slots, unwrap
from feasible.sets import Set
from feasible.solve.counting import Count, count_members
from feasible.solve.exact.choices import Entries, Listed, choices

__all__ = ["Suggestion", "suggest"]

Model = nn.Module | Mapping[str, Tensor] | Sequence[Tensor]
Way = Literal["search", "exact", "annealing", "constraint"]

_SEARCHED = 10_000
"""So many trainings at a time are worth it."""
_DECODED = 64
"""Unknowns an output that sphere decoding usually proves in seconds, and choices of whole rows."""
_ROWS = 12
_FEW = 16
"""Values of an entry between which weights can be pulled; among more they are rounded in every step."""
_TARGETS = (
    "The targets in batches are numbers, not class labels: after cross-entropy, the outputs of the real-valued "
    "model."
)


@dataclass(frozen=True)
class Suggestion:
    """A way to discrete weights; prints as a paragraph.

    Args:
        way: ``"search"``, ``"exact"``, ``"annealing"``, or ``"constraint"`` where the set is not discrete.
        count: how many members the weights could be, as a power, or ``None`` where they are not finitely many.
        reason: why this way, and what it costs.
        code: lines to copy.
        others: what else would do.
    """

    way: Way
    count: str | None
    reason: str
    code: str
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [self.reason, *(f"    {line}" for line in self.code.splitlines()), *self.others]
        return "\n".join(lines)


def suggest(model: Model, pattern: str, set: Set) -> Suggestion:
    """How weights best come to be in a set: read off the number of its members, at once and without training.

    Up to 10,000 members: all of them, trained side by side. More, in the last linear layer and not too large: the
    exact solver. Else a training, by ``StraightThrough()`` for lists of numbers, and a polish. It is a rule of
    thumb; the figures behind it are in the benchmarks.

    Args:
        model: a module, or a dict or list of tensors.
        pattern: a glob over names such as ``"head.weight"``.
        set: where the weights must be.

    Returns:
        The way, its cost in words, and code to copy.

    Raises:
        ValueError: nothing matches, or the set cannot hold the weight.

    >>> from feasible import OneHot
    >>> print(suggest(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), "0.weight", OneHot(dim=0)))
    0.weight has 3^4 = 81 choices: try them all. 81 trainings side by side, a few times the cost of one.
        result = fs.exhaustive_search(model, {'0.weight': fs.OneHot(dim=0)}, loss, batches, steps)
    Add merge="rows" where the bias and the next layer are trained freely and nothing between them tells the outputs...
    """
    if not isinstance(set, Set):
        raise ValueError(f"suggest: expected a set such as FiniteSet([-1, 0, 1]), got {set!r}.")
    slots = find_weights(find_slots(model), pattern, "suggest")
    count = Count.of_all([_count(slot, set) for slot in slots])
    names = slots[0].name if len(slots) == 1 else f"{pattern} ({len(slots)} weights)"
    if not set.discrete:
        return _constraint(pattern, names, set)
    exact = _exact(model, slots, set) if len(slots) == 1 else None
    is_small = count.number is not None and count.number <= _SEARCHED
    if is_small and set.offers("members") and isinstance(model, nn.Module):
        return _search(pattern, names, set, count, slots, exact)
    annealing, named, others = _annealing(model, pattern, set, count)
    has = _has(names, set, count, is_small)
    if exact is None:
        reason = f"{has}: train with {named}. One training, then a polish of about as many steps again."
        return Suggestion("annealing", count.text, reason, annealing, others)
    reason = (
        f"{has}, but it is the weight of a last linear layer with {exact}: solve it exactly for the features that the "
        "rest has learned. Milliseconds to seconds for the squared loss, up to minutes for l1 and hinge; no training. "
        f"A gap is reported where it takes longer. {_TARGETS}"
    )
    other = f"To train it together with the rest, use {named}: one training, then a polish:\n    "
    together = other + annealing.replace("\n", "\n    ")
    return Suggestion("exact", count.text, reason, _exact_code(slots[0], set), (together, *others))


def _has(names: str, set: Set, count: Count, is_small: bool) -> str:
    """How many choices there are, and why they are not all tried."""
    if not count.is_finite:
        return f"{names} has {'too many choices to count' if set.offers('members') else 'infinitely many choices'}"
    if count.number is not None and not set.offers("members"):
        return f"{names} has {count} choices, beside free entries"
    return f"{names} has {count} choices, {'and no module to search in' if is_small else 'too many to try'}"


def _exact_code(slot: Slot, set: Set) -> str:
    owner, _ = slot.owners[0]
    bias = ', bias="free"' if getattr(owner, "bias", None) is not None else ""
    return f"result = fs.exact_last_layer(model, {slot.name!r}, {_shown(set)}, batches{bias})"


def _count(slot: Slot, set: Set) -> Count:
    weight = slot.value().detach()
    try:
        return count_members(set.bind(weight), weight.shape)
    except ValueError as error:
        raise type(error)(f"{slot.name}: {error}") from None


def _constraint(pattern: str, names: str, set: Set) -> Suggestion:
    method = "" if set.default_method is not None else f", by=fs.{works_with(set)[0]}(…)"
    reason = f"{set!r} is not discrete: constrain {names} and train on. One training."
    return Suggestion("constraint", None, reason, f"problem.constrain({pattern!r}, {_shown(set)}{method})")


def _search(
    pattern: str, names: str, set: Set, count: Count, slots: Sequence[Slot], exact: str | None
) -> Suggestion:
    assert count.number is not None
    if count.number == 1:
        reason = f"{names} has a single choice: nothing is to be found. One training of the rest."
        return Suggestion("constraint", count.text, reason, f"problem.constrain({pattern!r}, {_shown(set)})")
    cost = (
        "a few times the cost of one"
        if count.number <= 100
        else f"about {count.number // 10:,} times the cost of one"
    )
    reason = f"{names} has {count} choices: try them all. {count.number:,} trainings side by side, {cost}."
    code = f"result = fs.exhaustive_search(model, {{{pattern!r}: {_shown(set)}}}, loss, batches, steps)"
    others = _merging(slots) if exact is None else ()
    if exact is not None:
        exactly = f"Or, for the features that the rest has learned ({exact}), exactly and without training:"
        others = (f"{exactly}\n    {_exact_code(slots[0], set)}\n{_TARGETS}",)
    return Suggestion("search", count.text, reason, code, others)


def _merging(slots: Sequence[Slot]) -> tuple[str, ...]:
    """When the order of rows does not matter: a matrix with a layer behind it."""
    if any(slot.value().dim() < 2 for slot in slots):
        return ()
    return (
        'Add merge="rows" where the bias and the next layer are trained freely and nothing between them tells the '
        "outputs apart: the order of the rows does not matter then, and one of each class is trained.",
    )


def _annealing(model: Model, pattern: str, set: Set, count: Count) -> tuple[str, str, tuple[str, ...]]:
    """Lines for the first method that serves the set, its name, and what else would do."""
    is_module = isinstance(model, nn.Module)
    softmax, proximal, straight = SoftmaxAnneal(steps=2000), ProximalAnneal(steps=2000), StraightThrough()
    own: list[Method] = [softmax] if not set.separable else []
    methods: list[Method] = [*own, straight, proximal] if is_module else [proximal]
    serving = [method for method in methods if method.objection(set) is None]
    if not serving:
        raise UnsupportedError(f"{set!r} can be trained by: {', '.join(works_with(set)) or 'no method'}.")
    first = serving[0]
    named = type(first).__name__
    shown = f"fs.{named}({'steps=2000' if first is not straight else ''})"
    code = (
        f"problem.constrain({pattern!r}, {_shown(set)}, by={shown})\n"
        "problem.polish(batches, loss, optimizer)  # after the training; batches such as [(x, y)]"
    )
    if not is_module:
        return code, f"{named}, the method for bare tensors", ()
    few = count.parts is not None and all(base <= _FEW for base, _ in count.parts)
    if first is straight and set.separable and few and proximal in serving:
        other = "Where no module may change, or for bare tensors: by=fs.ProximalAnneal(steps=2000)."
        return code, f"{named}, the default" if set.default_method == named else named, (other,)
    return code, f"{named}, the default" if set.default_method == named else named, ()


def _exact(model: Model, slots: Sequence[Slot], set: Set) -> str | None:
    """What the exact solver would have to decide, where it can be expected to."""
    weight = slots[0].value().detach()
    if not isinstance(model, nn.Module) or not _is_last(model, slots[0]):
        return None
    try:
        allowed = choices(set, weight, transposed=True)
    except UnsupportedError:
        return None
    outputs, inputs = weight.shape
    if isinstance(allowed, Listed):
        return f"{len(allowed.matrices)} matrices to compare"
    if isinstance(allowed, Entries):
        return f"{inputs} unknowns for each of {outputs} outputs" if inputs <= _DECODED else None
    return f"{inputs} rows to choose" if inputs <= _ROWS else None


def _is_last(model: nn.Module, slot: Slot) -> bool:
    """Whether the weight is that of a linear layer behind which the model declares nothing that changes outputs."""
    passing: tuple[type[Any], ...] = (nn.Identity, nn.Dropout, nn.Flatten)
    leaves = [module for module in unwrap(model).modules() if not list(module.children())]
    leaves = [module for module in leaves if not isinstance(module, passing)]
    if len(slot.owners) != 1 or not leaves:
        return False
    owner, attribute = slot.owners[0]
    return isinstance(owner, nn.Linear) and attribute == "weight" and owner is leaves[-1]


def _shown(set: Set) -> str:
    """The set as code; ``your_set`` where tensors would have to be written down."""
    shown = repr(set)
    return "your_set" if "tensor(" in shown or "|" in shown or "&" in shown else f"fs.{shown}"
