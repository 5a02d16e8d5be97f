"""Eigenvalues and singular values as functions that can be differentiated twice, ties or not."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from feasible.sets.matrices import mirror
from feasible.sets.nearest import last_derivative
from feasible.sets.precision import wide
from feasible.sets.spectra import (
    allowed_error,
    eigen,
    eigen_derivative,
    from_singular,
    singular_derivative,
    svd,
)


def eigenvalues(x: Tensor) -> Tensor:
    """Eigenvalues of the symmetric part of each matrix, ascending; NaN where it is not finite.

    Gradients are those of sums that treat all eigenvalues alike, ties included; second derivatives need
    them distinct.
    """
    return _values(x, symmetric=True)


def singular_values(x: Tensor) -> Tensor:
    """Singular values of each matrix, descending; NaN where it is not finite. Derivatives as for eigenvalues."""
    return _values(x, symmetric=False)


def _values(x: Tensor, symmetric: bool) -> Tensor:
    finite = x.isfinite().all(-1).all(-1)
    safe = torch.where(finite[..., None, None], wide(x), 0.0)
    values: Tensor
    if x.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(x):
        values = _Values.apply(safe, symmetric)[0]  # type: ignore[no-untyped-call]
    else:
        values = torch.linalg.eigvalsh(mirror(safe)) if symmetric else torch.linalg.svdvals(safe)
    return torch.where(finite[..., None], values, math.nan)


def minus_log_det(x: Tensor) -> Tensor:
    """``−log det`` of each symmetric matrix, +inf where it is not positive definite, NaN where it is not finite."""
    finite = x.isfinite().all(-1).all(-1)
    safe = torch.where(finite[..., None, None], wide(x), 0.0)
    inside = torch.linalg.cholesky_ex(safe.detach()).info == 0
    eye = torch.eye(x.shape[-1], dtype=safe.dtype, device=x.device)
    factor: Tensor = torch.linalg.cholesky(torch.where(inside[..., None, None], safe, eye))
    height = -2 * factor.diagonal(0, -2, -1).log().sum(-1)
    return torch.where(finite, torch.where(inside, height, math.inf), math.nan).to(x.dtype)


class _Values(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, symmetric: bool) -> tuple[Tensor, Tensor, Tensor]:
        if symmetric:
            values, vectors = eigen(mirror(x))
            return values, vectors, vectors.clone()
        left, values, right = svd(x)
        return values, left, right.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, ctx.symmetric = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, *output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Weighted.apply(gradients[0], ctx.symmetric, *ctx.saved_tensors), None  # type: ignore[no-untyped-call]


class _Weighted(torch.autograd.Function):
    """``U diag(weights) Vᵀ``: a function of the weights, and of x through U and V."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        weights: Tensor, symmetric: bool, x: Tensor, values: Tensor, left: Tensor, right: Tensor
    ) -> Tensor:
        weighted = from_singular(left, weights, right)
        return mirror(weighted) if symmetric else weighted

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        weights, ctx.symmetric, _, values, left, right = inputs
        ctx.save_for_backward(weights, values, left, right)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        weights, values, left, right = ctx.saved_tensors
        # Values closer than rounding count as equal: between them the weights may jump, not the answer.
        step = 2 * allowed_error(values, values.dtype).unsqueeze(-1)
        spectrum = ((values / step).round() * step, weights, torch.zeros_like(weights))
        if ctx.symmetric:
            bent = eigen_derivative(gradients[0], left, *spectrum)
        else:
            bent = singular_derivative(gradients[0], left, right, *spectrum)
        seen = (left * (gradients[0] @ right)).sum(-2)
        return last_derivative(seen), None, last_derivative(bent), None, None, None
