"""Functions of eigenvalues and singular values, their factors and their derivatives."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from feasible.sets.matrices import mirror
from feasible.sets.precision import roundoff, wide


def eigenvalues(x: Tensor) -> Tensor:
    """Eigenvalues of the symmetric part of each matrix, ascending; NaN where it is not finite."""
    finite = x.isfinite().all(-1).all(-1)
    safe = torch.where(finite[..., None, None], wide(x), 0.0)
    return torch.where(finite[..., None], torch.linalg.eigvalsh(mirror(safe)), math.nan)


def singular_values(x: Tensor) -> Tensor:
    """Singular values of each matrix, descending; NaN where it is not finite."""
    finite = x.isfinite().all(-1).all(-1)
    safe = torch.where(finite[..., None, None], wide(x), 0.0)
    return torch.where(finite[..., None], torch.linalg.svdvals(safe), math.nan)


def allowed_error(values: Tensor, dtype: torch.dtype) -> Tensor:
    """What rounding does to the eigenvalues or singular values of each matrix."""
    largest = values.detach().abs().amax(-1) if values.shape[-1] else values.sum(-1)
    return roundoff(dtype) * math.sqrt(max(values.shape[-1], 1)) * largest


def from_eigen(vectors: Tensor, values: Tensor) -> Tensor:
    """``U diag(values) Uᵀ``, symmetric to the bit."""
    return mirror((vectors * values.unsqueeze(-2)) @ vectors.mT)


def from_singular(left: Tensor, values: Tensor, right: Tensor) -> Tensor:
    """``U diag(values) Vᵀ``."""
    return (left * values.unsqueeze(-2)) @ right.mT


def eigen(x: Tensor) -> tuple[Tensor, Tensor]:
    """λ, ascending, and U with ``x = U diag(λ) Uᵀ``."""
    values, vectors = torch.linalg.eigh(x)
    return values, vectors


def svd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, σ, V with ``x = U diag(σ) Vᵀ``, as many columns each as σ has entries."""
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    return left, values, right.mT


def eigen_derivative(displacement: Tensor, vectors: Tensor, *spectrum: Tensor) -> Tensor:
    """Derivative of ``U f(λ) Uᵀ``; the spectrum is λ, f(λ) and f′(λ).

    Source: Daleckii & Krein (1965); Higham, *Functions of Matrices*, theorem 3.11.
    """
    seen = vectors.mT @ mirror(displacement.to(vectors)) @ vectors
    return mirror(vectors @ (_differences(*spectrum) * seen) @ vectors.mT).to(displacement.dtype)


def singular_derivative(displacement: Tensor, left: Tensor, right: Tensor, *spectrum: Tensor) -> Tensor:
    """Derivative of ``U f(σ) Vᵀ``; the spectrum is σ, f(σ) and f′(σ).

    The symmetric part of ``Uᵀ D V`` meets divided differences, its skew part divided sums, and what lies
    outside the span of U or V the quotient f(σ)/σ.
    """
    moved = displacement.to(left)
    seen = left.mT @ moved @ right
    sums = _sums(*spectrum)
    inner = _differences(*spectrum) * mirror(seen) + sums * mirror(seen, -1)
    quotient = sums.diagonal(0, -2, -1).unsqueeze(-2)
    beyond_left = ((moved @ right - left @ seen) * quotient) @ right.mT
    beyond_right = (left * quotient) @ (left.mT @ moved - seen @ right.mT)
    return (left @ inner @ right.mT + beyond_left + beyond_right).to(displacement.dtype)


def _differences(values: Tensor, images: Tensor, slopes: Tensor) -> Tensor:
    """``(f(a) − f(b)) / (a − b)``; the mean slope where a = b, and 1 on a common piece of slope 1."""
    gap = values.unsqueeze(-1) - values.unsqueeze(-2)
    rise = images.unsqueeze(-1) - images.unsqueeze(-2)
    mean = (slopes.unsqueeze(-1) + slopes.unsqueeze(-2)) / 2
    return torch.where((gap == 0) | (mean == 1), mean, rise / torch.where(gap == 0, 1.0, gap))


def _sums(values: Tensor, images: Tensor, slopes: Tensor) -> Tensor:
    """``(f(a) + f(b)) / (a + b)``; the mean slope where both are 0."""
    gap = values.unsqueeze(-1) + values.unsqueeze(-2)
    rise = images.unsqueeze(-1) + images.unsqueeze(-2)
    mean = (slopes.unsqueeze(-1) + slopes.unsqueeze(-2)) / 2
    return torch.where(gap == 0, mean, rise / torch.where(gap == 0, 1.0, gap))
