"""Which optimizers can be attached: they hold the model's parameters, and no method works against them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch.optim import LBFGS, Optimizer

from feasible.errors import UnsupportedError
from feasible.methods.moments import PRECONDITIONED, Moments
from feasible.methods.slot import Slot
from feasible.optim.constrained import TakesSets
from feasible.optim.levenberg_marquardt import LevenbergMarquardt
from feasible.problem.constraint import Constraint
from feasible.sets import Frozen


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
        if constraint.has_term and isinstance(optimizer, LevenbergMarquardt):
            raise UnsupportedError(
                f"{method} on {constraint.name} under LevenbergMarquardt: its closure returns residuals, so no loss "
                "could carry the method's term.\n"
                "  Append the constraint's own residuals to the closure's, or use ProjectedLBFGS or minimize()."
            )
        if constraint.method.linearises and not Moments(optimizer).has_preconditioner:
            raise UnsupportedError(
                f"{method} on {constraint.name} under {type(optimizer).__name__}: it solves for the multipliers in the "
                "metric of the optimizer's own steps, which is not known here.\n"
                f"  Works with: {', '.join(kind.__name__ for kind in PRECONDITIONED)} and their kinds (AdamW).\n"
                "  Use Penalty or AugmentedLagrangian with others."
            )
        if slot is None or not slot.leaf.requires_grad:
            continue
        if isinstance(constraint.bound, Frozen):
            continue  # it takes no gradients from here on
        if isinstance(optimizer, TakesSets):
            check_handover(optimizer, constraint)
        if not isinstance(optimizer, LBFGS):
            continue
        if constraint.method.acts_after_step(constraint.bound):
            raise UnsupportedError(
                f"{method} on {constraint.name} under LBFGS: moving a weight after the step breaks the curvature "
                "pairs that LBFGS builds from it.\n"
                "  Use Reparametrize, Penalty or AugmentedLagrangian with LBFGS, or an optimizer made for "
                "projections: optim.ProjectedLBFGS (or Adam, SGD, …)."
            )


def check_handover(optimizer: TakesSets, constraint: Constraint) -> None:
    """Raise where an optimizer that holds weights in their sets cannot do it, or another method moves the weight."""
    name, method = type(optimizer).__name__, type(constraint.method).__name__
    if constraint.method.holds:
        objection = optimizer.objection(constraint.bound)
        if objection is not None:
            raise UnsupportedError(
                f"{method} on {constraint.name} under {name}: {name} holds weights in their sets by itself, and "
                f"cannot hold one in {constraint.set!r}: {objection}.\n"
                f"  Works with: {optimizer.works_with}"
            )
    elif constraint.method.acts_after_step(constraint.bound):
        raise UnsupportedError(
            f"{method} on {constraint.name} under {name}: moving a weight after the step breaks what {name} knows of "
            "it.\n  Use Project, which hands it the set, or Reparametrize, Penalty or AugmentedLagrangian."
        )
