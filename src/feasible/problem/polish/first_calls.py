"""One call of the loss and of the metric, before any work is done: what would fail much later fails here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from feasible.problem.polish.objective import Loss, requiring, same_noise, scalar
from feasible.problem.polish.retraining import remaining, still_enforced
from feasible.problem.polish.surroundings import evaluating
from feasible.problem.polish.targets import Target
from feasible.problem.text import listing
from feasible.solve.handed import Function, described, first_value

if TYPE_CHECKING:
    from feasible.problem.problem import Problem


def check_calls(
    problem: Problem,
    targets: Sequence[Target],
    call: Callable[..., Any],
    batch: Any,
    loss: Loss,
    metric: Function | None,
    steps: int,
) -> None:
    """Raise ``ValueError`` where the loss or the metric is no number, or the loss teaches a retraining nothing."""
    with evaluating(problem), same_noise(targets):
        _check_loss(problem, targets, call, batch, loss, steps)
        if metric is not None:
            with torch.no_grad():
                _check_metric(first_value(metric, call, batch, "polish: metric"))


def _check_loss(
    problem: Problem,
    targets: Sequence[Target],
    call: Callable[..., Any],
    batch: Any,
    loss: Loss,
    steps: int,
) -> None:
    resting = [target.slot.leaf for target in targets if target.whole]
    with torch.enable_grad(), requiring(resting, False):
        value = scalar(first_value(loss, call, batch, "polish: loss"))
    left = remaining(problem, targets) if steps else {}
    # Terms of other constraints are something to learn from, too.
    teaches = value.requires_grad or any(c.has_term for c in still_enforced(problem, targets))
    if left and not teaches:
        raise ValueError(
            "polish: loss(call, batch) cannot be differentiated by the weights that are left to retrain "
            f"({listing(left, 5)}): it does not depend on them, or is detached.\n"
            "  Run the model as call(…), leave out .detach() and torch.no_grad(), or pass steps=0."
        )


def _check_metric(measured: object) -> None:
    try:
        is_number = torch.as_tensor(measured).numel() == 1
    except (TypeError, ValueError, RuntimeError):
        is_number = False
    if not is_number:
        raise ValueError(
            f"polish: metric(call, batch) must return one number, got {described(measured)}. "
            "Reduce it, as in .mean()."
        )
