"""Damped least squares by products with the matrix and its transpose alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]


def lsmr(
    times: Product, transposed: Product, b: Tensor, damping: float, tolerance: float, rounds: int
) -> Tensor:
    """``argmin_s ½‖A s − b‖² + damping/2 · ‖s‖²``, up to ``‖Aᵀr − damping · s‖ ≤ tolerance · ‖Aᵀ b‖``.

    Each round costs one product with A and one with Aᵀ, and a few vectors are kept. On a rank-deficient A it
    tends to the shortest solution.

    Args:
        times: ``v ↦ A v``.
        transposed: ``w ↦ Aᵀ w``.
        b: the right side.
        damping: ≥ 0.
        tolerance: of the gradient, relative to its start.
        rounds: the most rounds.

    >>> import torch
    >>> A, b = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), torch.tensor([4.0, 3.0, 1.0])
    >>> lsmr(lambda v: A @ v, lambda w: A.T @ w, b, damping=0.0, tolerance=1e-6, rounds=10).round(decimals=5)
    tensor([2., 3.])

    Source: Fong & Saunders, *LSMR: an iterative algorithm for sparse least-squares problems* (2011).
    """
    beta = _length(b)
    u = b / beta if beta else b
    v = transposed(u)
    alpha = _length(v)
    x = torch.zeros_like(v)
    if not alpha * beta:
        return x
    v = v / alpha
    h, h_bar = v.clone(), torch.zeros_like(v)
    root = math.sqrt(damping)
    zeta_bar, alpha_bar = alpha * beta, alpha
    rho, rho_bar, c_bar, s_bar = 1.0, 1.0, 1.0, 0.0
    first = zeta_bar
    for _ in range(rounds):
        u = times(v) - alpha * u
        beta = _length(u)
        if beta:
            u = u / beta
            v = transposed(u) - beta * v
            alpha = _length(v)
            v = v / alpha if alpha else v
        else:
            alpha = 0.0
        *_, alpha_hat = _rotation(alpha_bar, root)
        old_rho, old_bar = rho, rho_bar
        c, s, rho = _rotation(alpha_hat, beta)
        theta, alpha_bar = s * alpha, c * alpha
        theta_bar, rho_temporary = s_bar * rho, c_bar * rho
        c_bar, s_bar, rho_bar = _rotation(rho_temporary, theta)
        zeta, zeta_bar = c_bar * zeta_bar, -s_bar * zeta_bar
        h_bar = h - (theta_bar * rho / (old_rho * old_bar)) * h_bar
        x = x + (zeta / (rho * rho_bar)) * h_bar
        h = v - (theta / rho) * h
        if abs(zeta_bar) <= tolerance * first or not alpha:
            break
    return x


def _length(v: Tensor) -> float:
    return float(torch.linalg.vector_norm(v))


def _rotation(a: float, b: float) -> tuple[float, float, float]:
    """Cosine, sine and length of the plane rotation that carries (a, b) to (length, 0)."""
    length = math.hypot(a, b)
    return (a / length, b / length, length) if length else (1.0, 0.0, 0.0)
