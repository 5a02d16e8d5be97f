"""What is wrong, or worth knowing, in a sentence with the evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from feasible.problem.best import tolerance_of
from feasible.problem.constraint import Constraint
from feasible.problem.history import Series, numbers_of
from feasible.problem.measures import IndexedSample, SampleDistance, detached
from feasible.problem.silence import unheld
from feasible.report.trends import Trend, find_trends

if TYPE_CHECKING:
    from feasible.problem.problem import Problem

LEAST_REACH = 1e-9
"""The share of a pull that must arrive at the weights: float32 rounds a sum of gradients at 1e-7."""

_PLURALS = {"entry": "entries", "vector": "vectors", "matrix": "matrices", "tensor": "tensors"}


def diagnosis(problem: Problem, constraint: Constraint, worst: float | None, series: Series) -> str:
    """All that there is to say of the constraint; ``worst`` is the violation that was just found."""
    said = [
        *_state(problem, constraint),
        *_rounding(constraint),
        *_numbers(constraint, worst),
        *_training(problem, constraint, series),
    ]
    return "; ".join(said)


def _state(problem: Problem, constraint: Constraint) -> Iterator[str]:
    """Whether it acts at all."""
    on_weight = constraint.slot is not None
    if not constraint.enabled:
        yield "switched off"
    if constraint.has_term and constraint.last is None and constraint.enabled:
        yield "its method acts through problem.loss(…), which has never been called with gradients"
    elif on_weight and problem.was_attached and not constraint.ticks and not problem.finished:
        yield "attached, but no step has been taken since it was declared"
    optimizers = problem.optimizers
    if optimizers and constraint.ticks and unheld([constraint], optimizers):
        yield "no attached optimizer holds this weight: what holds now is not enforced again"
    if constraint.gradientless:
        yield (
            "its value came without a gradient and cannot move the weights: compute it from the model outside "
            "no_grad, or hand in Surrogate(smooth, truth)"
        )


def _rounding(constraint: Constraint) -> Iterator[str]:
    """How far an anneal is; what the end of the training has moved."""
    settled = constraint.settled
    if settled is None:
        stage = constraint.method.stage(constraint.ticks) if constraint.enabled else ""
        if stage:
            yield stage
        return
    if settled.moved:
        units = _PLURALS.get(constraint.bound.unit.split()[0], "units")
        remedy = "; problem.polish(…) would win back what that costs" if constraint.bound.discrete else ""
        yield (
            f"finish() moved {settled.moved:,} of {settled.units:,} {units}, the farthest by "
            f"{settled.farthest:.3g}{remedy}"
        )


def _numbers(constraint: Constraint, worst: float | None) -> Iterator[str]:
    """What the numbers of the row do not say."""
    if constraint.moved > 0:
        inside = constraint.method.guarantee_at(0) != "encouraged"
        yield f"the weight was moved by {constraint.moved:.3g} to start {'inside' if inside else 'with'}"
    if constraint.nonfinite:
        yield f"{constraint.nonfinite} terms were not finite; multipliers ignored them"
    if constraint.method.linearises and constraint.ticks:
        yield constraint.linearised.sentence(constraint)
    if worst is not None and math.isnan(worst):
        yield "holds NaN"
    saturation = saturation_of(constraint)
    if saturation:
        yield f"{saturation:.1%} of the entries {constraint.method.on_saturation}"
    if constraint.unscaled:
        yield (
            f"how hard it has to pull could not be measured: {constraint.unscaled}. Give the method its numbers, "
            "as in AugmentedLagrangian(penalty=1.0, dual_lr=0.05)"
        )
    if isinstance(constraint.measure, SampleDistance) and constraint.spec.tolerance is None:
        tolerance = float(constraint.state["tolerance"])
        yield (
            f"the samples' mean distance is compared with a tolerance of {tolerance:.3g}, a thousandth of the first "
            "value's RMS"
        )


def _training(problem: Problem, constraint: Constraint, series: Series) -> Iterator[str]:
    """What its history shows, and whether its pull arrives."""
    if constraint.gradientless or not constraint.enabled:
        return
    # A multiplier that is computed afresh in every step has no course.
    trend = None if constraint.method.linearises else _trend(constraint, series)
    if constraint.reach is not None and not (trend and trend.kind == "idle"):
        arrived, pull = constraint.reach.tolist()
        if arrived <= LEAST_REACH * pull and pull > 0:
            yield (
                f"its gradient has vanished: of a pull of {pull:.3g} on the value {arrived:.3g} arrives at the "
                "weights (rounding, a saturated function, or a value that does not depend on them); hand in "
                "Surrogate(smooth, truth), or a value with a slope"
            )
            return
    if trend and not (trend.kind == "idle" and _pulls_inside(constraint)):
        yield trend.sentence


def _trend(constraint: Constraint, series: Series) -> Trend | None:
    value = constraint.last if constraint.slot is None else constraint.slot.value()
    if value is None:
        return None
    rows = constraint.history.rows().get("value")
    shape = () if rows is None else rows.shape[1:]

    def violation_of(mean: Tensor) -> float:
        point = mean.reshape(shape).to(rows)
        return float(numbers_of(constraint, point, constraint.state)["violation"])

    trend = find_trends(series, float(tolerance_of(constraint, value)), rows, violation_of)
    if trend is None or trend.kind == "idle":
        return trend
    # Each batch of indexed samples has other multipliers, and without multipliers there is no dual rate to change.
    silent = isinstance(constraint.measure, IndexedSample)
    silent |= trend.kind == "oscillates" and not constraint.method.has_multiplier
    return None if silent else trend


def _pulls_inside(constraint: Constraint) -> bool:
    """Whether a method without a multiplier, such as a barrier, acts on values inside the set."""
    if constraint.method.has_multiplier or constraint.last is None:
        return False
    pull = constraint.method.pull(
        detached(constraint.last), constraint.bound, constraint.state, constraint.ticks
    )
    return pull is not None and bool(torch.any(pull.gradient != 0))


def saturation_of(constraint: Constraint) -> float | None:
    """Share of reparametrized entries whose slope has vanished."""
    slot = constraint.slot
    if constraint.saturation is not None:
        return constraint.saturation
    if slot is None or slot.chart is None or not constraint.method.latent:
        return None
    return float(slot.chart.saturated(slot.leaf).float().mean())
