"""Do these tensors obey the rules: measured by the sets themselves, whatever method was used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from feasible.sets import Set
from feasible.workbook.errors import InputError, closest
from feasible.workbook.rules import Rule

SHOWN = 10
"""How many of the worst entries a finding lists."""


@dataclass(frozen=True)
class Finding:
    """What one rule says about one tensor."""

    rule: str
    tensor: str
    feasible: bool
    """Whether every unit is in the set, within the set's own tolerance."""
    worst: float
    """The largest distance of a unit to the set; 0 where it is feasible, NaN where a value is."""
    share: float
    """The share of units outside."""
    units: int
    entries: tuple[tuple[tuple[int, ...], float], ...]
    """Index and value of the worst units outside; the distance where a unit has more than one entry."""
    at_bound: float | None
    """The share of entries that lie on a bound; ``None`` where the set is not described by bounds."""


@dataclass(frozen=True)
class Watched:
    """A rule and one tensor that it speaks of, the set bound to the tensor as it was at first."""

    rule: Rule
    tensor: str
    set: Set


def watch_weights(rules: Iterable[Rule], state: Mapping[str, Tensor]) -> list[Watched]:
    """The weights that the rules speak of; ``Frozen`` remembers their present values.

    Raises:
        InputError: a pattern matches nothing, or a set cannot hold a tensor of this shape.
    """
    return [
        _watch(index, rule, name, state[name])
        for index, rule in enumerate(rules)
        if rule.weights is not None
        for name in _matching(rule, state, index)
    ]


def watch_values(rules: Iterable[Rule], read: Callable[[Rule], Tensor]) -> list[Watched]:
    """The rules about outputs.

    Args:
        rules: all of them.
        read: the value that a rule speaks of, at any rows.

    Raises:
        InputError: a set cannot hold a value of this shape.
    """
    return [
        _watch(index, rule, rule.value or rule.name, read(rule))
        for index, rule in enumerate(rules)
        if rule.weights is None
    ]


def check_weights(rules: Iterable[Rule], state: Mapping[str, Tensor]) -> list[Finding]:
    """What the rules about weights say of a state dict.

    Raises:
        InputError: a pattern matches nothing; its key is ``("constraints", index, …)``.
    """
    return [measure(w.rule.name, w.tensor, w.set, state[w.tensor]) for w in watch_weights(rules, state)]


@torch.no_grad()
def measure(rule: str, name: str, set: Set, value: Tensor, tolerance: float | None = None) -> Finding:
    """One set and one tensor; what is nearer to the set than the tolerance (``None``: the set's own) obeys."""
    value = value.detach()
    distance = set.distance(value)
    outside = ~set.contains(value) if tolerance is None else ~(distance <= tolerance)
    return Finding(
        rule,
        name,
        not bool(outside.any()),
        _worst(distance[outside]),
        float(outside.float().mean()),
        outside.numel(),
        _worst_entries(distance, outside, value),
        _at_bound(set, value),
    )


def worst(findings: Sequence[Finding]) -> float:
    """The largest violation of several findings."""
    return _worst(torch.tensor([finding.worst for finding in findings]))


def share(findings: Sequence[Finding]) -> float:
    """The share of all their units that are outside."""
    units = sum(finding.units for finding in findings)
    return sum(finding.share * finding.units for finding in findings) / units if units else 0.0


def at_bound(findings: Sequence[Finding]) -> float | None:
    """The share of all their entries that lie on a bound, where every set has bounds."""
    known = [finding for finding in findings if finding.at_bound is not None]
    units = sum(finding.units for finding in known)
    return sum((finding.at_bound or 0.0) * finding.units for finding in known) / units if units else None


def _watch(index: int, rule: Rule, name: str, tensor: Tensor) -> Watched:
    try:
        return Watched(rule, name, rule.set.bind(tensor.detach()))
    except ValueError as error:
        message = f"{name}: {' '.join(str(error).split())}"
        raise InputError(message, key=("constraints", index, "set")) from None


def _matching(rule: Rule, state: Mapping[str, Tensor], index: int) -> list[str]:
    assert rule.weights is not None
    names = [
        name
        for name, tensor in state.items()
        if tensor.is_floating_point()
        and fnmatchcase(name, rule.weights)
        and not any(fnmatchcase(name, pattern) for pattern in rule.exclude)
    ]
    if not names:
        message = f'weights = "{rule.weights}" matches no parameter.{closest(rule.weights, state)}'
        raise InputError(message, key=("constraints", index, "weights"))
    return names


def _worst(distances: Tensor) -> float:
    """The maximum; NaN counts as the worst, and nothing as 0."""
    return float(distances.max()) if distances.numel() else 0.0


def _worst_entries(
    distance: Tensor, outside: Tensor, value: Tensor
) -> tuple[tuple[tuple[int, ...], float], ...]:
    shown = value if distance.shape == value.shape else distance
    ranked = torch.where(outside, distance.nan_to_num(nan=torch.inf), -1.0).flatten()
    order = ranked.argsort(descending=True, stable=True)[: min(SHOWN, int(outside.sum()))]
    places = [torch.unravel_index(position, distance.shape) for position in order]
    return tuple(
        (tuple(int(axis) for axis in place), float(shown.flatten()[position]))
        for place, position in zip(places, order, strict=True)
    )


def _at_bound(set: Set, value: Tensor) -> float | None:
    if not (set.separable and set.offers("slack")):
        return None
    limit = set.tolerance(value.dtype)
    touching = torch.stack([slack.abs() <= limit for slack in set.slack(value)])
    return float(touching.any(0).float().mean())
