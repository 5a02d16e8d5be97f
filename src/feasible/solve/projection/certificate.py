"""Multipliers and the KKT conditions of a least move, checked where it ended."""

from __future__ import annotations

import torch
from torch import Tensor

from feasible.solve.minimization.result import KKT, gradient_unit
from feasible.solve.projection.nearest import TIGHT, Linearised, Spectrum, Step
from feasible.solve.projection.search import Point, Search


def certify(search: Search, here: Point) -> tuple[KKT, tuple[Tensor, ...], Step]:
    """The certificate, one multiplier for each constraint, and the step that the final linearisation asks for."""
    linear, metric = search.linearise(here)
    rcond = TIGHT if search.rcond is None else search.rcond
    step = linear.step(search.weights.start - here.x, metric, rcond, rcond)
    gradient = here.x - search.weights.start
    if metric is not None:
        gradient = metric.jacobian.mT @ metric.gap
    multipliers = row_multipliers(linear, step.active, gradient, rcond)
    pulled = linear.jacobian.mT @ multipliers
    size = gradient_unit(_largest(gradient), _largest(pulled))
    room = torch.minimum((linear.high - linear.rows).abs(), (linear.rows - linear.low).abs())
    kkt = KKT(
        stationarity=_largest(gradient + pulled) / size,
        feasibility=here.values.largest,
        complementarity=_largest(torch.minimum(multipliers.abs(), room)),
        active=int((step.active != 0).sum()),
        rank=step.rank,
    )
    return kkt, search.conditions.multipliers(multipliers), step


def row_multipliers(linear: Linearised, active: Tensor, gradient: Tensor, rcond: float) -> Tensor:
    """``argmin ‖∇f + Jᵀλ‖`` over the active rows, the shortest; a wrong sign counts as zero."""
    multipliers = torch.zeros_like(linear.rows)
    chosen = (active != 0).nonzero().squeeze(1)
    if not len(linear.others) and not linear.spectrum.is_compressed:
        return linear.spectrum.dual(gradient, linear.spectrum.rank(rcond))
    if len(chosen):
        spectrum = Spectrum(linear.jacobian[chosen].mT, -gradient)
        multipliers[chosen] = spectrum.shortest(spectrum.rank(rcond))
    wrong = ((active == 1) & (multipliers < 0)) | ((active == -1) & (multipliers > 0))
    return torch.where(wrong, 0.0, multipliers)


def _largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0
