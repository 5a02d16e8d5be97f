"""Other people's multiplier methods on the same problem: a training step, and the problem of Platt & Barr."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .peers import load, using
from .timing import Run

Values = Callable[[], tuple[Tensor, Tensor]]
"""Loss and violation (one number, ≤ 0 or = 0) at the present weights."""
Weights = list[Tensor]
Start = Callable[[Any, Values, torch.optim.Optimizer, bool, float], Run]


def peers(
    values: Values, weights: Callable[[], torch.optim.Optimizer], equality: bool, rate: float
) -> dict[str, Run | str]:
    """A step of each library, or why it is not there; ``rate`` is that of the multiplier."""
    kinds: dict[str, tuple[str, Start]] = {
        "humancompatible-train, ALM": ("humancompatible.train.dual_optim", human_compatible),
        "mdmm": ("mdmm", modified_differential),
        "Cooper, simultaneous": ("cooper", cooper("Simultaneous", False)),
        "Cooper, alternating": ("cooper", cooper("AlternatingPrimalDual", False)),
        "Cooper, augmented": ("cooper", cooper("AlternatingPrimalDual", True)),
    }
    found = {}
    for name, (module, start) in kinds.items():
        found[name] = using(load(module), lambda m, start=start: start(m, values, weights(), equality, rate))
    return found


def human_compatible(
    library: Any, values: Values, optimizer: torch.optim.Optimizer, equality: bool, rate: float
) -> Run:
    """Its recommended loop, with penalty 1."""
    dual = library.ALM(m=1, lr=rate, penalty=1.0, is_ineq=not equality)

    def step() -> None:
        optimizer.zero_grad()
        loss, violation = values()
        dual.forward_update(loss, violation.reshape(1)).backward()
        optimizer.step()

    return step


def modified_differential(
    library: Any, values: Values, optimizer: torch.optim.Optimizer, equality: bool, rate: float
) -> Run:
    """Its constraint of the same kind, damping 1, multipliers in the optimizer of the weights."""
    latest: list[Tensor] = []
    kind = library.EqConstraint if equality else library.MaxConstraint
    constraint = kind(lambda: latest[-1], 0.0)
    module = library.MDMM([constraint])
    optimizer.add_param_group({"params": [constraint.lmbda], "lr": -rate})
    if not equality:
        optimizer.add_param_group({"params": [constraint.slack]})

    def step() -> None:
        loss, violation = values()
        latest[:] = [violation]
        optimizer.zero_grad()
        module(loss).value.backward()
        optimizer.step()

    return step


def cooper(kind: str, augmented: bool) -> Start:
    """A step of one of its optimizers, with gradient ascent on the multiplier."""

    def start(
        library: Any, values: Values, optimizer: torch.optim.Optimizer, equality: bool, rate: float
    ) -> Run:
        types, formulations = library.ConstraintType, library.formulations
        formulation = formulations.AugmentedLagrangian if augmented else formulations.Lagrangian
        penalty = (
            library.penalty_coefficients.DensePenaltyCoefficient(torch.tensor(1.0)) if augmented else None
        )

        class Problem(library.ConstrainedMinimizationProblem):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.constraint = library.Constraint(
                    types.EQUALITY if equality else types.INEQUALITY,
                    formulation,
                    library.multipliers.DenseMultiplier(num_constraints=1),
                    penalty,
                )

            def compute_cmp_state(self) -> Any:
                loss, violation = values()
                seen = {self.constraint: library.ConstraintState(violation=violation.reshape(1))}
                return library.CMPState(loss=loss, observed_constraints=seen)

        problem = Problem()
        dual = torch.optim.SGD(problem.dual_parameters(), lr=rate, maximize=True)
        both = getattr(library.optim, f"{kind}Optimizer")(problem, optimizer, dual)
        return lambda: both.roll()

    return start


def steps_to(run: Run, distance: Callable[[], float], accuracy: float = 1e-6, most: int = 2000) -> int:
    """How many steps it takes until the distance is within the accuracy for good."""
    last = 0
    for step in range(1, most + 1):
        run()
        last = step if not distance() <= accuracy else last
    return last + 1


def network_values(model: nn.Module, x: Tensor, y: Tensor) -> Values:
    """Cross entropy, and the mean of the first output ≤ 0.1."""
    criterion = nn.CrossEntropyLoss()

    def values() -> tuple[Tensor, Tensor]:
        prediction = model(x)
        return criterion(prediction, y), prediction[:, 0].mean() - 0.1

    return values
