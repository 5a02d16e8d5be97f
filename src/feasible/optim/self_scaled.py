"""The self-scaled Broyden family: how an inverse Hessian learns from a step."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Variant = Literal["broyden", "bfgs"]

ALIGNED = 1e-12
"""The least cosine between a step and the change of the gradient that shows upward curvature."""


class Scales(NamedTuple):
    """``τ``, by which the old matrix is divided, and ``φ``, the member of the family (1: BFGS, 0: DFP)."""

    tau: float
    phi: float


def scales(b: float, h: float, n: int, variant: Variant, is_first: bool) -> Scales:
    """The scales of an update.

    Args:
        b: ``sᵀH⁻¹s / yᵀs``.
        h: ``yᵀHy / yᵀs``.
        n: the number of weights.
        variant: ``"bfgs"``: φ = 1 and ``τ = min(1, 1/b)``; ``"broyden"``: both from bounds on the determinant and
            the condition of the new matrix.
        is_first: whether H is still the unit matrix, whose scale is taken from this step alone.

    Source: Al-Baali, *Numerical experience with a class of self-scaling quasi-Newton algorithms* (1998); Urbán,
    Stefanou & Pons, *Unveiling the optimization process of physics informed neural networks* (2024), section 3.
    """
    shrink = min(1.0, 1 / b)
    a = h * b - 1
    if variant == "bfgs" or a <= torch.finfo(torch.float64).eps:
        return Scales(h if is_first else shrink, 1.0)
    lowest = min(1.0, h * (1 - math.sqrt(a / (a + 1))))
    theta = max((lowest - 1) / a, min(1 / lowest, (1 - b) / b))
    sigma = 1 + theta * a
    if is_first:
        tau = h / sigma
    else:
        mean = sigma ** (-1 / (n - 1)) if n > 1 else 1.0
        tau = min(shrink * mean, sigma) if theta <= 0 else shrink * min(mean, 1 / theta)
    return Scales(tau, (1 - theta) / sigma)


def update_(inverse: Tensor, s: Tensor, y: Tensor, descent: float, variant: Variant, is_first: bool) -> bool:
    """Let an inverse Hessian H learn from a step, in place; ``False`` where the step shows no upward curvature.

    ``H ← (H − Hy yᵀH / yᵀHy + φ yᵀHy v vᵀ) / τ + s sᵀ / yᵀs`` with ``v = s / yᵀs − Hy / yᵀHy``.

    Args:
        inverse: H, (n, n), symmetric and positive definite, and so it stays.
        s: the step, a multiple of ``−H g``.
        y: the change of the gradient.
        descent: ``sᵀH⁻¹s``, which is ``−t sᵀg`` for a step of length t.
        variant: how scales are chosen.
        is_first: whether H is still the unit matrix.
    """
    ys = float(y @ s)
    if not ys > ALIGNED * float(torch.linalg.vector_norm(y)) * float(torch.linalg.vector_norm(s)):
        return False
    image = inverse @ y
    yhy = float(y @ image)
    if not (yhy > 0 and descent > 0 and math.isfinite(yhy)):
        return False
    tau, phi = scales(descent / ys, yhy / ys, len(s), variant, is_first)
    basis = torch.stack([image, s], 1)
    mixed = -phi / ys / tau
    core = [[(phi - 1) / yhy / tau, mixed], [mixed, phi * yhy / ys**2 / tau + 1 / ys]]
    inverse.addmm_(basis @ basis.new_tensor(core), basis.mT, beta=1 / tau)
    return True
