"""The linearised least-squares problem over a region: which step it suggests for a damping."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from feasible.optim.least_squares import System
from feasible.optim.model import minimiser
from feasible.optim.region import Region
from feasible.optim.variable_projection import Eliminated, Reduced

ROUNDS = 20
"""How often the entries that are held at bounds may change in a step."""


class Suggestion(NamedTuple):
    """A step, and what it is worth."""

    s: Tensor
    image: Tensor
    """``J s``."""
    predicted: float
    """By how much ½‖r‖² would fall if the residual were linear."""
    free: Tensor | None
    """The entries that no bound holds; ``None``: all."""


class Damped:
    """``JᵀJ + μ/units²`` by its products."""

    def __init__(self, system: System | Reduced, damping: float) -> None:
        self._system, self._damping = system, damping
        self._weights = 1.0 if system.units is None else system.units.square().reciprocal()
        self.sigma = (system.size + damping) * float(torch.as_tensor(self._weights).max())

    def times(self, v: Tensor) -> Tensor:
        """The product with v."""
        return self._system.transposed(self._system.times(v)).add_(v * self._weights, alpha=self._damping)


class Quadratic:
    """``q(s) = ½‖J s + r‖² + μ/2 ‖s/units‖²`` for weights ``x + s`` in a region.

    Args:
        region: where the weights may be.
        system: the Jacobian.
        x: the weights, inside.
        r: the residual.
        g: ``Jᵀ r``, on the tangent plane of surfaces.
    """

    def __init__(self, region: Region, system: System, x: Tensor, r: Tensor, g: Tensor) -> None:
        self.region, self.system, self.x, self.r, self.g = region, system, x, r, g
        self.is_coupled = bool(region.coupled or region.curved)

    def suggest(self, damping: float) -> Suggestion:
        """The step that minimises q over the region, or over its bounds up to the order in which they are met."""
        free = None
        if self.is_coupled:
            s = self._projected(damping)
        elif self.region.is_bounded:
            s, free = self._bounded(damping)
        else:
            s = self.system.solve(self.r, damping)
        image = self.system.times(s)
        return Suggestion(s, image, -float(image @ (self.r + 0.5 * image)), free)

    @property
    def rounding(self) -> float:
        """About the rounding of the residual: that of weights times slopes."""
        return torch.finfo(self.x.dtype).eps * self.length(self.x) * math.sqrt(self.system.size)

    def length(self, s: Tensor) -> float:
        """Of a step, in the system's units."""
        return float(torch.linalg.vector_norm(s if self.system.units is None else s / self.system.units))

    def _bounded(self, damping: float) -> tuple[Tensor, Tensor]:
        """The minimum of q between the bounds, and the entries that none of them holds.

        Where the minimum over the free entries lies beyond bounds, the entries that meet one are held there, too; once
        it lies inside, those that q's gradient draws back inside are let go.
        """
        s, value = torch.zeros_like(self.x), 0.0
        held = self._pressed(s, self.g)
        for _ in range(ROUNDS):
            fixed = s.masked_fill(~held, 0)
            target = fixed + self.system.solve(self.r + self.system.times(fixed), damping, ~held)
            s, slope, value, met = self._towards(s, target, value, damping)
            if bool(met.any()):
                held = held | met
                continue
            pressed = self._pressed(s, slope)
            if not bool((held & ~pressed).any()):
                break
            held = pressed
        return s, ~held

    def _pressed(self, s: Tensor, slope: Tensor) -> Tensor:
        """The entries of x + s on a bound that a gradient presses them against."""
        pressed = self.region.pressed(self.x + s, slope, 0.0)
        return torch.zeros_like(s, dtype=torch.bool) if pressed is None else pressed

    def _towards(
        self, s: Tensor, target: Tensor, value: float, damping: float
    ) -> tuple[Tensor, Tensor, float, Tensor]:
        """The next point on the way to a target, q's gradient and value there, and the entries that met a bound.

        The way is bent along the bounds if q falls there, and else ends at the first one.
        """
        x = self.x
        bent = self.region.clamp(x + target).sub_(x)
        beyond = x + bent != x + target
        slope, there = self._model(bent, damping)
        if there < value or not bool(beyond.any()):
            return bent, slope, there, beyond
        share = torch.where(beyond, (bent - s) / (target - s), 1.0)
        met = beyond & (share <= share.min())
        first = torch.where(met, bent, torch.lerp(s, target, share.min()))
        return first, *self._model(first, damping), met

    def _model(self, s: Tensor, damping: float) -> tuple[Tensor, float]:
        """Gradient and value of q, the latter less its value at 0."""
        image = self.system.times(s)
        weighted = s if self.system.units is None else s / self.system.units.square()
        slope = self.system.transposed(self.r + image) + damping * weighted
        return slope, float(image @ (self.r + 0.5 * image)) + 0.5 * damping * float(s @ weighted)

    def _projected(self, damping: float) -> Tensor:
        """By projected gradients on q; for a surface on its tangent plane, and back."""
        if isinstance(self.system, Eliminated):
            reduced, slope = Reduced(self.system), self.g.masked_fill(self.system.linear, 0)
            nearest = minimiser(self.region, self.x, slope, Damped(reduced, damping), 1.0)
            return self.system.completed(self.region.project(nearest) - self.x, self.r)
        nearest = minimiser(self.region, self.x, self.g, Damped(self.system, damping), 1.0)
        return self.region.project(nearest) - self.x
