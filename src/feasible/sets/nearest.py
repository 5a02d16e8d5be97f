"""Nearest points that are computed by factorisations or iterations, with their exact derivatives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from feasible.sets.units import is_differentiated


class NearestPoint(ABC):
    """How a nearest point is found, and how it answers to small displacements; all on batches."""

    takes_batches: ClassVar[bool] = True
    """Whether one more leading dimension is only more of the same; else ``vmap`` takes one after the other."""

    @abstractmethod
    def solve(self, x: Tensor) -> tuple[Tensor, ...]:
        """The nearest point, and behind it what its derivative needs; all share the batch dimensions of x."""

    @abstractmethod
    def derivative(self, displacement: Tensor, *factors: Tensor) -> Tensor:
        """How far the nearest point moves, to first order, when x moves by ``displacement``."""

    def curvature(self, first: Tensor, second: Tensor, *factors: Tensor) -> Tensor:
        """How ``derivative(first)`` changes when x moves along ``second``; 0 where pieces are linear."""
        return torch.zeros_like(first)


def nearest_point(x: Tensor, how: NearestPoint) -> Tensor:
    """``how.solve(x)[0]`` with its derivatives; works under autograd, ``jvp`` and ``vmap``."""
    if not is_differentiated(x):
        return how.solve(x)[0]
    function = _Once if torch.compiler.is_compiling() else _Nearest
    return function.apply(x, how)[0]  # type: ignore[no-any-return, no-untyped-call]


def last_derivative(x: Tensor) -> Tensor:
    """The same numbers, which refuse to be differentiated once more."""
    return _Last.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class _Once(torch.autograd.Function):
    """``P(x)`` with its first derivative in reverse mode, which is all that ``torch.compile`` accepts.

    ``P`` is the gradient of ``½‖x‖² − ½ distance(x)²``: its derivative is symmetric, and one linear map serves
    the forward and the reverse mode; so is its second derivative.
    """

    @staticmethod
    def forward(x: Tensor, how: NearestPoint) -> tuple[Tensor, ...]:
        return how.solve(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, ctx.how = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, *output[1:])
        ctx.save_for_forward(x, *output[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        _, *factors = ctx.saved_tensors
        return ctx.how.derivative(gradients[0], *factors), None


class _Nearest(_Once):
    """The same with its second derivative, in forward mode and under ``vmap`` too."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Moved.apply(gradients[0], ctx.how, *ctx.saved_tensors), None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor | None, ...]:
        _, *factors = ctx.saved_tensors
        return (ctx.how.derivative(tangents[0], *factors), *(None for _ in factors))

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, how: NearestPoint) -> tuple[Any, Any]:
        batch = x.movedim(in_dims[0], 0)
        if how.takes_batches:
            results = _Nearest.apply(batch, how)  # type: ignore[no-untyped-call]
        else:
            single = [_Nearest.apply(point, how) for point in batch.unbind(0)]  # type: ignore[no-untyped-call]
            results = tuple(torch.stack(parts) for parts in zip(*single, strict=True))
        return results, (0,) * len(results)


class _Moved(torch.autograd.Function):
    """The derivative, as a function of the displacement and of x."""

    generate_vmap_rule = True

    @staticmethod
    def forward(displacement: Tensor, how: NearestPoint, x: Tensor, *factors: Tensor) -> Tensor:
        return how.derivative(displacement, *factors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        displacement, ctx.how, _, *factors = inputs
        ctx.save_for_backward(displacement, *factors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        displacement, *factors = ctx.saved_tensors
        moved = ctx.how.derivative(gradients[0], *factors)
        bent = ctx.how.curvature(displacement, gradients[0], *factors)
        return last_derivative(moved), None, last_derivative(bent), *(None for _ in factors)


class _Last(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NotImplementedError(
            "functions of eigenvalues and singular values have no third derivative here"
        )
