"""What is wrong, or worth knowing, in a sentence with the evidence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from feasible.problem.constraint import Constraint

if TYPE_CHECKING:
    from feasible.problem.problem import Problem


def diagnosis(problem: Problem, constraint: Constraint, worst: float | None) -> str:
    """All that there is to say of the constraint; ``worst`` is the violation that was just found."""
    said = []
    if not constraint.enabled:
        said.append("switched off")
    if constraint.has_term and constraint.last is None and constraint.enabled:
        said.append("its method acts through problem.loss(…), which has never been called with gradients")
    elif (
        constraint.slot is not None and problem.was_attached and not constraint.ticks and not problem.finished
    ):
        said.append("attached, but no step has been taken since it was declared")
    if constraint.moved > 0:
        said.append(f"the weight was moved by {constraint.moved:.3g} to start inside")
    if constraint.nonfinite:
        said.append(f"{constraint.nonfinite} terms were not finite; multipliers ignored them")
    if worst is not None and math.isnan(worst):
        said.append("holds NaN")
    saturation = saturation_of(constraint)
    if saturation:
        said.append(
            f"{saturation:.1%} of the entries are saturated and no longer learn; Reparametrize(revive=True)"
        )
    tolerance = constraint.state.get("tolerance")
    if tolerance is not None and constraint.spec.tolerance is None:
        said.append(
            f"compared with a tolerance of {float(tolerance):.3g}, a thousandth of the first value's RMS"
        )
    return "; ".join(said)


def saturation_of(constraint: Constraint) -> float | None:
    """Share of reparametrized entries whose slope has vanished."""
    slot = constraint.slot
    if constraint.saturation is not None:
        return constraint.saturation
    if slot is None or slot.chart is None or not constraint.method.latent:
        return None
    return float(slot.chart.saturated(slot.leaf).float().mean())
