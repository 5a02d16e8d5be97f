"""Normalisations written out: torch's own lose terms where they are differentiated twice in forward mode.

(pytorch/pytorch issues 196699 and 196700: the second derivative of ``layer_norm`` and ``batch_norm`` by nested ``jvp``
is wrong, and so is the gradient of the first.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from feasible.errors import UnsupportedError


def layer_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """``(x − mean) / √(variance + eps) · weight + bias`` over the last dimensions."""
    dims = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(dims, keepdim=True)
    return affine(centred * (centred.square().mean(dims, keepdim=True) + eps).rsqrt(), weight, bias)


def rms_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None
) -> Any:
    """``x / √(mean of squares + eps) · weight`` over the last dimensions."""
    dims = tuple(range(-len(normalized_shape), 0))
    least = torch.finfo(input.dtype).eps if eps is None else eps
    return affine(input * (input.square().mean(dims, keepdim=True) + least).rsqrt(), weight, None)


def batch_norm(
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """``(x − mean) / √(variance + eps) · weight + bias`` with the running statistics.

    Raises:
        UnsupportedError: the statistics are those of the batch, so that a row depends on the others.
    """
    if training or running_mean is None or running_var is None:
        raise UnsupportedError(
            "derivatives: batch_norm in training mode makes each row depend on the others.\n"
            "  Call model.eval(), or use LayerNorm."
        )
    shape = (-1, *[1] * (input.dim() - 2))
    result = (input - running_mean.reshape(shape)) * (running_var.reshape(shape) + eps).rsqrt()
    return affine(result, *(None if each is None else each.reshape(shape) for each in (weight, bias)))


def affine(normal: Any, weight: Any, bias: Any) -> Any:
    """``normal · weight + bias``."""
    scaled = normal if weight is None else normal * weight
    return scaled if bias is None else scaled + bias


NORMS: dict[str, Callable[..., Any]] = {
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "batch_norm": batch_norm,
}


class WrittenOut(TorchFunctionMode):
    """Replaces normalisations by what they mean."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function, or what stands for it."""
        name = getattr(function, "__name__", "")
        if name in ("group_norm", "instance_norm"):
            raise UnsupportedError(
                f"derivatives: {name} is not among the functions whose derivatives are known to be right here.\n"
                "  Use LayerNorm, or write the normalisation out in the model."
            )
        return NORMS.get(name, function)(*args, **(kwargs or {}))
