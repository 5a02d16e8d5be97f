"""The quadratic model of the objective, minimised over a convex set that couples its entries."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from feasible.optim.region import Region

PRECISION = 0.1
"""The residual of the model's solution, as a share of the residual at its start."""
ROUNDS = 30


class Hessian(Protocol):
    """A positive definite matrix, by its products."""

    sigma: float
    """About its largest eigenvalue."""

    def times(self, v: Tensor) -> Tensor:
        """The product with v."""


def minimiser(region: Region, x: Tensor, g: Tensor, hessian: Hessian | None, scale: float) -> Tensor:
    """``argmin_p ⟨g, p − x⟩ + ½ ⟨p − x, B (p − x)⟩`` over the region, to a tenth of the first residual.

    Spectral projected gradients: a projected step with the length that fits the curvature seen last, then the
    minimum on the way there. Each round costs one projection and one product with B. Without curvature it is
    the projected gradient step of length ``scale``.

    Source: Birgin, Martínez & Raydan, *Nonmonotone spectral projected gradient methods on convex sets* (2000);
    Schmidt, van den Berg, Friedlander & Murphy, *Optimizing costly functions with simple constraints: a
    limited-memory projected quasi-Newton algorithm* (2009).
    """
    if hessian is None:
        return region.project_linearised(x - scale * g, x)
    p, slope = x, g
    length = 1 / hessian.sigma
    first = 0.0
    for _ in range(ROUNDS):
        way = region.project_linearised(p - length * slope, x).sub_(p)
        residual = float(way.abs().max()) / length
        first = first or residual
        if residual == 0 or (p is not x and residual <= PRECISION * first):
            break
        bent = hessian.times(way)
        fall, curvature = -float(slope @ way), float(way @ bent)
        if not fall > 0:
            break
        t = min(1.0, fall / curvature) if curvature > 0 else 1.0
        p, slope = p + t * way, slope + t * bent
        length = float(way @ way) / curvature if curvature > 0 else length
    return p
