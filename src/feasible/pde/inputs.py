"""Further inputs of a model u(x; a, b, …): one row for each point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def as_inputs(name: str, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """A sequence of inputs, all with the same number of rows.

    Raises:
        TypeError: it is one tensor, not a sequence of them.
        ValueError: the numbers of rows differ.
    """
    if isinstance(inputs, Tensor):
        raise TypeError(
            f"{name}: inputs must be a sequence of what the model takes beside x, got a tensor. "
            "Use inputs=(tensor,)."
        )
    found = tuple(inputs)
    counts = [len(each) for each in found if has_rows(each)]
    if len(set(counts)) > 1:
        raise ValueError(f"{name}: inputs must have the same number of rows, got {counts}.")
    return found


def has_rows(value: Any) -> bool:
    """Whether an input differs between points; numbers and other objects are handed on as they are."""
    return isinstance(value, Tensor) and value.dim() > 0


def row_count(inputs: Sequence[Any]) -> int | None:
    """How many rows the inputs have; ``None``: none has rows."""
    return next((len(each) for each in inputs if has_rows(each)), None)


def check_rows(name: str, x: Tensor, inputs: Sequence[Any]) -> None:
    """Raise where inputs are not one row for each point.

    Raises:
        ValueError: they are not.
    """
    for place, each in enumerate(inputs):
        if has_rows(each) and len(each) != len(x):
            raise ValueError(
                f"{name}: expected one row of inputs for each of {len(x)} points, got input {place} of shape "
                f"{tuple(each.shape)}."
            )


def dtype_of_inputs(inputs: Sequence[Any]) -> torch.dtype | None:
    """Of the first one that holds floating-point numbers."""
    return next((e.dtype for e in inputs if isinstance(e, Tensor) and e.is_floating_point()), None)


def matched(inputs: Sequence[Any], like: Tensor | None) -> tuple[Any, ...]:
    """The inputs on the device of a tensor, floating-point ones with its dtype."""
    if like is None:
        return tuple(inputs)
    return tuple(
        each.to(like.device, like.dtype if each.is_floating_point() else each.dtype)
        if isinstance(each, Tensor)
        else each
        for each in inputs
    )


def taken(inputs: Sequence[Any], rows: Tensor) -> tuple[Any, ...]:
    """These rows of all inputs."""
    return tuple(each[rows.to(each.device)] if has_rows(each) else each for each in inputs)


def repeated(inputs: Sequence[Any], row: int, count: int) -> tuple[Any, ...]:
    """One row of all inputs, for so many points."""
    return taken(inputs, torch.full((count,), row))


def equal_rows(inputs: Sequence[Any], others: Sequence[Any], row: int, count: int) -> Tensor:
    """Where the inputs of so many points are those of one row of others, (count,), on the CPU: for any device."""
    same = [
        (each == other[row].to(each)).reshape(len(each), math.prod(each.shape[1:])).all(1).cpu()
        for each, other in zip(inputs, others, strict=True)
        if has_rows(each) and has_rows(other)
    ]
    return torch.stack(same).all(0) if same else torch.ones(count, dtype=torch.bool)
