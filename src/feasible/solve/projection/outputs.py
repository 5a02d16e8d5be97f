"""What the model puts out where it is watched: for the metric, and for the warning against collapse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Points = Any
"""A tensor, a tuple of the model's arguments, a dict of them, or a function of the model."""


def outputs_at(model: nn.Module, points: Points) -> Callable[[], Tensor]:
    """The model's outputs there, flat.

    Raises:
        ValueError: the outputs are not finite or have no gradient.
    """

    def outputs() -> Tensor:
        return flattened(_called(model, points))

    first = outputs()
    if not bool(first.detach().isfinite().all()):
        raise ValueError("project_parameters: the outputs at points= are not finite.")
    return outputs


def _called(model: nn.Module, points: Points) -> Any:
    if isinstance(points, Tensor):
        return model(points)
    if isinstance(points, dict):
        return model(**points)
    if isinstance(points, (tuple, list)):
        return model(*points)
    if callable(points):
        return points(model)
    raise TypeError(
        "project_parameters: points= must be a tensor, a tuple or dict of the model's arguments, or a function of "
        f"the model, got {type(points).__name__}."
    )


def flattened(output: Any) -> Tensor:
    """The floating-point tensors of an output in one vector."""
    parts = [part.reshape(-1) for part in _tensors(output)]
    if not parts:
        raise TypeError(
            f"project_parameters: the model's output holds no tensors, got {type(output).__name__}."
        )
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, dict):
        for part in output.values():
            yield from _tensors(part)
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from _tensors(part)
    elif isinstance(value := getattr(output, "value", None), Tensor):  # a function with its derivatives
        yield value


@contextmanager
def overheard(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what the model returns while functions call it, also below the transformations of ``torch.func``."""
    seen: list[Tensor] = []

    def note(module: nn.Module, arguments: Any, output: Any) -> None:
        seen.extend(torch.func.debug_unwrap(part).detach().reshape(-1).double() for part in _tensors(output))

    handle = model.register_forward_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def root_mean_square(x: Tensor) -> float:
    """``√(mean x²)``."""
    return float(torch.linalg.vector_norm(x)) / math.sqrt(max(x.numel(), 1))
