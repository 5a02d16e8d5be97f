"""The polar factor: the nearest matrix with orthonormal columns."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def polar_factor(x: Tensor, error: Tensor | None = None) -> Tensor:
    """``argmin_q ‖q − x‖`` subject to ``qᵀq = 1`` for finite matrices with at least as many rows as columns.

    Close to orthonormal columns, powers of ``error = xᵀx − 1`` do it, and a bound of what they leave proves
    it. Anything else (far away, rank-deficient, zero) goes through the singular value decomposition.

    Source: Higham, *Functions of Matrices*, chapter 8.
    """
    if x.numel() == 0:
        return x.clone()
    if torch.compiler.is_compiling():  # which cannot look whether the powers have arrived
        return _from_svd(x)
    point, settled = _by_powers(x, gram_error(x) if error is None else error)
    if bool(settled.all()):
        return point
    if not bool(settled.any()):
        return _from_svd(x)
    return point.index_put((~settled,), _from_svd(x[~settled]))


def gram_error(x: Tensor) -> Tensor:
    """``xᵀx − 1``."""
    gram = x.mT @ x
    gram.diagonal(0, -2, -1).sub_(1)
    return gram


def frobenius(x: Tensor) -> Tensor:
    """Frobenius norm of each matrix, of numbers whose squares do not overflow."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=(-2, -1))
    return norm


def _by_powers(x: Tensor, error: Tensor, most: int = 3) -> tuple[Tensor, Tensor]:
    """Steps ``x ← x p(xᵀx − 1)``, p the Taylor polynomial of ``(1 + e)^(−1/2)``; which matrices have arrived.

    With ‖e‖₂ < 1 all singular values lie between 0 and √2, where p > 0 keeps them positive. The polynomial of
    degree 1, 2 or 4 leaves at most 3/4, 5/8 or 1/2 of the next power of e (Newton–Schulz is degree 1).
    """
    enough = torch.finfo(x.dtype).eps * math.sqrt(x.shape[-1]) / 2
    near = torch.ones(x.shape[:-2], dtype=torch.bool, device=x.device)
    for _ in range(most):
        size = frobenius(error)
        if _all_below(0.75 * size * size, enough, near):
            return x - x @ (error / 2), near
        square = error @ error
        spectral = frobenius(square).sqrt()  # no smaller than ‖e‖₂
        near = near & (spectral < 1)
        if not bool(near.any()):
            break
        if _all_below(0.625 * spectral**2 * size, enough, near):
            return x @ _polynomial(error, square), near
        x = x @ _polynomial(error, square, upper=True)
        if _all_below(0.5 * spectral**4 * size, enough, near):
            return x, near
        error = gram_error(x)
    return x, torch.zeros_like(near)


def _all_below(left: Tensor, enough: float, near: Tensor) -> bool:
    return bool(((left <= enough) | ~near).all())


def _polynomial(error: Tensor, square: Tensor, upper: bool = False) -> Tensor:
    """``1 − e/2 + 3/8 e²``, and above it ``(−5/16 e + 35/128 e²) e²``."""
    result = torch.add(error * -0.5, square, alpha=3 / 8)
    if upper:
        result = result + torch.add(error * (-5 / 16), square, alpha=35 / 128) @ square
    result.diagonal(0, -2, -1).add_(1)
    return result


def _from_svd(x: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(x, full_matrices=False)
    point: Tensor = left @ right
    # The factors are orthonormal to many roundings; one more step leaves only the last.
    return point - point @ (gram_error(point) / 2)
