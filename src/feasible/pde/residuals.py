"""What a trained model leaves of its equation and conditions, at the points it was trained on and at others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from feasible.pde.anchors import Anchor
from feasible.pde.condition import OnPart
from feasible.pde.conditions import Dirichlet, Initial
from feasible.pde.diagnosis import CONSTANT, one_problem, shown, solving_constants
from feasible.pde.differentiation import derivatives
from feasible.pde.differentiation.forward_mode import load
from feasible.pde.inputs import as_inputs, check_rows, matched, row_count, taken
from feasible.pde.samplers import uniform
from feasible.pde.values import known

if TYPE_CHECKING:
    from feasible.pde.system import System

__all__ = ["ResidualReport", "ResidualRow"]

Model = Callable[..., Tensor]
Placed = tuple[Tensor, tuple[Any, ...]]
TINY = 1e-2
"""An output below this share of what is known of it counts as collapsed."""


@final
@dataclass(frozen=True)
class ResidualRow:
    """One block at one set of points; residuals are nondimensional, as the system's rows are."""

    block: str
    """The equation or a condition."""
    where: str
    """``"training"`` or ``"held out"``."""
    points: int
    rms: float
    median: float
    """Quantiles of ``|r|`` over points and components: 50, 90 and 99 %, and the largest."""
    q90: float
    q99: float
    largest: float
    output: float
    """The RMS of the model's output at these points."""


@final
@dataclass(frozen=True)
class ResidualReport:
    """See ``System.report``; ``print`` shows a table."""

    rows: tuple[ResidualRow, ...]
    scope: str
    """Which points these are."""
    findings: tuple[str, ...] = ()
    """What makes small residuals meaningless; empty: nothing."""

    def __str__(self) -> str:
        width = max(len(row.block) for row in self.rows)
        heads = ("points", "RMS", "50 %", "90 %", "99 %", "largest", "output RMS")
        lines = [f"{'residual':<{width}}  {'where':<8}  " + "  ".join(f"{head:>10}" for head in heads)]
        for row in self.rows:
            numbers = (row.rms, row.median, row.q90, row.q99, row.largest, row.output)
            shown = "  ".join(f"{number:>10.2e}" for number in numbers)
            lines.append(f"{row.block:<{width}}  {row.where:<8}  {row.points:>10}  {shown}")
        return "\n".join([*lines, self.scope, *(f"Warning: {finding}" for finding in self.findings)])


@torch.no_grad()
def residual_report(
    system: System, model: Model, held_out: int, seed: int, inputs: Sequence[Any] | None
) -> ResidualReport:
    """See ``System.report``."""
    load()
    like, generator = system.points, torch.Generator().manual_seed(seed)
    own = None if inputs is None else matched(as_inputs("report", inputs), like)
    count = held_out if own is None else row_count(own) or held_out
    fresh = uniform(system.domain, count, generator=generator, dtype=like.dtype).to(like.device)
    rows = torch.randint(row_count(system.inputs) or 1, (count,), generator=generator)
    given = taken(system.inputs, rows) if own is None else own
    check_rows("report", fresh, given)
    is_new = ~seen(fresh, like)
    inside = fresh[is_new], taken(given, is_new)
    equation, name = system.equation, system.equation.name
    found = [measured(name, "training", equation, model, (like, system.inputs))]
    found.append(measured(name, "held out", equation, model, inside))
    for condition in system.conditions:
        place = condition.placed(like, system.inputs)
        found.append(measured(condition.name, "training", condition.residual, model, place))
        if isinstance(condition, OnPart) and not isinstance(condition.value, Tensor):
            free = condition if own is None else replace(condition, inputs=())
            if (
                system.domain.dim > 1 or own is not None
            ):  # one point, and inputs that were trained on, hold out nothing
                place = free.drawn(like, given, count, generator)
                found.append(measured(condition.name, "held out", condition.residual, model, place))
    findings = (*too_small(system, found[1].output), *flat(system, model))
    return ResidualReport(tuple(found), scope(len(inside[0]), bool(system.inputs), own is None), findings)


def seen(fresh: Tensor, trained: Tensor) -> Tensor:
    """Which points are among those trained on, (n,)."""
    places = torch.unique(torch.cat([trained.detach(), fresh]), dim=0, return_inverse=True)[1]
    return torch.isin(places[len(trained) :], places[: len(trained)])


def measured(
    block: str, where: str, residual: Callable[..., Tensor], model: Model, placed: Placed
) -> ResidualRow:
    """The sizes of a block's rows at these points."""
    x, inputs = placed
    sizes = residual(model, x, *inputs).reshape(-1).abs().double()
    value = derivatives(model, x, *inputs).value.double()
    ordered = sizes.sort().values  # torch.quantile takes at most 2²⁴ numbers

    def quantile(share: float) -> float:
        return float(ordered[math.ceil(share * (len(sizes) - 1))]) if len(sizes) else 0.0

    shares = quantile(0.5), quantile(0.9), quantile(0.99), quantile(1.0)
    return ResidualRow(block, where, len(x), rms(sizes), *shares, rms(value))


def rms(values: Tensor) -> float:
    """The root of the mean square; 0 of nothing."""
    return float(values.square().mean().sqrt()) if values.numel() else 0.0


def scope(count: int, has_inputs: bool, are_drawn: bool) -> str:
    """What the numbers speak of."""
    sentence = f"At {count:,} held-out points inside, none of them trained on, and at as many on parts of the boundary."
    if has_inputs and are_drawn:
        sentence += " Their inputs are rows that were trained on."
    return sentence


def too_small(system: System, output: float) -> list[str]:
    """A sentence where the output is tiny beside what is known of it."""
    expected = max((rms(each) for each in values_known(system)), default=0.0)
    if not output < TINY * expected:
        return []
    return [
        f"the output's RMS inside is {output:.2g}, but the values that are known have {expected:.2g}: the model has "
        "collapsed towards u ≡ 0, and small residuals mean nothing. Give the conditions more weight, or build them in."
    ]


def values_known(system: System) -> list[Tensor]:
    """The values of u that conditions give."""
    found = []
    for condition in system.conditions:
        x, inputs = condition.placed(system.points, system.inputs)
        if isinstance(condition, Anchor):
            found.append(condition.y.double())
        elif isinstance(condition, Dirichlet) or (isinstance(condition, Initial) and condition.order == 0):
            columns = system.equation.outputs if condition.component is None else 1
            found.append(known(condition.name, condition.value, x, inputs, columns).double())
    return found


def flat(system: System, model: Model) -> list[str]:
    """A sentence where the output is a constant that solves everything."""
    like = system.points
    rows, points, inputs = one_problem(system.equation, system.domain, system.conditions, system.inputs, 0, 0)
    values = derivatives(model, points.to(like), *matched(inputs, like)).value.double()
    mean = values.mean(0)
    near = TINY * mean.abs().clamp_min(1)
    if bool(((values - mean).square().mean(0).sqrt() > near).any()):
        return []
    found = solving_constants(rows, system.equation.outputs, CONSTANT)
    return [
        f"the model is the constant u ≡ {shown(constant)}, which satisfies the equation and all conditions: its "
        "residuals say nothing of another solution. Add initial or boundary values, or anchors, that it violates."
        for constant in found
        if bool(((torch.tensor(constant).to(mean) - mean).abs() <= near).all())
    ]
