"""Continuation: a hard equation is reached by way of milder ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import nn

__all__ = ["Continuation", "continuation"]


@final
@dataclass(frozen=True)
class Continuation:
    """What ``continuation`` reached."""

    success: bool
    """Whether the last value was solved."""
    values: tuple[float, ...]
    """Those that were solved, in their order, the ones in between included."""
    outcomes: tuple[Any, ...]
    """What ``solve`` returned for each of them."""


def continuation(
    model: nn.Module,
    solve: Callable[[nn.Module, float], Any],
    values: Sequence[float],
    *,
    halvings: int = 4,
) -> Continuation:
    """Solve for a mild coefficient first, then for ever harder ones, each from the weights of the last.

    Where a value is not solved, the weights of the last one that was are restored, and a value between the two is
    solved first: their geometric mean, or the arithmetic one where their signs differ or one is 0.

    Args:
        model: changed in place; ends with the weights of the last value that was solved.
        solve: of the model and a value, such as a viscosity; trains the model in place and returns something with
            ``success``, as ``collocate`` and ``project_parameters`` do.
        values: from the mildest to the one that is wanted.
        halvings: how many values may be put between two of them, one nearer than the other.

    Returns:
        Which values were solved, and whether the last one was.

    Raises:
        ValueError: there are no values, one is not finite, or halvings is negative.

    >>> from functools import partial
    >>> import torch
    >>> from feasible import pde
    >>> _ = torch.manual_seed(0)
    >>> line = pde.Interval(0, 1)
    >>> ends = [pde.Dirichlet(line, "left", 0.0), pde.Dirichlet(line, "right", 1.0)]
    >>> network = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    >>> def solve(model, thickness):
    ...     layer = pde.equation("e*u_xx + u_x", e=thickness)
    ...     system = pde.System(layer, line, ends, points=40, dtype=torch.float64)
    ...     return pde.collocate(model, system, tol=1e-4)
    >>> result = continuation(network, solve, [1.0, 0.1])
    >>> x = torch.linspace(0, 1, 20, dtype=torch.float64)[:, None]
    >>> truth = (1 - torch.exp(-x / 0.1)) / (1 - math.exp(-10))
    >>> result.success, bool((network(x) - truth).abs().max() < 1e-3)
    (True, True)

    Source: Allgower & Georg, *Introduction to Numerical Continuation Methods* (2003); for networks Krishnapriyan et
    al., *Characterizing possible failure modes in physics-informed neural networks* (2021).
    """
    wanted = [float(value) for value in values]
    if not wanted or not all(map(math.isfinite, wanted)):
        raise ValueError(f"continuation: expected finite values, from mild to wanted; got {wanted}.")
    if halvings < 0:
        raise ValueError(f"continuation: halvings must be ≥ 0, got {halvings!r}.")
    waiting = [(value, halvings) for value in reversed(wanted)]
    solved: list[float] = []
    outcomes: list[Any] = []
    while waiting:
        value, left = waiting[-1]
        before = copy.deepcopy(model.state_dict())
        outcome = solve(model, value)
        if outcome.success:
            waiting.pop()
            solved.append(value)
            outcomes.append(outcome)
            continue
        model.load_state_dict(before)
        if not solved or not left:
            break
        waiting[-1] = (value, left - 1)
        waiting.append((mean(solved[-1], value), left - 1))
    return Continuation(not waiting, tuple(solved), tuple(outcomes))


def mean(a: float, b: float) -> float:
    """Geometric where both are positive or both negative, else arithmetic."""
    return math.copysign(math.sqrt(a * b), a) if a * b > 0 else 0.5 * (a + b)
