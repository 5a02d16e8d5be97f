"""Collocation: a network is solved for on points that follow its residual."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from feasible.optim import LevenbergMarquardt
from feasible.pde.condition import Condition, OnPart
from feasible.pde.inputs import row_count, taken
from feasible.pde.samplers import chosen, uniform
from feasible.pde.system import System
from feasible.pde.values import is_by_row

__all__ = ["Collocation", "collocate", "redrawn"]

REACHABLE = 100
"""Rounding errors of a dtype below which no tolerance makes sense."""
CANDIDATES = 5
"""Even points to choose from, for each one that is chosen."""


@final
@dataclass(frozen=True)
class Collocation:
    """What ``collocate`` reached."""

    success: bool
    """Whether the residual is within the tolerance, at points that the network had not been fitted to."""
    residual: float
    """``‖system(model)‖`` at the points that were drawn last: the root of the blocks' mean squares, summed."""
    rounds: int
    """How many times the network was fitted to fresh points."""


def collocate(
    model: nn.Module,
    system: System,
    *,
    tol: float = 1e-5,
    rounds: int = 40,
    iterations: int = 10,
    seconds: float = math.inf,
    boundary: int | None = None,
    power: float = 1.0,
    offset: float = 1.0,
    damping: float = 1e-3,
    linear: Iterable[Tensor] = (),
    generator: torch.Generator | None = None,
) -> Collocation:
    """Solve a system for all parameters of a network, on points that are drawn where its residual is large.

    Each round draws fresh points (``redrawn``), stops if the residual there is within the tolerance, and else goes
    some iterations of ``optim.LevenbergMarquardt`` on them. Steep layers that an even grid steps over are found this
    way, and what is reported was measured at points that were not fitted.

    Args:
        model: of ``(x, *inputs)``; trained in place, best in float64. Frozen parameters stay.
        system: equation and conditions; the number of its points is that of each round.
        tol: the norm of the residual, nondimensional, that is small enough.
        rounds: how often at most.
        iterations: of Levenberg–Marquardt in a round.
        seconds: of process time, after which no further round begins.
        boundary: points of each condition on a part that is not a single point; ``None``: a tenth of the others.
        power: of the residual in the density of points; 0: even.
        offset: what keeps points where the residual is small.
        damping: the first one, in units of the largest eigenvalue.
        linear: parameters of the model that are eliminated by least squares (variable projection), such as those of
            the last layer; see ``optim.LevenbergMarquardt``.
        generator: of the points; ``None``: torch's own.

    Raises:
        ValueError: an argument is out of range, or the model has nothing to train.
        FloatingPointError: the residual is not finite.

    Warns:
        UserWarning: ``tol`` is below what the points' dtype can hold.

    >>> from feasible import pde
    >>> _ = torch.manual_seed(0)
    >>> line = pde.Interval(0, 1)
    >>> ends = [pde.Dirichlet(line, "left", 0.0), pde.Dirichlet(line, "right", 1.0)]
    >>> system = pde.System(pde.Poisson(), line, ends, points=20, dtype=torch.float64)
    >>> network = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    >>> result = collocate(network, system, tol=1e-4)
    >>> x = torch.rand(5, 1, dtype=torch.float64)
    >>> result.success, bool((network(x) - x).abs().max() < 1e-3)
    (True, True)

    Source: Wu, Zhu, Tan, Kartha & Lu, *A comprehensive study of non-adaptive and residual-based adaptive sampling
    for physics-informed neural networks* (2023).
    """
    if not 0 < tol < math.inf:
        raise ValueError(f"collocate: tol must be positive, got {tol!r}.")
    if rounds < 1:
        raise ValueError(f"collocate: rounds must be positive, got {rounds!r}.")
    dtype = system.points.dtype
    reachable = REACHABLE * torch.finfo(dtype).eps
    if tol < reachable and dtype != torch.float64:
        warnings.warn(
            f"collocate: the points are {str(dtype).removeprefix('torch.')}, in which a residual of about "
            f"{reachable:.1g} is reachable, not {tol:g}. For more, use float64: system.points and model.double().",
            stacklevel=2,
        )
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("collocate: no parameter of the model requires a gradient.")
    own = {id(parameter) for parameter in linear}
    if not own <= {id(parameter) for parameter in parameters}:
        raise ValueError(
            "collocate: linear= holds a tensor that is not a parameter of the model, or is frozen."
        )
    groups = [
        {"params": [p for p in parameters if (id(p) in own) == is_linear], "linear": is_linear}
        for is_linear in (False, True)
    ]
    optimizer = LevenbergMarquardt(
        [group for group in groups if group["params"]], damping, max_iter=iterations
    )
    end = time.process_time() + seconds
    for number in range(rounds + 1):
        drawn = redrawn(system, model, boundary, power=power, offset=offset, generator=generator)
        with torch.no_grad():
            residual = float(torch.linalg.vector_norm(drawn(model)))
        if residual <= tol or number == rounds or time.process_time() >= end:
            break
        optimizer.step(partial(drawn, model))
    return Collocation(residual <= tol, residual, number)


@torch.no_grad()
def redrawn(
    system: System,
    model: Callable[..., Tensor],
    boundary: int | None = None,
    *,
    power: float = 1.0,
    offset: float = 1.0,
    generator: torch.Generator | None = None,
) -> System:
    """The same system at fresh points, more of them where the model's residual is large.

    Conditions at points of their own (``at=``, anchors, values by row) keep them.

    Args:
        system: stays as it is.
        model: whose residual is looked at.
        boundary: points of each condition on a part that is not a single point; ``None``: a tenth of the others.
        power: see ``adaptive``.
        offset: see ``adaptive``.
        generator: of the points.

    >>> from feasible import pde
    >>> system = pde.System(pde.Poisson(), pde.Interval(-1, 1), points=200)
    >>> bump = lambda x: torch.exp(-50 * x**2)
    >>> bool((redrawn(system, bump).points.abs() < 0.4).float().mean() > 0.6)
    True
    """
    generator = torch.default_generator if generator is None else generator
    pick = partial(chosen, power=power, offset=offset, generator=generator)
    count, like, inputs = len(system.points), system.points, system.inputs
    x = uniform(system.domain, CANDIDATES * count, generator=generator, dtype=like.dtype).to(like.device)
    known = row_count(inputs)
    if known is not None:
        inputs = taken(inputs, torch.randint(known, (len(x),), generator=generator))
    keep = pick(system.equation(model, x, *inputs), count)
    few = -(-count // 10) if boundary is None else boundary
    conditions = [moved(condition, system, model, few, pick, generator) for condition in system.conditions]
    return System(system.equation, system.domain, conditions, x[keep], taken(inputs, keep), system.weights)


def moved(
    condition: Condition,
    system: System,
    model: Callable[..., Tensor],
    count: int,
    pick: Callable[[Tensor, int], Tensor],
    generator: torch.Generator,
) -> Condition:
    """The same condition at fresh points of its part, if it has a part with more than one point and none of its own."""
    if not isinstance(condition, OnPart):
        return condition
    if isinstance(condition.value, Tensor) and is_by_row(condition.value):
        x, inputs = condition.placed(system.points, system.inputs)  # before the system's are drawn anew
        return replace(condition, at=x, inputs=inputs)
    if condition.at is not None or condition.domain.dim == 1:
        return condition
    x, inputs = condition.drawn(system.points, system.inputs, CANDIDATES * count, generator)
    keep = pick(condition.residual(model, x, *inputs), count)
    return replace(condition, at=x[keep], inputs=taken(inputs, keep))
