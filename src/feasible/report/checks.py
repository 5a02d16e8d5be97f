"""What is checked, on what, and how many of it hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from feasible.problem.constraint import Constraint, violations
from feasible.problem.history import Series, read
from feasible.report.confidence import CONFIDENCE, largest_share
from feasible.report.diagnosis import diagnosis, saturation_of
from feasible.report.optimality import multiplier_and_price, stationarity
from feasible.report.report import Report, number, percent
from feasible.report.row import Row
from feasible.sets import Set, Where
from feasible.surrogate import Surrogate

if TYPE_CHECKING:
    from feasible.problem.problem import Problem


def make_report(problem: Problem, handed: Mapping[str, Any]) -> Report:
    """Check every constraint now."""
    with torch.no_grad():
        histories = {constraint.name: read(constraint) for constraint in problem.constraints}
        rows = tuple(_row(problem, c, handed, histories[c.name]) for c in problem.constraints)
    notes = []
    if problem.constraints and not problem.was_attached and not any(row.steps for row in rows):
        notes.append(
            "Never attached: call optimizer = problem.attach(optimizer) before training; no step has been seen."
        )
    return Report(rows, tuple(notes), {name: series for name, series in histories.items() if len(series)})


def _row(problem: Problem, constraint: Constraint, handed: Mapping[str, Any], series: Series) -> Row:
    value, scope = _value(problem, constraint, handed)
    checked = _check(constraint, value)
    multiplier, price = multiplier_and_price(constraint)
    generalisation = _generalise(constraint, checked, scope) if checked and constraint.name in handed else {}
    return Row(
        name=constraint.name,
        set=repr(constraint.set),
        method=repr(constraint.method),
        guarantee=_guarantee(constraint, checked),
        scope=scope,
        worst_violation=checked.worst if checked else None,
        share_violated=checked.share if checked else None,
        active_share=checked.active if checked else None,
        stationarity=stationarity(problem, constraint),
        multiplier=multiplier,
        shadow_price=price,
        saturation=saturation_of(constraint),
        moved=constraint.moved if constraint.slot is not None else None,
        nonfinite=constraint.nonfinite,
        steps=constraint.ticks,
        diagnosis=diagnosis(problem, constraint, checked.worst if checked else None, series),
        finish_moved=constraint.settled.moved if constraint.settled else None,
        finish_distance=constraint.settled.farthest if constraint.settled else None,
        **generalisation,
    )


@dataclass(frozen=True)
class _Check:
    worst: float
    share: float
    active: float | None
    violated: int
    """Points of which any unit is outside; a value is one point."""
    points: int

    def __str__(self) -> str:
        points = f", {self.violated:,} of {self.points:,} points violated" if self.points > 1 else ""
        return f"worst violation {number(self.worst)}{points}"


def _generalise(constraint: Constraint, given: _Check, scope: str) -> dict[str, Any]:
    """The handed-in values beside those of the last training step."""
    trained = _check(constraint, constraint.last)
    said, found = [], {}
    if trained is not None:
        said.append(f"in the last training step {trained}; {scope}: {given}")
        found = {"training_violation": trained.worst, "training_share": trained.share}
    if constraint.spec.per != "value" and given.points:
        bound = largest_share(given.violated, given.points)
        said.append(
            f"at most {percent(bound)} of such points are violated, with {CONFIDENCE:.0%} confidence, if these "
            f"{given.points:,} were drawn independently and not trained on"
        )
        found["largest_share"] = bound
    return {**found, "generalisation": "; ".join(said)}


def _value(problem: Problem, constraint: Constraint, handed: Mapping[str, Any]) -> tuple[Tensor | None, str]:
    """What is checked, and the words for it."""
    if constraint.slot is not None:
        value = constraint.slot.value().detach()
        picked = picked_entries(constraint.bound, value)
        count = f"all {value.numel():,}" if picked is None else f"{int(picked.sum()):,} of {value.numel():,}"
        return value, f"{count} entries"
    if constraint.name in handed:
        value, words = _given(constraint, handed[constraint.name]), "given"
    elif constraint.spec.function is not None:
        value, words = _true(constraint.spec.function(problem.model)).detach(), "now"
    elif constraint.last is not None:
        value, words = constraint.last, "of the last training step"
    else:
        return None, "never seen"
    if constraint.spec.per == "value":
        return value, "the value in the last step" if value is constraint.last else f"the value {words}"
    return value, f"{len(value):,} points {words}"


def _true(value: Any) -> Any:
    """What a surrogate stands for; any other value itself."""
    return value.truth if isinstance(value, Surrogate) else value


def _given(constraint: Constraint, handed: Any) -> Tensor:
    value = _true(handed[0] if isinstance(handed, (tuple, list)) and handed else handed)
    if not isinstance(value, Tensor):
        raise ValueError(f"report: {constraint.name}: expected a tensor, got {type(value).__name__}.")
    if constraint.measure is not None:
        constraint.check_shape(value)
    return value.detach()


def _check(constraint: Constraint, value: Tensor | None) -> _Check | None:
    if value is None:
        return None
    if value.numel() == 0:
        return _Check(0.0, 0.0, None, 0, 0)
    outside = violations(constraint, value)
    active = _active_share(constraint.bound, value) if constraint.measure is not None else None
    violated = outside != 0
    points = violated.reshape(1 if constraint.spec.per == "value" else len(violated), -1).any(1)
    picked = picked_entries(constraint.bound, value) if constraint.measure is not None else None
    worst, share = float(outside.max()), _share(violated, picked) or 0.0
    return _Check(worst, share, active, int(points.sum()), len(points))


def _active_share(set: Set, value: Tensor) -> float | None:
    """Share of the units with a slack that is 0 up to rounding; sets without an interior are always active."""
    if not set.offers("slack"):
        return None if set.offers("lmo") and not set.separable else 1.0
    limit = max(set.tolerance(value.dtype), 0.0)
    touching = torch.zeros_like(set.distance(value), dtype=torch.bool)
    for slack in set.slack(value):
        close = slack <= limit
        touching = touching | (close if close.shape == touching.shape else set.sum_units(close.float()) > 0)
    return _share(touching, picked_entries(set, value))


def picked_entries(set: Set, value: Tensor) -> Tensor | None:
    """The entries that a mask picks, where the others are free one by one."""
    if not isinstance(set, Where) or not set.separable:
        return None
    return set.mask.to(value.device).expand_as(value)


def _share(hit: Tensor, picked: Tensor | None) -> float | None:
    """How many of the (picked) units are hit."""
    counted = hit if picked is None else hit[picked]
    return float(counted.float().mean()) if counted.numel() else None


def _guarantee(constraint: Constraint, checked: _Check | None) -> str:
    if checked is None or not constraint.enabled:
        return "encouraged"
    holds = checked.worst == 0
    if constraint.slot is None:
        return "at these points" if holds else "encouraged"
    method = constraint.method
    promised = method.guarantee if constraint.settled else method.guarantee_at(constraint.ticks)
    if promised == "encouraged":
        return "exact" if holds and constraint.bound.exact else "encouraged"
    if not holds:
        return "broken"
    return "exact" if promised == "projected" and constraint.bound.exact else promised
