"""Projection: after each step the weight moves to the nearest point of its set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor

from feasible.methods.method import Method
from feasible.methods.moments import Moments
from feasible.methods.slot import Slot
from feasible.sets import Frozen, Set

__all__ = ["Project"]

MAPPING_STEP = 2.0**-7
"""The least t of the gradient mapping: small, so that it follows the gradient wherever there is room.

Larger learning rates are taken as t themselves: ``x − t · mapping = P(x − t g)``, so that a plain step is a
projected gradient step. With a smaller t it would overshoot, and may end in a cycle.
"""


@final
@dataclass(frozen=True)
class Project(Method):
    """The weight is projected after the optimizer's step: ``x ← argmin_p ½‖p − x‖²`` over members p.

    On a convex set that couples its entries, an optimizer with per-entry step sizes would end at a wrong
    point: there the gradient is first replaced by the gradient mapping ``(P x − P(P x − t g)) / t``, which
    is zero exactly where the constrained problem is stationary (t is the learning rate, at least 1/128).

    Args:
        every: project after every so many steps (and at the end). In between gradients are taken outside,
            which leaves the end point off by about the length of a step.
        tangent: ``"auto"`` replaces gradients where the set needs it, ``True`` on every convex set,
            ``False`` never.
        moments: what becomes of the optimizer's running averages where the projection moved the weight:
            ``"keep"``, ``"tangent"`` (what leads out of the set is taken away) or ``"reset"`` (zero).

    Raises:
        ValueError: ``every`` is not a positive whole number, or a choice is unknown.

    >>> import torch, feasible as fs
    >>> w = torch.tensor([0.5, -0.5], requires_grad=True)
    >>> problem = fs.Problem({"w": w})
    >>> _ = problem.constrain("w", fs.NonNegative(), by=fs.Project())
    >>> w.tolist()
    [0.5, 0.0]

    Source: Bertsekas, *Nonlinear Programming*, section 2.3; Nesterov, *Introductory Lectures on Convex
    Optimization*, section 2.2.3 (gradient mapping).
    """

    every: int = 1
    tangent: bool | Literal["auto"] = "auto"
    moments: Literal["keep", "tangent", "reset"] = "keep"

    guarantee = "projected"
    hard = True
    holds = True
    for_values = False

    def __post_init__(self) -> None:
        if not isinstance(self.every, int) or self.every < 1:
            raise ValueError(f"Project: every must be a positive whole number, got {self.every!r}.")
        if self.tangent not in (True, False, "auto"):
            raise ValueError(f'Project: tangent must be True, False or "auto", got {self.tangent!r}.')
        if self.moments not in ("keep", "tangent", "reset"):
            raise ValueError(f'Project: moments must be "keep", "tangent" or "reset", got {self.moments!r}.')

    def start(self, x: Tensor, set: Set) -> Tensor:
        """The nearest member."""
        return set.project(x)

    def install(self, slot: Slot, set: Set) -> None:
        """A weight that is frozen as a whole needs no gradient, and then costs nothing in a step."""
        if isinstance(set, Frozen):
            slot.hold()

    def uninstall(self, slot: Slot, set: Set) -> None:
        """A frozen weight learns again."""
        if isinstance(set, Frozen):
            slot.release()

    def replaces_gradients(self, set: Set) -> bool:
        """Where the set needs it, unless the user decided otherwise."""
        if self.tangent == "auto":
            return set.needs_tangent
        return self.tangent and (set.convex or set.needs_tangent)

    def gradient_(self, points: Sequence[Tensor], gradients: Sequence[Tensor], set: Set, rate: float) -> None:
        """The gradient mappings, taken at members: between projections a weight may be outside."""
        members = points if self.every == 1 else [set.project(point) for point in points]
        set.reduce_gradients_(members, gradients, max(MAPPING_STEP, rate))

    def corrects(self, step: int) -> bool:
        """At every so many steps."""
        return (step + 1) % self.every == 0

    def correct(self, slots: Sequence[Slot], moments: Moments, set: Set, step: int) -> None:
        """Project, and treat the moments of what has moved as the policy says."""
        weights = [slot.leaf for slot in slots]
        if isinstance(set, Frozen):
            # No optimizer moves a weight without a gradient; someone may have given it one again.
            weights = [weight for weight in weights if weight.grad is not None]
        if self.moments == "keep":
            set.project_all_(weights)
        else:
            for weight in weights:
                self._correct_with_moments(weight, moments, set)

    def _correct_with_moments(self, weight: Tensor, moments: Moments, set: Set) -> None:
        before = weight.clone()
        set.project_all_([weight])
        if self.moments == "reset":
            moved = set.spread(set.norm(before - weight) != 0, weight)
            moments.clear(weight, moved)
            return
        first = moments.first(weight)
        if first is not None:
            set.reduce_gradients_([weight], [first], MAPPING_STEP)
