"""Exact multipliers: those with which the coming step itself goes to the constraint, computed afresh each time."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Literal, final

import torch
from torch import Tensor

from feasible.methods.method import Method, Pull, State
from feasible.methods.multiplier_system import Rows, Solution, default_damping, multipliers
from feasible.schedules import Schedule, check_weight, value_at
from feasible.sets import Set

__all__ = ["ExactMultipliers"]

CONTRACTION = 0.1
"""The share of a violation that a step takes away where no rate is given."""


@final
@dataclass(frozen=True)
class ExactMultipliers(Method):
    """The step becomes ``−P (∇f + Jᵀλ)`` with ``λ = (J P Jᵀ + μI)⁻¹ (κ g − J P ∇f)``.

    J is the Jacobian of the required value v by the weights of the clock optimizer, ``g = v − P_K(v)`` its
    residual in the set, and P the optimizer's own preconditioner (Adam: ``1/(√v̂ + ε)``, SGD: 1; momentum,
    averages and weight decay count, since what the optimizer has moved by itself stands for ``−P ∇f``). To first
    order g then shrinks by the factor ``1 − κ lr`` in every step, whatever the loss does, and where the training
    comes to rest ``∇f + Jᵀλ = 0``. Nothing is learned: there is no dual rate, and nothing to resume.

    The constraint adds nothing to the loss. J is taken from the value's graph when it is handed to ``loss`` (one
    backward pass where every row depends on samples of its own, a batched one elsewhere) and lives until the
    step: rows × weights numbers. Clipping acts on ``∇f`` alone. Entries with sets of their own (``Box``) have a
    multiplier only where the step would otherwise bring them too far out; sets that tie entries to each other,
    and sets that are not convex, act while they are violated.

    The study's form with Adam was different, and is there to compare with: ``ExactMultipliers(1.0, 0.0,
    preconditioner="identity")`` replaces the gradient by ``∇f + (J)ᵀ(J Jᵀ)⁻¹(g − J ∇f)`` and leaves the rest to
    the optimizer, which is no step towards the constraint any more.

    Args:
        rate: κ > 0, or a schedule; ``None``: a tenth of the violation leaves in a step (κ = 0.1/lr).
        damping: μ ≥ 0 as a share of the largest diagonal entry of ``J P Jᵀ``; ``None``: the root of a
            rounding (3e-4 in float32, 1.5e-8 in float64). Jacobians of differential equations are rank-deficient:
            without damping λ explodes.
        form: ``"batch"``: all rows are one system. ``"sample"``: each sample has a λ from its own rows, and their
            forces are averaged, so that no sample gets what it asked for. ``"reduced"``: the reduction that
            ``require`` names (p-mean, or mean Huber loss) is one constraint; its gradient vanishes at feasible
            points (of Huber and of p > 1 in each sample), where λ is then without meaning. ``None``: ``"batch"``
            for ``per="value"``; for ``per="sample"`` ``"sample"``, or ``"reduced"`` where a reduction was named.
        truncation: leave out eigenvalues of ``J P Jᵀ`` below this share of the largest (slower than damping).
        preconditioner: ``"optimizer"``, or ``"identity"``: P = 1, and the gradient is replaced before the step.
        jacobian: ``"exact"``, or ``"broyden"``: the first one, then ``Y ← Y + (Δy − Y Δs) Δsᵀ/‖Δs‖²`` (needs
            the same points in every step).
        projecting: ``False``: λ is taken from ``f = 0``, and the loss pulls along the constraint's normals.

    Raises:
        ValueError: a number is out of its range.

    >>> import torch, feasible as fs
    >>> x = torch.tensor([0.0, 2.0], requires_grad=True)
    >>> problem = fs.Problem([x])
    >>> handle = problem.require("sum", fs.Equal(1.0), by=fs.ExactMultipliers(rate=5.0))
    >>> optimizer = problem.attach(torch.optim.SGD([x], lr=0.1))
    >>> for _ in range(60):
    ...     optimizer.zero_grad()
    ...     problem.loss((x**2).sum(), sum=x.sum()).backward()
    ...     _ = optimizer.step()
    >>> torch.allclose(x, torch.tensor(0.5), atol=1e-4), round(handle.multiplier.item(), 3)
    (True, -1.0)

    Source: Tanabe, *A geometric method in nonlinear programming* (1980) for the flow; Rosen, *The gradient
    projection method for nonlinear programming, part II* (1961); Broyden (1965) for the update of Y.
    """

    rate: float | Schedule | None = None
    damping: float | None = None
    _: KW_ONLY
    form: Literal["batch", "sample", "reduced"] | None = None
    truncation: float | None = None
    preconditioner: Literal["optimizer", "identity"] = "optimizer"
    jacobian: Literal["exact", "broyden"] = "exact"
    projecting: bool = True

    has_multiplier = True
    linearises = True
    for_weights = False

    def __post_init__(self) -> None:
        if self.rate is not None:
            check_weight("ExactMultipliers", "rate", self.rate)
        if self.damping is not None and not 0 <= self.damping < math.inf:
            raise ValueError(f"ExactMultipliers: damping must be ≥ 0 and finite, got {self.damping!r}.")
        if self.truncation is not None and not 0 < self.truncation < 1:
            raise ValueError(f"ExactMultipliers: truncation must be in (0, 1), got {self.truncation!r}.")
        for name, known in (
            ("form", (None, "batch", "sample", "reduced")),
            ("preconditioner", ("optimizer", "identity")),
            ("jacobian", ("exact", "broyden")),
            ("projecting", (True, False)),
        ):
            if getattr(self, name) not in known:
                words = ", ".join(map(repr, known))
                raise ValueError(
                    f"ExactMultipliers: {name} must be one of {words}, got {getattr(self, name)!r}."
                )

    def pull(self, mean: Tensor, set: Set, state: State, step: int) -> Pull:
        """Nothing: the multiplier acts on the step, not through the loss."""
        return Pull(mean.new_zeros(()), torch.zeros_like(mean))

    def contraction(self, step: int, lr: float) -> float:
        """κ lr: the share of the residual that the step takes away.

        Raises:
            ValueError: it is 2 or more, and the residual would grow.
        """
        if self.rate is None:
            return CONTRACTION if lr > 0 else 0.0
        share = value_at(self.rate, step) * lr
        if share >= 2:
            raise ValueError(
                f"ExactMultipliers: rate·lr = {share:.3g} at step {step}: steps beyond 2 residuals make them grow.\n"
                f"  Give a rate below {1 / lr:.3g}, which would remove the residual in one step."
            )
        return share

    def direction(self, rows: Rows, moved: Tensor, root: Tensor) -> Solution:
        """λ, and the force ``√P Jᵀλ``, for rows in their place beside the step that the optimizer takes by itself."""
        return multipliers(rows, moved, root, self.damping_of(rows), self.truncation)

    def damping_of(self, rows: Rows) -> float:
        """μ relative to the largest diagonal entry."""
        if self.damping is not None:
            return self.damping
        return default_damping(rows.jacobian.dtype)
