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
    exact solver. Else a method that anneals, and a polish. It is a rule of thumb; the figures behind it are in
    the benchmarks.

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
    """
    if not isinstance(set, Set):
        raise ValueError(f"suggest: expected a set such as FiniteSet([-1, 0, 1]), got {set!r}.")
    slots = find_weights(find_slots(model), pattern, "suggest")
    count = Count.of_all([_count(slot, set) for slot in slots])
    names = slots[0].name if len(slots) == 1 else f"{pattern} ({len(slots)} weights)"
    if not set.discrete:
        return _constraint(pattern, names, set)
    exact = _exact(model, slots, set) if len(slots) == 1 else None
    if set.offers("members") and count.number is not None and count.number <= _SEARCHED:
        return _search(pattern, names, set, count, exact)
    has = f"{names} has {count} choices" if count.is_finite else f"{names} has no end of choices"
    annealing = _annealing(model, pattern, set, count)
    if exact is None:
        why = "too many to try" if set.offers("members") or count.number is None else "beside free entries"
        reason = f"{has}, {why}: anneal. One training, then a polish of about as many steps again."
        return Suggestion("annealing", count.text, reason, annealing)
    reason = (
        f"{has}, too many to try, but it is the weight of a last linear layer with {exact}: solve it exactly for the "
        "features that the rest has learned. Milliseconds to seconds for the squared loss, up to minutes for l1 and "
        "hinge; no training. A gap is reported where it takes longer."
    )
    code = f"result = fs.exact_last_layer(model, {slots[0].name!r}, {_shown(set)}, batches)"
    other = "To train it together with the rest, anneal: one training, then a polish:\n    "
    return Suggestion("exact", count.text, reason, code, (other + annealing.replace("\n", "\n    "),))


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


def _search(pattern: str, names: str, set: Set, count: Count, exact: str | None) -> Suggestion:
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
    if exact is None:
        return Suggestion("search", count.text, reason, code)
    other = (
        f"Or, for the features that the rest has learned ({exact}), exactly and without training:\n"
        f"    result = fs.exact_last_layer(model, {pattern!r}, {_shown(set)}, batches)"
    )
    return Suggestion("search", count.text, reason, code, (other,))


def _annealing(model: Model, pattern: str, set: Set, count: Count) -> str:
    """Lines for the first method that serves the set."""
    softmax: list[Method] = [SoftmaxAnneal(steps=2000)] if isinstance(model, nn.Module) else []
    proximal, straight = ProximalAnneal(steps=2000), StraightThrough()
    own = softmax if not set.separable else []
    methods = [*own, straight, proximal] if _is_long(set, count) else [*own, proximal, straight]
    serving = [method for method in methods if method.objection(set) is None]
    if not serving:
        raise UnsupportedError(f"{set!r} can be trained by: {', '.join(works_with(set)) or 'no method'}.")
    shown = f"fs.{type(serving[0]).__name__}({'steps=2000' if serving[0] is not straight else ''})"
    return (
        f"problem.constrain({pattern!r}, {_shown(set)}, by={shown})\n"
        "problem.polish(batches, loss, optimizer)  # after the training"
    )


def _is_long(set: Set, count: Count) -> bool:
    """Whether an entry may have more values than weights can be pulled between."""
    return set.separable and (count.parts is None or any(base > _FEW for base, _ in count.parts))


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
