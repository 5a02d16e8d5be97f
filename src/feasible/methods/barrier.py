"""Barriers: a cost that grows without bound towards the boundary keeps the value inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from feasible.methods.method import Method, Pull, State
from feasible.methods.moments import Moments
from feasible.methods.slot import Slot
from feasible.schedules import Exponential, Schedule, check_weight, value_at
from feasible.sets import Set

__all__ = ["Barrier"]

CONTINUATION = 0.01
"""Below this slack the cost goes on as a parabola: a step too far is pulled back, not lost in NaN."""


@final
@dataclass(frozen=True)
class Barrier(Method):
    """The loss gains ``weight · Σ φ(slack(v))`` with ``φ(s) = −log s`` or ``1/s``.

    Below a slack of 0.01 φ continues as its second-order Taylor polynomial. A weight starts at least
    ``margin`` inside the set, and after each step is brought back there if it went further out: it never
    leaves the interior. A value that the network computes cannot be guarded; it is only pushed.

    Args:
        weight: a positive number or a schedule; by default it decreases from 1e-2 to 1e-4, since the
            solution is off by about the weight.
        kind: ``"log"`` or ``"inverse"``.
        margin: least slack of a guarded weight, > 0.

    Raises:
        ValueError: weight or margin is not positive, or the kind is unknown.
        UnsupportedError: the set has no interior.

    >>> import torch, feasible as fs
    >>> w = torch.tensor([0.0, 0.5], requires_grad=True)
    >>> problem = fs.Problem([w])
    >>> _ = problem.constrain("0", fs.Box(0, 1), by=fs.Barrier(1e-3))
    >>> bool((w > 0).all())
    True

    Source: Fiacco & McCormick, *Nonlinear Programming* (1968); Hauser & Saccon, *A barrier function method
    for the optimization of trajectory functionals with constraints* (2006) for the continuation.
    """

    weight: float | Schedule = Exponential(1e-2, 0.995, minimum=1e-4)
    kind: Literal["log", "inverse"] = "log"
    margin: float = 1e-4

    guarantee = "projected"
    hard = True
    needs = ("slack", "interior")

    def __post_init__(self) -> None:
        check_weight("Barrier", "weight", self.weight)
        if self.kind not in ("log", "inverse"):
            raise ValueError(f'Barrier: kind must be "log" or "inverse", got {self.kind!r}.')
        if not 0 < self.margin < float("inf"):
            raise ValueError(f"Barrier: margin must be positive and finite, got {self.margin!r}.")

    def start(self, x: Tensor, set: Set) -> Tensor:
        """Strictly inside."""
        return set.interior(x, self.margin)

    def pull(self, mean: Tensor, set: Set, state: State, step: int) -> Pull:
        """The weighted barrier and its gradient."""
        weight = value_at(self.weight, step)
        cost = _log_cost if self.kind == "log" else _inverse_cost
        with torch.enable_grad():
            at = mean.detach().requires_grad_()
            nothing = at.reshape(-1)[:0].sum()  # an empty matrix has no slack function
            amount = weight * sum((cost(slack).sum() for slack in set.slack(at)), nothing)
            (gradient,) = torch.autograd.grad(amount, at)
        return Pull(amount.detach(), gradient)

    def correct(self, slots: Sequence[Slot], moments: Moments, set: Set, step: int) -> None:
        """The guard: back to the least slack."""
        for slot in slots:
            leaf = slot.leaf
            leaf.copy_(set.interior(leaf, self.margin))


def _log_cost(slack: Tensor) -> Tensor:
    near = slack < CONTINUATION
    ratio = (slack - CONTINUATION) / CONTINUATION
    beyond = -torch.log(torch.full_like(slack, CONTINUATION)) - ratio + ratio.square() / 2
    return torch.where(near, beyond, -torch.log(torch.where(near, torch.ones_like(slack), slack)))


def _inverse_cost(slack: Tensor) -> Tensor:
    near = slack < CONTINUATION
    ratio = (slack - CONTINUATION) / CONTINUATION
    beyond = (1 - ratio + ratio.square()) / CONTINUATION
    return torch.where(near, beyond, 1 / torch.where(near, torch.ones_like(slack), slack))
