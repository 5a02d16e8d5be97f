"""Sets of matrices: they act on the last two dimensions, every other dimension is a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from feasible.sets.matrix_charts import MirrorChart
from feasible.sets.precision import wide
from feasible.sets.set import Set
from feasible.sets.simplex import check_kind
from feasible.sets.units import keep_members, precise_norm

__all__ = ["SkewSymmetric", "Symmetric"]


class Matrices(Set):
    """A set of matrices in the last two dimensions."""

    @property
    def unit(self) -> str:
        """One matrix."""
        return "matrix"

    def norm(self, displacement: Tensor) -> Tensor:
        """Frobenius norm of each matrix."""
        return frobenius_norm(displacement)

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        """One value a matrix, repeated over its entries."""
        return values[..., None, None].expand_as(x)

    def sum_units(self, entries: Tensor) -> Tensor:
        """One sum a matrix."""
        return wide(entries).sum((-2, -1)).to(entries.dtype)

    def check_shape(self, shape: torch.Size) -> None:
        """There must be two dimensions."""
        if len(shape) < 2:
            raise ValueError(
                f"{self!r} works on matrices in the last two dimensions, but the tensor has shape {tuple(shape)}.\n"
                "  View it as a matrix first, as in set.flatten(1) for a convolution kernel."
            )


class SquareMatrices(Matrices):
    """A set of square matrices."""

    def check_shape(self, shape: torch.Size) -> None:
        """Rows and columns must be equally many."""
        super().check_shape(shape)
        if shape[-2] != shape[-1]:
            raise ValueError(
                f"{self!r} needs square matrices in the last two dimensions, but the tensor has shape "
                f"{tuple(shape)}: {shape[-2]} rows and {shape[-1]} columns."
            )


class Mirrored(SquareMatrices):
    """Square matrices that equal ``sign`` times their transpose: a linear subspace."""

    sign: ClassVar[int]
    exact = True

    def project(self, x: Tensor) -> Tensor:
        """``(x ± xᵀ)/2``; entries that already agree keep their bits."""
        mirrored = mirror(x, self.sign)
        return keep_members(x == self.sign * x.mT, x, mirrored)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each matrix equals its mirror image, to the bit."""
        return (x == self.sign * x.mT).all(-1).all(-1)

    def support(self, y: Tensor) -> Tensor:
        """0 where y is orthogonal to all members, else +inf."""
        along = self.norm(mirror(y, self.sign))
        allowed = math.sqrt(torch.finfo(y.dtype).eps) * self.norm(
            y
        )  # y itself comes out of rounded arithmetic
        value = torch.where(along <= allowed, torch.zeros_like(along), torch.full_like(along, math.inf))
        return torch.where(along.isnan(), along, value)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The projected direction: the set is flat."""
        return mirror(direction, self.sign)

    def reduce_gradients_(self, points: Sequence[Tensor], gradients: Sequence[Tensor], t: float) -> None:
        """The projected gradients: the mapping of a subspace depends neither on x nor on t."""
        for g in gradients:
            g.copy_(mirror(g, self.sign))

    def chart(self, kind: str | None = None) -> MirrorChart:
        """``"mean"``: free coordinates, mirrored as ``project`` does; ``"triangle"``: the lower one rules."""
        check_kind(self, kind, ("mean", "triangle"))
        return MirrorChart(kind or "mean", self.sign)


@final
@dataclass(frozen=True, eq=False, repr=False)
class Symmetric(Mirrored):
    """Symmetric matrices.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``p = pᵀ``: ``(x + xᵀ)/2``, symmetric to the bit.

    >>> Symmetric().project(torch.tensor([[1.0, 4.0], [2.0, 3.0]]))
    tensor([[1., 3.],
            [3., 3.]])
    """

    sign = 1


@final
@dataclass(frozen=True, eq=False, repr=False)
class SkewSymmetric(Mirrored):
    """Skew-symmetric matrices.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``p = −pᵀ``: ``(x − xᵀ)/2``, skew to the bit.

    >>> SkewSymmetric().project(torch.tensor([[1.0, 4.0], [2.0, 3.0]]))
    tensor([[ 0.,  1.],
            [-1.,  0.]])
    """

    sign = -1


def frobenius_norm(x: Tensor) -> Tensor:
    """Frobenius norm of each matrix, without overflow."""
    return precise_norm(x.flatten(-2), -1).to(x.dtype)


def mirror(x: Tensor, sign: int = 1) -> Tensor:
    """``(x + sign · xᵀ)/2``: halves are exact, and their sum does not depend on their order."""
    return x / 2 + sign * (x.mT / 2)


def on_finite(x: Tensor, function: Callable[[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """``function`` on the finite matrices of ``x``, in at least single precision.

    The first result is NaN for the others (which no factorisation survives); all work on 0 in their place.
    """
    finite = x.isfinite().all(-1).all(-1)[..., None, None]
    point, *factors = function(torch.where(finite, wide(x), 0.0))
    return torch.where(finite, point, math.nan), *factors
