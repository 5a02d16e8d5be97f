"""Directions of descent over a region, and the paths that lead along them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from feasible.optim.curvature import CurvaturePairs
from feasible.optim.line_search import Trial
from feasible.optim.model import minimiser
from feasible.optim.region import Region
from feasible.optim.vector import Rates, Vector

NEAR = 0.1
"""ε as a share of the move that the projected gradient step makes."""


@dataclass(frozen=True, eq=False)
class Point:
    """Weights, and what the closure said there."""

    x: Tensor
    f: float
    g: Tensor
    """The gradient, put onto the tangent plane where the set has one."""
    loss: Any
    """What the closure returned."""

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are numbers."""
        return math.isfinite(self.f) and bool(self.g.isfinite().all())


class Work(NamedTuple):
    """What an optimizer works on from step to step."""

    vector: Vector
    region: Region
    pairs: CurvaturePairs
    rates: Rates


class Way:
    """The path ``x(t) = P(x + t d)`` from a point."""

    def __init__(self, region: Region, point: Point, d: Tensor, first: float, longest: float) -> None:
        blocked = None if region.coupled else region.pressed(point.x, -d, 0.0)
        self.d = d if blocked is None else d.masked_fill_(blocked, 0)
        self.region, self.point, self.first, self.longest = region, point, first, longest
        self.start = Trial(0.0, point.f, float(point.g @ self.d), point)
        self._moving: Tensor | None = None

    def at(self, t: float) -> Tensor:
        """The point at a step length."""
        straight = torch.add(self.point.x, self.d, alpha=t)
        x = self.region.project(straight)
        # Where sets couple the entries, ways end at a member, and no bound is met between.
        self._moving = x == straight if self.region.is_bounded and not self.region.coupled else None
        return x

    def trial(self, t: float, there: Point) -> Trial:
        """What the search needs to know of the point that ``at`` has just given."""
        moving, bends = self._moving, False
        slope = float(there.g @ (self.d if moving is None else self.d * moving))
        if moving is not None:
            bends = not bool(moving.all())
        predicted = float(self.point.g @ (there.x - self.point.x))
        return Trial(t, there.f, slope, there, predicted, bends)


def best_way(
    region: Region, pairs: CurvaturePairs, point: Point, residual: float, rates: Rates
) -> Way | None:
    """The quasi-Newton way downhill; where it does not lead down, the pairs are forgotten and the gradient is taken.

    ``None``: no way leads down.
    """
    while True:
        d, scale = direction(region, pairs, point.x, point.g, residual, rates)
        first = rates.largest if scale is not None else 1.0
        longest = 1.0 if region.coupled else math.inf
        way = Way(region, point, d, min(first, longest), longest)
        if way.start.slope < 0 and math.isfinite(way.start.slope):
            return way
        if not len(pairs):
            return None
        pairs.clear()


def direction(
    region: Region, pairs: CurvaturePairs, x: Tensor, g: Tensor, residual: float, rates: Rates
) -> tuple[Tensor, float | None]:
    """A direction of descent, and the scale of the inverse Hessian if curvature is known.

    Without curvature it is the negative gradient, no longer than 1 and times the learning rate. Entries within
    ε of a bound that the gradient draws beyond it take a gradient step: a quasi-Newton step that they took part
    in might not descend, and one that is cut short by entries just above their bounds would not get far. ε is
    proportional to the residual of the projected gradient, so that it vanishes at a solution.

    Args:
        residual: ``max |x − P(x − g)|``.
    """
    known = pairs.newest_scale()
    scale = rates.largest / max(1.0, float(torch.linalg.vector_norm(g))) if known is None else known
    if region.coupled:
        hessian = pairs.hessian() if pairs.usable() else None
        d = minimiser(region, x, g, hessian, scale) - x
        return (d if rates.shares is None else d * rates.shares), known
    pressed = region.pressed(x, g, NEAR * min(scale, 1.0) * residual)
    pairs.restrict(None if pressed is None else ~pressed)
    scaled = rates.scaled(g)
    newton = pairs.newton(scaled)
    d = rates.scaled(newton if newton is not None else scaled * scale)
    if pressed is not None:
        step = scale * g if rates.shares is None else scale * rates.shares * g
        d = torch.where(pressed, step, d)
    return region.tangent(x, d.neg_()), known


def displacement(region: Region, before: Point, after: Point) -> tuple[Tensor, Tensor]:
    """``(s, y)`` between two points, carried to the tangent plane of the second where the region is curved."""
    s = after.x - before.x
    if not region.curved:
        return s, after.g - before.g
    return region.tangent(after.x, s), after.g - region.tangent(after.x, before.g)


def damped(s: Tensor, y: Tensor, scale: float | None) -> Tensor:
    """``y``, mixed with ``s`` so that ``⟨s, y⟩ ≥ ¼ ⟨s, s⟩ / scale``: the pair curves upwards.

    Source: Powell, *Algorithms for nonlinear constraints that use Lagrangian functions* (1978).
    """
    ss, sy = float(s @ s), float(s @ y)
    sigma = 1 / scale if scale is not None else float(torch.linalg.vector_norm(y)) / math.sqrt(ss)
    least = sigma * ss
    if sy >= 0.25 * least:
        return y
    share = 0.75 * least / (least - sy)
    return share * y + (1 - share) * sigma * s
