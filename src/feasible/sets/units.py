"""The units that sets speak of: single entries, or vectors along one dimension."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import torch
from torch import Tensor

from feasible.sets.precision import wide, widest
from feasible.sets.set import Set


class Elementwise(Set):
    """A set that constrains each entry by itself."""

    separable = True
    exact = True

    @property
    def unit(self) -> str:
        """One entry."""
        return "entry"

    def norm(self, displacement: Tensor) -> Tensor:
        """``|displacement|``, entry by entry."""
        return displacement.abs()

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        """The values themselves: there is one for every entry."""
        return values.expand_as(x)

    def sum_units(self, entries: Tensor) -> Tensor:
        """The values themselves."""
        return entries


class Vectors(Set):
    """A set of vectors along ``dim``; ``None`` takes the whole tensor as one vector."""

    dim: int | None

    def __post_init__(self) -> None:
        if self.dim is not None:
            object.__setattr__(self, "dim", _whole(type(self).__name__, self.dim))

    @property
    def unit(self) -> str:
        """One vector."""
        return "tensor" if self.dim is None else f"vector along {self.dim}"

    def norm(self, displacement: Tensor) -> Tensor:
        """Euclidean norm of each vector."""
        return vector_norm(displacement, self.dim)

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        """One value a vector, repeated along it."""
        return (values if self.dim is None else values.unsqueeze(self.dim)).expand_as(x)

    def sum_units(self, entries: Tensor) -> Tensor:
        """One sum a vector."""
        return vector_sum(entries, self.dim).to(entries.dtype)

    def check_shape(self, shape: torch.Size) -> None:
        """The dimension must exist."""
        if self.dim is not None and not -len(shape) <= self.dim < len(shape):
            raise ValueError(
                f"{self!r} works along dimension {self.dim}, but the tensor has shape {tuple(shape)}.\n"
                "  Choose an existing dim, or dim=None for the whole tensor as one vector."
            )

    def has_empty_vectors(self, shape: torch.Size) -> bool:
        """Whether there are vectors, and they have no entries."""
        if self.dim is None:
            return math.prod(shape) == 0
        others = list(shape)
        return others.pop(self.dim) == 0 and math.prod(others) != 0

    def rows(self, x: Tensor) -> Tensor:
        """The vectors along the last dimension; the whole tensor as one without batch dimensions."""
        return x.reshape(-1) if self.dim is None else x.movedim(self.dim, -1)

    def from_rows(self, rows: Tensor, like: Tensor) -> Tensor:
        """What ``rows`` has done, undone."""
        return rows.reshape(like.shape) if self.dim is None else rows.movedim(-1, self.dim)

    def length(self, shape: torch.Size) -> int:
        """Number of entries of one vector in a tensor of this shape."""
        return math.prod(shape) if self.dim is None else shape[self.dim]


def _whole(name: str, dim: object) -> int:
    if not isinstance(dim, bool):
        try:
            return operator.index(dim)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise ValueError(
        f"{name}: dim must be a whole number, or None for the whole tensor as one vector, got {dim!r}."
    )


def along(dim: int | None, x: Tensor, rows: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of row vectors (last dimension) to the vectors of ``x`` along ``dim``."""
    if dim is None:
        return rows(x.reshape(1, -1)).reshape(x.shape)
    if dim in (-1, x.dim() - 1):
        return rows(x)
    return rows(x.movedim(dim, -1)).movedim(-1, dim)


def vector_norm(x: Tensor, dim: int | None, keepdim: bool = False) -> Tensor:
    """Euclidean norm along ``dim`` that neither overflows nor underflows where the norm itself does not."""
    return precise_norm(x, dim, keepdim).to(x.dtype)


def precise_norm(x: Tensor, dim: int | None, keepdim: bool = False) -> Tensor:
    """Euclidean norm along ``dim``, in float64 where the device has it; all derivatives are 0 at 0."""
    if not is_differentiated(x):
        return _norm(x, dim, keepdim)
    zero = _norm(x.detach(), dim, keepdim=True) == 0
    norm = _norm(torch.where(zero, torch.ones_like(x), x), dim, keepdim=True)
    norm = torch.where(zero, torch.zeros_like(norm), norm)
    return norm if keepdim else _drop(norm, dim)


def _norm(x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    norm: Tensor
    if x.numel() == 0 or (x.dtype != torch.float64 and x.device.type != "mps"):
        # Squares of single-precision numbers neither overflow nor underflow in float64.
        dtype = torch.float32 if x.device.type == "mps" else torch.float64
        norm = torch.linalg.vector_norm(x, dim=dim, keepdim=keepdim, dtype=dtype)
        return norm
    work = widest(x)
    scale = work.detach().abs().amax(dim=() if dim is None else dim, keepdim=True)
    scale = torch.where((scale > 0) & scale.isfinite(), scale, torch.ones_like(scale))
    norm = torch.linalg.vector_norm(work / scale, dim=dim, keepdim=True) * scale
    return norm if keepdim else _drop(norm, dim)


def _drop(x: Tensor, dim: int | None) -> Tensor:
    return x.reshape(()) if dim is None else x.squeeze(dim)


def vector_sum(x: Tensor, dim: int | None, keepdim: bool = False) -> Tensor:
    """Sum along ``dim``, of half-precision numbers in float32."""
    dims = tuple(range(x.dim())) if dim is None else (dim,)
    return wide(x).sum(dims, keepdim=keepdim)


def shift_to_sum(rows: Tensor, total: float) -> Tensor:
    """Rows with the same amount taken from every entry, so that each sums to ``total``."""
    count = max(rows.shape[-1], 1)
    shifted = rows - (rows.sum(-1, keepdim=True) - total) / count
    # Between large numbers the first difference loses digits; the second brings them back.
    return shifted - (shifted.sum(-1, keepdim=True) - total) / count


def keep_members(member: Tensor, x: Tensor, projected: Tensor) -> Tensor:
    """``projected``, with the exact bits of ``x`` where ``member``; the derivative stays that of ``projected``.

    ``projected − projected.detach()`` is zero and carries the derivative; it is subtracted twice so that
    even the sign of a zero survives.
    """
    if not is_differentiated(projected):
        return torch.where(member, x, projected)
    return torch.where(member, x.detach() - (projected.detach() - projected), projected)


def is_differentiated(x: Tensor) -> bool:
    """Whether some kind of differentiation may look at ``x``: reverse mode, forward mode or torch.func."""
    if torch.autograd.forward_ad._current_level >= 0:
        return True
    if torch.compiler.is_compiling():  # which cannot look for torch.func
        return torch.is_grad_enabled()
    return (x.requires_grad and torch.is_grad_enabled()) or torch._C._functorch.is_functorch_wrapped_tensor(x)


def is_plain_cpu(x: Tensor) -> bool:
    """Whether reading a value back is free: an eager CPU tensor outside torch.func and torch.compile."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )
