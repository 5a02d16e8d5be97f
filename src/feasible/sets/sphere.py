"""The sphere: vectors of one length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.sets.charts import Chart
from feasible.sets.precision import HALF, wide, widest
from feasible.sets.simplex import check_kind, finite_number
from feasible.sets.units import Vectors, is_plain_cpu, keep_members, precise_norm, vector_norm, vector_sum

__all__ = ["Sphere"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class Sphere(Vectors):
    """Vectors of a given Euclidean norm: rows of length 1 and the like.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``‖p‖ = radius`` along ``dim``: ``radius · x/‖x‖``.
    All members are equally near to the vector 0; it goes to ``radius`` times the first unit vector.

    Args:
        radius: the norm, > 0.
        dim: the dimension that holds one vector; all others are batches. ``None``: the whole tensor.

    Raises:
        ValueError: ``radius`` is not positive and finite, or the vectors have no entries.

    >>> Sphere().project(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [1.0000, 0.0000]])
    """

    radius: float = 1.0
    dim: int | None = -1
    convex = False

    def __post_init__(self) -> None:
        super().__post_init__()
        radius = finite_number("Sphere", "radius", self.radius)
        if radius <= 0:
            raise ValueError(f"Sphere: radius must be positive, got {radius:g}. For radius 0 use Equal(0).")
        object.__setattr__(self, "radius", radius)

    @property
    def size(self) -> float:
        """The radius."""
        return self.radius

    def check_shape(self, shape: torch.Size) -> None:
        """A vector without entries has the norm 0."""
        super().check_shape(shape)
        if self.has_empty_vectors(shape):
            raise ValueError(f"{self!r} is empty: a vector without entries cannot have norm {self.radius:g}.")

    def project(self, x: Tensor) -> Tensor:
        """``radius · x/‖x‖``; differentiable with the derivative ``(v − ⟨v, u⟩ u) · radius/‖x‖``, ``u = x/‖x‖``."""
        norm = precise_norm(x, self.dim, keepdim=True)
        scaled = _divided(wide(x), norm, self.radius)
        first = _first_entries(scaled, self.dim)
        first.copy_(torch.where(norm == 0, torch.full_like(first, self.radius), first))
        scaled = scaled.to(x.dtype)
        return keep_members(self._is_length(norm, x.dtype), x, scaled)

    def project_all_(self, tensors: Sequence[Tensor]) -> None:
        """Small tensors of one shape together, larger ones one by one."""
        for group in _alike(tensors):
            if len(group) == 1 or self.dim is None:
                super().project_all_(group)
            else:
                self._project_alike_(group, self.dim if self.dim < 0 else self.dim + 1)

    def _project_alike_(self, group: list[Tensor], dim: int) -> None:
        stacked = torch.stack(group)
        norm = precise_norm(stacked, dim, keepdim=True)
        if is_plain_cpu(norm) and stacked.dtype not in HALF and _are_ordinary(norm, self.radius):
            # The same numbers as ``project``, in fewer passes.
            factor = torch.where(self._is_length(norm, stacked.dtype), 1.0, self.radius / norm)
            torch._foreach_mul_(group, list(factor.to(stacked.dtype).unbind(0)))
        else:
            projected = Sphere(self.radius, dim).project(stacked)
            torch._foreach_copy_(group, list(projected.unbind(0)))

    def _is_length(self, norm: Tensor, dtype: torch.dtype) -> Tensor:
        return (norm - self.radius).abs() <= self.tolerance(dtype)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each norm is the radius, up to rounding."""
        return self._is_length(precise_norm(x, self.dim), x.dtype)

    needs_tangent = True

    def reduce_gradients_(self, points: Sequence[Tensor], gradients: Sequence[Tensor], t: float) -> None:
        """The gradients without their radial part; the members' norm is known."""
        for x, g in zip(points, gradients, strict=True):
            if self.dim is None or x.dtype in HALF or not _is_ordinary(self.radius):
                g.copy_(self.tangent(x, g))
            else:
                radial = torch.linalg.vecdot(x, g, dim=self.dim).unsqueeze(self.dim)
                g.addcmul_(x, radial, value=-1 / self.radius**2)

    def chart(self, kind: str | None = None) -> Chart:
        """``"normalize"``: ``radius · z/‖z‖``; members are their own coordinates."""
        check_kind(self, kind, ("normalize",))
        return SphereChart(self)

    def support(self, y: Tensor) -> Tensor:
        """``radius · ‖y‖``."""
        return self.radius * vector_norm(y, self.dim)

    def lmo(self, gradient: Tensor) -> Tensor:
        """``−radius · gradient/‖gradient‖``; the first unit vector's multiple where the gradient is 0."""
        return self.project(-gradient)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """The direction without its radial part."""
        normal = widest(x) / _divisor(precise_norm(x, self.dim, keepdim=True))
        radial = vector_sum(normal * direction, self.dim, keepdim=True)
        return (direction - radial * normal).to(direction.dtype)


