"""Eigenvalues and singular values, and matrix functions of them, with derivatives that survive ties.

A symmetric matrix function is ``U f(λ) Uᵀ``; a function of singular values is ``U f(σ) Vᵀ``. Their spectrum
is given as three tensors: the values, f there, and f′ there.

Source: Daleckii & Krein (1965); Higham, *Functions of Matrices*, section 3.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from feasible.sets.matrices import mirror
from feasible.sets.precision import roundoff


def eigen(x: Tensor) -> tuple[Tensor, Tensor]:
    """λ, ascending, and U with ``x = U diag(λ) Uᵀ``."""
    values, vectors = torch.linalg.eigh(x)
    return values, vectors


def svd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, σ, V with ``x = U diag(σ) Vᵀ``, as many columns each as σ has entries."""
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    return left, values, right.mT


def allowed_error(values: Tensor, dtype: torch.dtype) -> Tensor:
    """What rounding does to the eigenvalues or singular values of each matrix."""
    largest = values.detach().abs().amax(-1) if values.shape[-1] else values.sum(-1)
    smallest = torch.finfo(dtype).tiny  # below it, numbers have fewer digits
    return roundoff(dtype) * math.sqrt(max(values.shape[-1], 1)) * largest + smallest


def from_eigen(vectors: Tensor, values: Tensor) -> Tensor:
    """``U diag(values) Uᵀ``, symmetric to the bit."""
    return mirror(from_singular(vectors, values, vectors))


def from_singular(left: Tensor, values: Tensor, right: Tensor) -> Tensor:
    """``U diag(values) Vᵀ``."""
    return (left * values.unsqueeze(-2)) @ right.mT


def eigen_derivative(displacement: Tensor, vectors: Tensor, *spectrum: Tensor) -> Tensor:
    """Derivative of ``U f(λ) Uᵀ``: in the basis U, times the divided differences of f."""
    seen = vectors.mT @ mirror(displacement.to(vectors)) @ vectors
    return mirror(vectors @ (_differences(*spectrum) * seen) @ vectors.mT).to(displacement.dtype)


def eigen_curvature(first: Tensor, second: Tensor, vectors: Tensor, *spectrum: Tensor) -> Tensor:
    """Second derivative of ``U f(λ) Uᵀ``, with the second divided differences of f."""
    one, two = (vectors.mT @ mirror(moved.to(vectors)) @ vectors for moved in (first, second))
    values, differences = spectrum[0], _differences(*spectrum)
    total = torch.zeros_like(one)
    for index in range(values.shape[-1]):
        paths = one[..., :, index, None] * two[..., None, index, :]
        paths = paths + two[..., :, index, None] * one[..., None, index, :]
        total = total + _second_differences(values, differences, index) * paths
    return mirror(vectors @ total @ vectors.mT).to(first.dtype)


def singular_derivative(displacement: Tensor, left: Tensor, right: Tensor, *spectrum: Tensor) -> Tensor:
    """Derivative of ``U f(σ) Vᵀ``.

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


def singular_curvature(
    first: Tensor, second: Tensor, left: Tensor, right: Tensor, *spectrum: Tensor
) -> Tensor:
    """Second derivative of ``U f(σ) Vᵀ``: that of ``[[0, x], [xᵀ, 0]]``, symmetric, with eigenvalues ±σ and 0."""
    rows, columns = first.shape[-2:]
    spare_left, spare_right = (_complement(basis) for basis in (left, right))
    nowhere = [
        left.new_zeros(*left.shape[:-2], *shape)
        for shape in ((rows, spare_right.shape[-1]), (columns, spare_left.shape[-1]))
    ]
    half = math.sqrt(0.5)
    top = torch.cat([half * left, half * left, spare_left, nowhere[0]], -1)
    bottom = torch.cat([half * right, -half * right, nowhere[1], spare_right], -1)
    values, images, slopes = spectrum
    still = values.new_zeros(*values.shape[:-1], rows + columns - 2 * values.shape[-1])
    embedded = (
        torch.cat([values, -values, still], -1),
        torch.cat([images, -images, still], -1),
        torch.cat([slopes, slopes, still], -1),
    )
    whole = eigen_curvature(
        _embed(first.to(left)), _embed(second.to(left)), torch.cat([top, bottom], -2), *embedded
    )
    # ``eigen_derivative`` and its kin see symmetric parts; the embedding is symmetric already.
    return whole[..., :rows, rows:].to(first.dtype)


def _embed(x: Tensor) -> Tensor:
    rows, columns = x.shape[-2:]
    above = torch.cat([x.new_zeros(*x.shape[:-2], rows, rows), x], -1)
    below = torch.cat([x.mT, x.new_zeros(*x.shape[:-2], columns, columns)], -1)
    return torch.cat([above, below], -2)


def _complement(basis: Tensor) -> Tensor:
    complete: Tensor = torch.linalg.qr(basis, mode="complete").Q
    return complete[..., basis.shape[-1] :]


def _differences(values: Tensor, images: Tensor, slopes: Tensor) -> Tensor:
    """``(f(a) − f(b)) / (a − b)``; the mean slope where a = b, and 1 on a common piece of slope 1."""
    a, b = values.unsqueeze(-1), values.unsqueeze(-2)
    rise = images.unsqueeze(-1) - images.unsqueeze(-2)
    mean = (slopes.unsqueeze(-1) + slopes.unsqueeze(-2)) / 2
    alike = (a == b) | ((mean == 1) & (a * b > 0))
    return torch.where(alike, mean, rise / torch.where(alike, 1.0, a - b))


def _sums(values: Tensor, images: Tensor, slopes: Tensor) -> Tensor:
    """``(f(a) + f(b)) / (a + b)``; the mean slope where both are 0."""
    gap = values.unsqueeze(-1) + values.unsqueeze(-2)
    rise = images.unsqueeze(-1) + images.unsqueeze(-2)
    mean = (slopes.unsqueeze(-1) + slopes.unsqueeze(-2)) / 2
    return torch.where(gap == 0, mean, rise / torch.where(gap == 0, 1.0, gap))


def _second_differences(values: Tensor, differences: Tensor, index: int) -> Tensor:
    """``f[a, b, c]`` for all a and c, b the value at ``index``: divided by the largest of the three gaps."""
    a, c, b = values.unsqueeze(-1), values.unsqueeze(-2), values[..., index, None, None]
    outer, before, behind = differences, differences[..., :, index, None], differences[..., None, index, :]
    result, widest = _quotient(before - behind, a - c), (a - c).abs()
    for rise, gap in ((before - outer, b - c), (outer - behind, a - b)):
        result = torch.where(gap.abs() > widest, _quotient(rise, gap), result)
        widest = torch.maximum(gap.abs(), widest)
    return result


def _quotient(rise: Tensor, gap: Tensor) -> Tensor:
    return torch.where(gap == 0, 0.0, rise / torch.where(gap == 0, 1.0, gap))
