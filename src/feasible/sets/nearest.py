"""Nearest points that are computed by factorisations or iterations, with their exact derivative."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from feasible.sets.units import is_differentiated


class NearestPoint(Protocol):
    """How a nearest point is found, and how it answers to a small displacement; both work on batches."""

    def solve(self, x: Tensor) -> tuple[Tensor, ...]:
        """The nearest point, and behind it what its derivative needs; all share the batch dimensions of x."""
        ...

    def derivative(self, displacement: Tensor, *factors: Tensor) -> Tensor:
        """How far the nearest point moves, to first order, when x moves by ``displacement``."""
        ...


def nearest_point(x: Tensor, how: NearestPoint) -> Tensor:
    """``how.solve(x)[0]`` with ``how.derivative``; works under autograd, ``jvp`` and ``vmap``."""
    if not is_differentiated(x):
        return how.solve(x)[0]
    return _Nearest.apply(x, how)[0]  # type: ignore[no-any-return, no-untyped-call]


class _Nearest(torch.autograd.Function):
    """``P(x)``. Its derivative is symmetric, being that of ``∇(½‖x‖² − ½ distance(x)²)``: one linear map
    serves the forward and the reverse mode. There is no second derivative.
    """

    @staticmethod
    def forward(x: Tensor, how: NearestPoint) -> tuple[Tensor, ...]:
        return how.solve(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.how = inputs[1]
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])
        ctx.save_for_forward(*output[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Moved.apply(gradients[0], ctx.how, *ctx.saved_tensors), None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor | None, ...]:
        factors = ctx.saved_tensors
        return (ctx.how.derivative(tangents[0], *factors), *(None for _ in factors))

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, how: NearestPoint) -> tuple[Any, Any]:
        results = _Nearest.apply(x.movedim(in_dims[0], 0), how)  # type: ignore[no-untyped-call]
        return results, (0,) * len(results)


class _Moved(torch.autograd.Function):
    """The derivative as a function of the displacement alone; refuses to be differentiated by x again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(displacement: Tensor, how: NearestPoint, *factors: Tensor) -> Tensor:
        return how.derivative(displacement, *factors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NotImplementedError("a projection onto a matrix set has no second derivative here")