class SphereChart(Chart):
    """``radius · z/‖z‖`` along ``dim``."""

    def __init__(self, sphere: Sphere) -> None:
        super().__init__()
        self.sphere = sphere

    def forward(self, latent: Tensor) -> Tensor:
        """The vectors in these directions."""
        return self.sphere.project(latent)

    def right_inverse(self, x: Tensor) -> Tensor:
        """The members are their own coordinates."""
        return x

    def relative_slope(self, latent: Tensor) -> Tensor:
        """``radius/‖z‖`` of each vector, at most 1: long coordinates turn slowly."""
        norm = precise_norm(latent.detach(), self.sphere.dim, keepdim=True)
        return (
            (self.sphere.radius / torch.clamp_min(norm, self.sphere.radius))
            .to(latent.dtype)
            .expand_as(latent)
        )

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Shorten coordinates that are too long; the vectors stay where they are."""
        shortened = latent * (self.relative_slope(latent) / slope).clamp_max(1)
        latent.copy_(torch.where(wanted, shortened, latent))


def _divided(x: Tensor, norm: Tensor, radius: float) -> Tensor:
    """``radius · x/norm``, with one division a vector; NaN where the norm is infinite."""
    lift = 2.0**100 if x.dtype == torch.float32 else 2.0**800
    up, down = torch.full_like(norm, lift), torch.full_like(norm, 1 / lift)
    powers = torch.where(norm < down, up, torch.where(norm > up, down, torch.ones_like(norm)))
    factor = radius / (_divisor(norm) * powers)
    factor = torch.where(norm.isinf(), torch.full_like(norm, torch.nan), factor)
    return x * powers.to(x.dtype) * factor.to(x.dtype)


def _first_entries(x: Tensor, dim: int | None) -> Tensor:
    """A view of the first entry of each vector."""
    for axis in range(x.dim()) if dim is None else (dim,):
        x = x.narrow(axis, 0, min(x.shape[axis], 1))
    return x


def _alike(tensors: Sequence[Tensor], most: int = 1 << 16) -> Iterable[list[Tensor]]:
    """Small tensors of one shape, dtype and device in groups that fit a cache; large ones by themselves."""
    groups: dict[object, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.shape, tensor.dtype, tensor.device), []).append(tensor)
    for group in groups.values():
        count = max(most // max(group[0].numel(), 1), 1)
        for first in range(0, len(group), count):
            yield group[first : first + count]


def _is_ordinary(size: float) -> bool:
    """Whether squares and quotients of such numbers stay far from overflow and underflow in single precision."""
    return 1e-9 < size < 1e9


def _are_ordinary(norm: Tensor, radius: float) -> bool:
    """Whether all these norms can be brought to the radius by one factor each."""
    return _is_ordinary(radius) and all(_is_ordinary(float(bound)) for bound in norm.aminmax())


def _divisor(norm: Tensor) -> Tensor:
    return torch.where(norm == 0, torch.ones_like(norm), norm)
