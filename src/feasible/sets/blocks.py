"""Blocks of tensors: all combinations of some indices along each dimension."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Axes = tuple[tuple[int, Tensor], ...]
"""Dimensions, counted from the last, with the indices that are picked along them; all along the others."""


def block(mask: Tensor) -> Axes | None:
    """What a mask picks along each dimension, or ``None`` where it is not all their combinations."""
    dims = range(-mask.dim(), 0)
    combined, axes = torch.ones_like(mask), []
    for axis in dims:
        others = tuple(dim for dim in dims if dim != axis)
        picked = mask.any(others, keepdim=True) if others else mask
        combined = combined & picked
        if not bool(picked.all()):
            axes.append((axis, picked.flatten().nonzero().squeeze(-1)))
    return tuple(axes) if torch.equal(combined, mask) else None


def block_shape(shape: Sequence[int], axes: Axes) -> torch.Size:
    """The shape of what ``take`` gives from a tensor of this shape."""
    sizes = list(shape)
    for axis, index in axes:
        sizes[axis] = len(index)
    return torch.Size(sizes)


def take(x: Tensor, axes: Axes) -> Tensor:
    """The block of ``x``."""
    for axis, index in axes:
        x = x.index_select(axis, index.to(x.device))
    return x


def put(x: Tensor, axes: Axes, part: Tensor) -> Tensor:
    """``x`` with ``part`` in the place of its block."""
    if not axes:
        return part
    (axis, index), *others = axes
    index = index.to(x.device)
    inner = put(x.index_select(axis, index), tuple(others), part)
    return x.index_copy(axis, index, inner)
