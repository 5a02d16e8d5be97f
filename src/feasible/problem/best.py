"""The best weights so far: those that satisfy everything at the least loss, or that violate least."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from feasible.problem import plain_state
from feasible.problem.constraint import Constraint, root_mean_square, violations
from feasible.problem.measures import SampleDistance, detached
from feasible.surrogate import Surrogate

if TYPE_CHECKING:
    from feasible.problem.problem import Problem


class Best:
    """The best weights that ``problem.validate`` has seen, as ``problem.best``.

    Feasible beats infeasible; among feasible ones the lower loss is better, among infeasible ones the smaller
    violation, then the lower loss. Weights whose loss or violation is not finite are never the best.

    >>> import torch, feasible as fs
    >>> x = torch.zeros(1, requires_grad=True)
    >>> problem = fs.Problem({"x": x})
    >>> _ = problem.require("x", fs.Box(upper=1.0), tolerance=0.1)
    >>> for position in (3.0, 0.5, 1.05, 2.0):
    ...     _ = x.data.fill_(position)
    ...     _ = problem.validate((x - 2).square().mean(), x=x)
    >>> problem.best
    Best(loss=0.9025, violation=0.05, feasible, step=0)
    >>> problem.best.restore()
    >>> round(x.item(), 2)
    1.05
    """

    def __init__(self, problem: Problem) -> None:
        self.state: dict[str, Tensor] | None = None
        """A plain model's state dict, as ``feasible_state_dict()`` gives it; ``None`` before the first validation."""
        self.loss = math.nan
        """The loss that was handed in."""
        self.violation = math.nan
        """The largest violation of any constraint; of samples, the mean (or other reduction) of their distances."""
        self.feasible = False
        """Whether no constraint was violated by more than its tolerance."""
        self.step = -1
        """The tick of the clock."""
        self._problem = problem

    def consider(self, step: int, loss: float, violation: float, feasible: bool) -> bool:
        """Keep the present weights if they are the best so far, and say whether they are."""
        if not (math.isfinite(loss) and math.isfinite(violation)):
            return False
        if self.state is not None and _rank(loss, violation, feasible) >= _rank(
            self.loss, self.violation, self.feasible
        ):
            return False
        self.state = self._problem.feasible_state_dict()
        self.step, self.loss, self.violation, self.feasible = step, loss, violation, feasible
        return True

    def restore(self) -> None:
        """Put the best weights back into the model, reparametrized or not; multipliers and optimizers stay.

        Raises:
            RuntimeError: nothing has been validated yet.
        """
        if self.state is None:
            raise RuntimeError(
                "problem.best is empty: call problem.validate(loss, …) or problem.keep_best() first."
            )
        plain_state.load_plain_state(self._problem.model, self._problem.slots, self.state)

    def state_dict(self) -> dict[str, Any]:
        """What carries the best weights over a restart; a problem's own state dict does not hold them."""
        return {key: getattr(self, key) for key in _SAVED}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave."""
        for key in _SAVED:
            setattr(self, key, saved[key])

    def __repr__(self) -> str:
        if self.state is None:
            return "Best(nothing validated yet)"
        kind = "feasible" if self.feasible else "infeasible"
        return f"Best(loss={self.loss:.4g}, violation={self.violation:.3g}, {kind}, step={self.step})"


_SAVED = ("state", "loss", "violation", "feasible", "step")


def _rank(loss: float, violation: float, feasible: bool) -> tuple[float, ...]:
    return (0, loss) if feasible else (1, violation, loss)


@torch.no_grad()
def judge(problem: Problem, handed: Mapping[str, Any]) -> tuple[float, bool]:
    """The largest violation, and whether all constraints hold up to their tolerances; reads back once.

    Raises:
        ValueError: a value is unknown, missing, or of another shape than in training.
    """
    required = {c.name for c in problem.constraints if c.slot is None}
    unknown = handed.keys() - required
    if unknown:
        raise ValueError(f"validate: nothing is required under {', '.join(sorted(unknown))}.")
    found = [violation_and_tolerance(problem, c, handed) for c in problem.constraints if c.enabled]
    if not found:
        return 0.0, True
    device = found[0][0].device
    columns = torch.stack([number.to(device).double() for pair in found for number in pair]).reshape(-1, 2)
    violation, tolerance = columns.T
    worst, holds = torch.stack([violation.max(), (violation <= tolerance).all().double()]).tolist()
    return worst, bool(holds)


def violation_and_tolerance(
    problem: Problem, constraint: Constraint, handed: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """By how much a constraint is violated, and by how much it may be."""
    if constraint.slot is not None:
        value = constraint.slot.value().detach()
        if constraint.method.hard:
            return value.new_zeros(()), value.new_zeros(())  # as ``feasible_state_dict`` settles it
    else:
        value = _value(problem, constraint, handed)
    tolerance = tolerance_of(constraint, value)
    if value.numel() == 0:
        return torch.zeros_like(tolerance), tolerance
    if isinstance(constraint.measure, SampleDistance):
        return constraint.measure.reduced_distance(detached(value), constraint.state).amount, tolerance
    outside = violations(constraint, value)
    return outside.max() if constraint.spec.per == "value" else outside.mean(), tolerance


def tolerance_of(constraint: Constraint, value: Tensor) -> Tensor:
    """The violation that counts as none: as declared, or a thousandth of the first value's (the weight's) RMS."""
    if "tolerance" in constraint.state:
        return constraint.state["tolerance"]
    if constraint.spec.tolerance is not None:
        return torch.tensor(constraint.spec.tolerance, device=value.device)
    return root_mean_square(value) / 1000


def _value(problem: Problem, constraint: Constraint, handed: Mapping[str, Any]) -> Tensor:
    """The true value, as handed in or as the constraint's own function gives it."""
    given = handed.get(constraint.name)
    if given is None and constraint.spec.function is not None:
        given = constraint.spec.function(problem.model)
    if isinstance(given, (tuple, list)) and given:
        given = given[0]
    value = given.truth if isinstance(given, Surrogate) else given
    if not isinstance(value, Tensor):
        raise ValueError(
            f"validate: {constraint.name}: expected a tensor, got {type(value).__name__}. "
            "Hand in every required value of the validation pass."
        )
    if constraint.measure is not None:
        constraint.check_shape(value)
    return value.detach()
