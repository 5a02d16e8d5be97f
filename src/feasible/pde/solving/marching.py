"""March over time: one network after the other, each with its start where the last one ended."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from torch import Tensor, nn
from torch.func import functional_call

from feasible.errors import UnsupportedError
from feasible.pde.anchors import Anchor
from feasible.pde.built_in import hard
from feasible.pde.condition import Condition, OnPart
from feasible.pde.conditions import Initial
from feasible.pde.differentiation import derivatives
from feasible.pde.domains import Domain
from feasible.pde.inputs import taken
from feasible.pde.samplers import sobol
from feasible.pde.solving.collocation import collocate
from feasible.pde.solving.time_slabs import Slabs, Stretched, between, slabs, times
from feasible.pde.system import System
from feasible.pde.values import is_by_row

__all__ = ["March", "march"]

Solve = Callable[[nn.Module, System], Any]


@final
@dataclass(frozen=True)
class March:
    """What ``march`` reached."""

    solution: Slabs
    """The solution at all times."""
    outcomes: tuple[Any, ...]
    """What ``solve`` returned, one for each slab of the solution."""
    halvings: int
    """How often a slab was cut in two because it was not solved."""

    @property
    def success(self) -> bool:
        """Whether every slab was solved."""
        return all(outcome.success for outcome in self.outcomes)

    def __repr__(self) -> str:
        solved = sum(outcome.success for outcome in self.outcomes)
        times = ", ".join(f"{edge:g}" for edge in self.solution.edges)
        return f"March({solved} of {len(self.outcomes)} slabs solved, {self.halvings} halved; times {times})"


def march(
    system: System,
    model: nn.Module,
    count: int | Sequence[float] = 10,
    solve: Solve = collocate,
    *,
    built_in: Sequence[str] = (),
    halvings: int = 3,
) -> March:
    """Solve an equation in time by time slabs: small systems one after the other, in the place of a large one.

    On each slab stands a copy of the last slab's network (``Stretched``), so that it starts near its solution. It is
    solved for the equation, the conditions on the slab, and the values with which the last slab ended as initial
    conditions. A slab that is not solved is cut in two and both are solved again: short slabs come about where the
    solution changes fast.

    What a slab missed at its end is an error of all that follow, as with any time stepping: choose the tolerance of
    ``solve`` below the accuracy that is wanted. ``Slabs.jumps`` measures it.

    Args:
        system: the equation on a ``TimeCylinder`` or an ``Interval`` that is time, with an ``Initial`` condition. Each
            slab has as many collocation points; conditions at points of their own have those in the slab.
        model: the network, for the whole domain; a copy is trained.
        count: how many slabs of equal length, or the times between them.
        solve: makes a module satisfy a system in place and returns something with ``success``: ``collocate``, a
            ``partial`` of it, or a function of your own around ``project_parameters``, say.
        built_in: the parts of the boundary whose conditions are built into each network (``pde.hard``); ``"start"``
            (``"left"`` for an interval) makes the solution continuous, where no slope by time is given there.
        halvings: how often a slab may be halved, one after the other.

    Returns:
        The solution as one module, and what was reached on each slab.

    Raises:
        ValueError: there is no initial condition, or an argument is out of range.
        UnsupportedError: a condition is at the end of time, or the domain has no time.

    >>> import torch
    >>> from functools import partial
    >>> from feasible import pde
    >>> _ = torch.manual_seed(0)
    >>> time = pde.Interval(0, 4)
    >>> decay = pde.equation("u_x + 2*u")
    >>> start = pde.Initial(time, "left", 1.0)
    >>> system = pde.System(decay, time, [start], points=20, dtype=torch.float64)
    >>> network = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    >>> result = march(system, network, 4, partial(pde.collocate, tol=1e-5), built_in=["left"])
    >>> t = torch.linspace(0, 4, 50, dtype=torch.float64)[:, None]
    >>> result.success, bool((result.solution(t) - torch.exp(-2 * t)).abs().max() < 1e-4)
    (True, True)

    Source: Wight & Zhao, *Solving Allen–Cahn and Cahn–Hilliard equations using the adaptive physics informed neural
    networks* (2021), time marching; Meng, Li, Zhang & Karniadakis, *PPINN* (2020).
    """
    check(system, built_in, halvings)
    waiting = [(slab, halvings) for slab in reversed(slabs(system.domain, count))]
    solved: list[tuple[Domain, nn.Module, Any]] = []
    cuts = 0
    while waiting:
        slab, left = waiting.pop()
        before = solved[-1][1] if solved else None
        local = on_slab(system, slab, before)
        network = Stretched(copy.deepcopy(model), slab, system.domain)
        piece, local = with_built_in(network, local, built_in, check=not solved and not system.inputs)
        outcome = solve(piece, local)
        if not hasattr(outcome, "success"):
            raise TypeError(
                f"march: solve must return something with success, got {type(outcome).__name__}.\n"
                "  project_parameters and collocate do."
            )
        if not outcome.success and left:
            begin, end = times(slab)
            middle = 0.5 * (begin + end)
            halves = between(slab, middle, end), between(slab, begin, middle)
            waiting += [(half, left - 1) for half in halves]
            cuts += 1
            continue
        model = network.model
        solved.append((slab, piece, outcome))
    edges = [times(slab)[0] for slab, _, _ in solved] + [times(system.domain)[1]]
    solution = Slabs(edges, [piece for _, piece, _ in solved])
    return March(solution, tuple(outcome for *_, outcome in solved), cuts)


def check(system: System, built_in: Sequence[str], halvings: int) -> None:
    """Raise where there is nothing to march from, or no way forward.

    Raises:
        ValueError, UnsupportedError: as the message says.
    """
    times(system.domain)
    if not any(isinstance(condition, Initial) for condition in system.conditions):
        raise ValueError(f"march: {system} has no initial condition to start from. Add a pde.Initial.")
    last = system.domain.parts[-1]
    for condition in system.conditions:
        if isinstance(condition, OnPart) and condition.part == last:
            raise UnsupportedError(
                f"march: {condition.name} is at the end of time, which a march forward cannot know of.\n"
                "  Use collocate on the whole domain."
            )
    if isinstance(built_in, str):
        raise TypeError(f"march: built_in must be a list of parts, got {built_in!r}. Use [{built_in!r}].")
    known = {condition.part for condition in system.conditions if isinstance(condition, OnPart)}
    for part in built_in:
        if part not in known:
            raise ValueError(f"march: built_in names {part!r}, where {system} has no condition.")
        if any(isinstance(c, Initial) and c.order and c.part == part for c in system.conditions):
            raise UnsupportedError(
                f"march: {part!r} has a slope by time, which cannot be built in slab after slab.\n"
                "  Leave it out of built_in: it is then a row of the system."
            )
    if halvings < 0:
        raise ValueError(f"march: halvings must be ≥ 0, got {halvings!r}.")


def on_slab(system: System, slab: Domain, before: nn.Module | None) -> System:
    """The system on a slab, which starts where the solution before it ended."""
    pairs = [
        (moved, weight)
        for condition, weight in zip(system.conditions, system.weights[1:], strict=True)
        if (moved := condition_on(condition, system, slab, before)) is not None
    ]
    like = system.points
    return System(
        system.equation,
        slab,
        [condition for condition, _ in pairs],
        sobol(slab, len(like), dtype=like.dtype).to(like.device),
        system.inputs,
        [system.weights[0], *(weight for _, weight in pairs)],
    )


def condition_on(
    condition: Condition, system: System, slab: Domain, before: nn.Module | None
) -> Condition | None:
    """A condition on a slab; ``None`` where it has no point there."""
    if isinstance(condition, Initial) and before is not None:
        return replace(condition, domain=slab, value=Ended(before, condition), at=None)
    if isinstance(condition, Anchor):
        rows = slab.contains(condition.x)
        own = taken(condition.inputs, rows)
        domain = None if condition.domain is None else slab
        cut = replace(condition, x=condition.x[rows], y=condition.y[rows], inputs=own, domain=domain)
        return cut if bool(rows.any()) else None
    if not isinstance(condition, OnPart):
        raise UnsupportedError(f"march: {condition.name} is not a condition on a part of the boundary.")
    is_listed = isinstance(condition.value, Tensor) and is_by_row(condition.value)
    if condition.at is None and not is_listed:
        return replace(condition, domain=slab)
    x, inputs = condition.placed(system.points, system.inputs)
    rows = slab.contains(x)
    value = condition.value[rows] if isinstance(condition.value, Tensor) and is_listed else condition.value
    if not bool(rows.any()):
        return None
    return replace(condition, domain=slab, at=x[rows], inputs=taken(inputs, rows), value=value)


@final
@dataclass(frozen=True, eq=False)
class Ended:
    """The values, or slopes by time, with which a slab ended: what an initial condition asks for."""

    model: nn.Module
    condition: Initial

    def __call__(self, x: Tensor, *inputs: Any) -> Tensor:
        """(n, components); gradients flow to x, not to the model's parameters."""
        frozen = {name: each.detach() for name, each in self.model.named_parameters()}

        def model(x: Tensor, *inputs: Any) -> Tensor:
            found: Tensor = functional_call(self.model, frozen, (x, *inputs))
            return found if found.ndim == 2 else found.unsqueeze(1)

        if self.condition.order == 0:
            return self.condition.picked(model(x, *inputs))
        u = derivatives(model, x, *inputs)
        return self.condition.picked(u.partial((u.dim - 1,)))


def with_built_in(
    network: Stretched, system: System, parts: Sequence[str], check: bool
) -> tuple[nn.Module, System]:
    """The network with the conditions on these parts built in, and the system with the others.

    Later slabs need no check: the one before satisfies the conditions at the sides, and so do the values it hands on.
    """
    if not parts:
        return network, system
    inside = [isinstance(c, OnPart) and c.part in parts for c in system.conditions]
    kept = [place for place, is_inside in enumerate(inside) if not is_inside]
    rest = System(
        system.equation,
        system.domain,
        [system.conditions[place] for place in kept],
        system.points,
        system.inputs,
        [system.weights[0], *(system.weights[1 + place] for place in kept)],
    )
    known = [c for c, is_inside in zip(system.conditions, inside, strict=True) if is_inside]
    return hard(network, *known, check=check), rest
