"""The unknowns as one vector: a tensor, a list of tensors or a module's parameters, and back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Vector = NDArray[np.float64]


class Unknowns:
    """What is sought, as ``n`` numbers in float64; functions see it in the user's form and dtype.

    Args:
        x0: a floating-point tensor, a list of them, or a module.

    Raises:
        TypeError: x0 is something else.
        ValueError: x0 holds integers, complex or non-finite numbers, or nothing at all.
    """

    def __init__(self, x0: Any) -> None:
        self.module = x0 if isinstance(x0, nn.Module) else None
        self.is_tensor = isinstance(x0, Tensor)
        named = _named(x0)
        self.names = [name for name, _ in named]
        self.tensors = [tensor.detach() for _, tensor in named]
        self.parameters = [tensor for _, tensor in named] if self.module is not None else []
        _check(self.names, self.tensors)
        ends = list(accumulate(tensor.numel() for tensor in self.tensors))
        self.slices = [slice(end - tensor.numel(), end) for end, tensor in zip(ends, self.tensors)]
        self.count = ends[-1]
        self.start = self.flat(self.tensors)

    @property
    def dtype(self) -> torch.dtype:
        """The least precise of the dtypes."""
        return max((tensor.dtype for tensor in self.tensors), key=lambda dtype: torch.finfo(dtype).eps)

    def flat(self, tensors: Sequence[Tensor], dtype: type[np.floating[Any]] = np.float64) -> Vector:
        """Tensors of these shapes as one vector."""
        result: Vector = np.empty(self.count, dtype)
        whole = torch.from_numpy(result)
        for at, tensor in zip(self.slices, tensors, strict=True):
            whole[at].copy_(tensor.detach().reshape(-1))
        return result

    def shaped(self, flat: Vector, index: int) -> Tensor:
        """One of the tensors, from a vector, in its own dtype, shape and place."""
        like = self.tensors[index]
        part = torch.from_numpy(flat[self.slices[index]].copy())
        return part.to(like.device, like.dtype).reshape(like.shape)

    def precise(self, flat: Vector, index: int) -> Tensor:
        """The same in float64 on the CPU."""
        return torch.from_numpy(flat[self.slices[index]].copy()).reshape(self.tensors[index].shape)

    def leaves(self, flat: Vector) -> list[Tensor]:
        """Tensors to differentiate with respect to; a module's parameters take the values."""
        if self.module is None:
            return [self.shaped(flat, index).requires_grad_() for index in range(len(self.tensors))]
        whole = torch.from_numpy(flat)
        with torch.no_grad():
            for parameter, at in zip(self.parameters, self.slices, strict=True):
                parameter.copy_(whole[at].view(parameter.shape))
        return self.parameters

    def form(self, leaves: Sequence[Tensor]) -> Any:
        """What functions are given."""
        if self.module is not None:
            return self.module
        return leaves[0] if self.is_tensor else list(leaves)

    def rounded(self, flat: Vector) -> Vector:
        """The vector as it is after a trip through the tensors' dtypes."""
        dtypes = {tensor.dtype for tensor in self.tensors}
        if dtypes == {torch.float64}:
            return flat
        if dtypes == {torch.float32}:
            return flat.astype(np.float32).astype(np.float64)
        return self.flat([self.shaped(flat, index) for index in range(len(self.tensors))])

    def copied(self, flat: Vector) -> Any:
        """The vector as tensors of their own: one, a list, or for a module a dict by name."""
        values = [self.shaped(flat, index) for index in range(len(self.tensors))]
        if self.module is not None:
            return dict(zip(self.names, values, strict=True))
        return values[0] if self.is_tensor else values

    def result(self, flat: Vector) -> Any:
        """The vector in the form of x0; a module keeps it in its parameters."""
        leaves = self.leaves(flat)
        return self.module if self.module is not None else self.form([leaf.detach() for leaf in leaves])

    def place(self, key: object) -> int:
        """The index of the tensor that ``key`` names: a name of a parameter, or a position."""
        if isinstance(key, str) and self.module is not None and key in self.names:
            return self.names.index(key)
        if isinstance(key, int) and not isinstance(key, bool) and self.module is None and not self.is_tensor:
            if -len(self.tensors) <= key < len(self.tensors):
                return key % len(self.tensors)
            raise ValueError(
                f"minimize: x0 is a list of {len(self.tensors)} tensors; there is no tensor {key}."
            )
        if self.module is not None:
            raise ValueError(
                f"minimize: {key!r} is no parameter of the module.\n  It has: {', '.join(self.names)}"
            )
        expected = "a set by itself" if self.is_tensor else "(position, set) with an integer"
        raise ValueError(
            f"minimize: a constraint on x is written as {expected}, got {key!r} as its first part."
        )


def _named(x0: Any) -> list[tuple[str, Tensor]]:
    if isinstance(x0, nn.Module):
        return [(name, weight) for name, weight in x0.named_parameters() if weight.requires_grad]
    if isinstance(x0, Tensor):
        return [("x0", x0)]
    if isinstance(x0, (list, tuple)) and all(isinstance(item, Tensor) for item in x0):
        return [(f"x0[{index}]", item) for index, item in enumerate(x0)]
    raise TypeError(
        f"minimize: x0 must be a tensor, a list of tensors or a module, got {type(x0).__name__}.\n"
        "  Convert it first: torch.as_tensor(x0, dtype=torch.float64)."
    )


def _check(names: Sequence[str], tensors: Sequence[Tensor]) -> None:
    if sum(tensor.numel() for tensor in tensors) == 0:
        raise ValueError("minimize: x0 has no entries: there is nothing to choose.")
    for name, tensor in zip(names, tensors, strict=True):
        if not tensor.is_floating_point():
            raise ValueError(
                f"minimize: {name} has dtype {tensor.dtype}, but derivatives need real floating-point numbers.\n"
                "  Convert it first: x0.double()."
            )
        bad = ~tensor.isfinite()
        if bool(bad.any()):
            where = tuple(bad.nonzero()[0].tolist())
            raise ValueError(
                f"minimize: {name} is {tensor[where].item()} at {list(where)}; give a finite start."
            )
