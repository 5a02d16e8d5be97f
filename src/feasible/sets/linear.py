"""Linear algebra and checks that the sets given by linear equations and inequalities share."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from feasible.sets.precision import roundoff, wide, widest
from feasible.sets.units import Vectors, precise_norm

Derived = TypeVar("Derived", bound=tuple[Any, ...])


class LinearVectors(Vectors, Generic[Derived]):
    """Vectors under linear conditions, with what was derived from the conditions once, in float64."""

    derived: Derived
    """A named tuple of tensors and numbers."""

    def _derive(self, derived: Derived, **fields: object) -> None:
        for name, value in {**fields, "derived": derived}.items():
            object.__setattr__(self, name, value)

    def cast(self, like: Tensor) -> Self:
        """The fields on the device and dtype of ``like``; what was derived stays precise."""
        precise = widest(like.new_empty(0))
        twin = super().cast(like)
        moved = (value.to(precise) if isinstance(value, Tensor) else value for value in self.derived)
        twin._derive(type(self.derived)(*moved))
        return twin


def finite_tensor(owner: str, name: str, value: object) -> Tensor:
    """A floating-point tensor of its own, or a ``ValueError`` that says what came."""
    try:
        given = isinstance(value, Tensor) or hasattr(value, "dtype")
        # Python's numbers keep their digits until the dtype of the weight is known.
        tensor = torch.as_tensor(value, dtype=None if given else torch.float64).detach().clone()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{owner}: {name} must be a tensor or nested numbers, got {value!r}.") from None
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.get_default_dtype())
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{owner}: {name} must be finite, but has infinite or NaN entries.")
    return tensor


def check_system(owner: str, names: tuple[str, str], matrix: Tensor, right: Tensor) -> None:
    """Raise unless ``matrix`` is (m, n) and ``right`` (…, m)."""
    left, other = names
    if matrix.dim() != 2:
        raise ValueError(
            f"{owner}: {left} must be a matrix with one row for each condition, got shape {tuple(matrix.shape)}."
        )
    if right.dim() == 0 or right.shape[-1] != matrix.shape[0]:
        raise ValueError(
            f"{owner}: {other} must have one entry for each of the {matrix.shape[0]} rows of {left} "
            f"in its last dimension, got shape {tuple(right.shape)}."
        )


def check_vectors(owner: Vectors, name: str, length: int, batch: torch.Size, shape: torch.Size) -> None:
    """Raise unless the vectors of a tensor of ``shape`` have ``length`` entries and their batch takes ``batch``."""
    if owner.length(shape) != length:
        raise ValueError(
            f"{owner!r} speaks of vectors with {length} entries ({name}), but a tensor of shape {tuple(shape)} "
            f"has vectors with {owner.length(shape)} (dim={owner.dim})."
        )
    batches = torch.Size() if owner.dim is None else _without(shape, owner.dim)
    try:
        fits = torch.empty(batch, device="meta").expand(batches).shape == batches
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{owner!r} has right-hand sides in a batch of shape {tuple(batch)}, but a tensor of shape "
            f"{tuple(shape)} has its vectors in a batch of shape {tuple(batches)} (dim={owner.dim})."
        )


def _without(shape: torch.Size, dim: int) -> torch.Size:
    others = list(shape)
    others.pop(dim)
    return torch.Size(others)


def precision_of(*tensors: Tensor) -> float:
    """Relative error of the least precise of these tensors; halves are taken to be given as floats."""
    return max(torch.finfo(wide(tensor).dtype).eps for tensor in tensors)


def without_noise(projected: Tensor, member: Tensor, x: Tensor) -> Tensor:
    """``projected``, or the value of ``member`` where rounding errors of x are all that lies between them."""
    gap = precise_norm((projected - member).detach(), -1, keepdim=True)
    is_noise = gap <= roundoff(projected.dtype) * precise_norm(x.detach(), -1, keepdim=True)
    return torch.where(is_noise, member + (projected - projected.detach()), projected)


class RowSpace(NamedTuple):
    """The solutions of ``A x = b`` as ``basisᵀ x = coordinates``, with orthonormal columns in ``basis``."""

    basis: Tensor
    coordinates: Tensor


def row_space(owner: str, A: Tensor, b: Tensor) -> RowSpace:
    """Orthonormal form of ``A x = b`` in float64; redundant rows vanish.

    Raises:
        ValueError: the rows contradict each other.
    """
    eps = precision_of(A, b) * max(*A.shape, 1)
    length = torch.linalg.vector_norm(widest(A), dim=1)
    length = torch.where(length == 0, torch.ones_like(length), length)
    rows, right = widest(A) / length.unsqueeze(1), widest(b) / length
    U, singular, Vh = torch.linalg.svd(rows, full_matrices=False)
    kept = singular > eps * singular.amax() if singular.numel() else singular > 0
    basis = Vh[kept].mT.contiguous()
    coordinates = right @ U[:, kept] / singular[kept]
    gap = (coordinates @ (rows @ basis).mT - right).abs()
    reach = right.abs() + torch.linalg.vector_norm(coordinates, dim=-1, keepdim=True)
    contradicted = gap > 32 * eps * reach
    if bool(contradicted.any()):
        place = contradicted.nonzero()[0].tolist()
        raise ValueError(
            f"{owner} is empty: A x = b has no solution, for row {place[-1]} of A contradicts the others "
            f"(b{place} = {float(b[tuple(place)]):g}).\n  Change b, or drop that row."
        )
    return RowSpace(basis, coordinates)
