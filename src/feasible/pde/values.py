"""Values that are given: numbers, tensors and functions, in the shape of the rows that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Value = float | Tensor | Callable[..., Tensor | float]
"""A number, a tensor with one entry for each component or one row for each point, or a function of ``(x, *inputs)``."""


def is_by_row(value: Tensor) -> bool:
    """Whether a tensor may hold one row for each point, (n, m), not one entry for each component."""
    return value.dim() == 2 and len(value) > 1


def known(name: str, value: Value, x: Tensor, inputs: Sequence[Any], columns: int) -> Tensor:
    """A given value at these points, (n, 1), (1, m) or (n, m).

    Args:
        name: for messages.
        value: what was given.
        x: (n, d).
        inputs: of a function.
        columns: m, the number of components that it is compared with.

    Raises:
        ValueError: it has another shape.
    """
    is_function = callable(value) and not isinstance(value, Tensor)
    found = value(x, *inputs) if callable(value) and is_function else value
    if isinstance(found, str):
        raise TypeError(f"{name}: the value must be a number, a tensor or a function of x, got {found!r}.")
    found = torch.as_tensor(found, dtype=x.dtype, device=x.device)
    if found.dim() == 1 and len(found) == len(x) and (is_function or len(found) not in (1, columns)):
        return found[:, None]
    rows = found.reshape(1, -1) if found.dim() <= 1 else found
    if rows.dim() == 2 and rows.shape[0] in (1, len(x)) and rows.shape[1] in (1, columns):
        return rows
    raise ValueError(
        f"{name}: the value must be a number, one for each of {columns} components, or (n,) or (n, components) for "
        f"{len(x)} points; got the shape {tuple(found.shape)}."
    )
