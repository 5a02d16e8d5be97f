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
    training_violation: float | None = None
    """Worst violation in the last training step, where other values were handed to the report."""
    training_share: float | None = None
    """Share of its units that were violated."""
    largest_share: float | None = None
    """With 95 % confidence at most this share of samples violates the constraint, if those that were handed to the
    report are independent draws that nothing was trained on."""
    finish_moved: int | None = None
    """How many units ``finish`` has moved; ``None`` before it."""
    finish_distance: float | None = None
    """How far it has moved the farthest of them."""
    generalisation: str = ""
    """Training and handed-in values side by side, in a sentence."""
