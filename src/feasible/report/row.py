"""A line of the report: one constraint, as numbers and words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One constraint. Numbers that do not apply, or were not seen, are ``None``."""

    name: str
    set: str
    method: str
    guarantee: str
    """``by construction``, ``projected``, ``exact``, ``at these points``, ``encouraged`` or ``broken``."""
    scope: str
    """What was checked: all entries of a weight, or so many points."""
    worst_violation: float | None
    """Largest distance of a unit to the set; 0 where the set contains it."""
    share_violated: float | None
    active_share: float | None
    """Share of the units that lie on the boundary."""
    stationarity: float | None
    """``‖x − P(x − ∇f)‖`` for weights held in their set, ``‖∇‖`` of the last step otherwise."""
    multiplier: float | None
    """The multiplier of largest magnitude: negative at a lower bound, positive at an upper one."""
    shadow_price: float | None
    """Loss gained by widening the bound by one unit of distance, to first order."""
    saturation: float | None
    """Share of reparametrized entries whose slope has vanished."""
    moved: float | None
    """How far the weight was moved when it was constrained."""
    nonfinite: int
    """Recorded terms that were not finite; multipliers ignored them."""
    steps: int
    diagnosis: str
