"""What would otherwise go wrong without a word: values that cannot move a weight, weights that nobody steps."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from feasible.problem.constraint import Constraint
from feasible.problem.measures import Reading, detached
from feasible.problem.probe import norms_of_gradients


def unheld(constraints: Iterable[Constraint], optimizers: Iterable[Optimizer]) -> list[Constraint]:
    """Constraints on weights that take gradients and that none of the optimizers steps."""
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    return [
        constraint
        for constraint in constraints
        if constraint.slot is not None
        and constraint.enabled
        and constraint.slot.refresh().requires_grad
        and id(constraint.slot.leaf) not in held
    ]


def warn(constraints: Sequence[Constraint], optimizers: Sequence[Optimizer]) -> None:
    """At the first tick: each finding in a warning."""
    strangers = unheld(constraints, optimizers) if optimizers else []
    if strangers:
        warnings.warn(
            f"no attached optimizer holds {', '.join(c.name for c in strangers)}: what holds there now is not "
            "enforced again. Attach the optimizer of these weights, too.",
            stacklevel=2,
        )
    constant = [c.name for c in constraints if c.gradientless]
    if constant:
        warnings.warn(
            f"the value of {', '.join(constant)} came without a gradient: it cannot move the weights. Compute it "
            "from the model outside no_grad; hand in a rate or a count as feasible.Surrogate(smooth, truth).",
            stacklevel=2,
        )


def measure_reach(constraint: Constraint, reading: Reading, leaves: Sequence[Tensor]) -> None:
    """How much of the constraint's pull arrives at the weights; stays on the device.

    ``constraint.reach`` becomes (‖∂⟨r, v⟩/∂θ‖, ‖r‖) for the residual r of the value v. Where the graph cannot be
    used twice nothing is known.
    """
    value = reading.value
    if not value.requires_grad:
        return
    with torch.no_grad():
        residual = constraint.bound.residual(detached(value))
    try:
        norms = [norm for norm in norms_of_gradients(value, residual, leaves) if norm is not None]
    except RuntimeError:
        return
    with torch.no_grad():
        arrived = torch.linalg.vector_norm(torch.stack(norms)) if norms else residual.new_zeros(())
        constraint.reach = torch.stack([arrived.to(residual), torch.linalg.vector_norm(residual)])
