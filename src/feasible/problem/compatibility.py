"""Which optimizers can be attached: they hold the model's parameters, and no method works against them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch.optim import LBFGS, Optimizer

from feasible.errors import UnsupportedError
from feasible.methods.slot import Slot
from feasible.problem.constraint import Constraint


def check_parameters(optimizer: Optimizer, slots: Mapping[str, Slot]) -> None:
    """Raise ``ValueError`` unless the optimizer holds parameters that the model has now."""
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    stale = [slot.name for slot in slots.values() if slot.original is not None and id(slot.original) in held]
    if stale:
        raise ValueError(
            f"this {type(optimizer).__name__} holds parameters that a reparametrization has replaced: "
            f"{', '.join(stale)}.\n  Make the optimizer after constrain(), from model.parameters()."
        )
    if not held & {id(slot.refresh()) for slot in slots.values()}:
        raise ValueError(
            f"this {type(optimizer).__name__} holds none of the model's parameters.\n"
            "  Make it from the parameters of the model that the Problem was given (after wrapping or moving it)."
        )


def check_methods(optimizer: Optimizer, constraints: Iterable[Constraint]) -> None:
    """Raise ``UnsupportedError`` where a constraint's method and the optimizer would undo each other."""
    ascends = {
        id(parameter): bool(group.get("maximize"))
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for constraint in constraints:
        slot, method = constraint.slot, type(constraint.method).__name__
        if slot is not None and id(slot.refresh()) not in ascends:
            continue
        if constraint.has_term and (any(ascends.values()) if slot is None else ascends[id(slot.leaf)]):
            raise UnsupportedError(
                f"{method} on {constraint.name} under {type(optimizer).__name__}(maximize=True): its term is a cost "
                "that must become small, and here it would be maximised.\n"
                "  Minimise the negative of the loss instead, or use Project or Reparametrize."
            )
        if slot is None or not isinstance(optimizer, LBFGS) or not slot.leaf.requires_grad:
            continue
        if constraint.method.acts_after_step(constraint.bound):
            raise UnsupportedError(
                f"{method} on {constraint.name} under LBFGS: moving a weight after the step breaks the curvature "
                "pairs that LBFGS builds from it.\n"
                "  Use Reparametrize, Penalty or AugmentedLagrangian with LBFGS, or an optimizer made for "
                "projections: optim.ProjectedLBFGS (or Adam, SGD, …)."
            )
