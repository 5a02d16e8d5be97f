"""Free coordinates for sets: modules for ``torch.nn.utils.parametrize``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from feasible.sets.blocks import Axes, put, take
from feasible.sets.precision import wide
from feasible.sets.units import along, precise_norm, shift_to_sum

DEAD_SLOPE = 1e-3
"""An entry is saturated where the chart's slope is below this share of its full slope."""
FAINT_SLOPE = 1e-6
"""A revived chart never gets flatter than this, so that the sign of a gradient survives."""


class Chart(nn.Module, ABC):
    """Maps free coordinates onto a set; ``right_inverse`` finds coordinates of a member."""

    @abstractmethod
    def forward(self, latent: Tensor) -> Tensor:
        """The member at these coordinates."""

    @abstractmethod
    def right_inverse(self, x: Tensor) -> Tensor:
        """Coordinates of the member ``x`` (moved inside where the boundary has none)."""

    @abstractmethod
    def relative_slope(self, latent: Tensor) -> Tensor:
        """How strongly each entry still answers to its coordinate; 1 is fully."""

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Move the ``wanted`` coordinates, in place, to where the relative slope is at least ``slope``."""
        raise NotImplementedError

    def saturated(self, latent: Tensor) -> Tensor:
        """Entries that no longer answer to their coordinate."""
        return self.relative_slope(latent) < DEAD_SLOPE


@dataclass(frozen=True)
class Curve:
    """A map of the line onto [0, ∞) or [0, 1], its inverse, and how to get back from its flat part."""

    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]
    lift: Callable[[Tensor, float], Tensor]
    """The nearest coordinate whose slope is at least the given share."""
    floor: float = 0.0
    """Values below are moved here before they are inverted (a curve that never reaches 0)."""


def _two_sided(z: Tensor, limit: float) -> Tensor:
    return z.clamp(-limit, limit)


def _away_from_zero(z: Tensor, least: float) -> Tensor:
    return torch.where(z < 0, z.clamp_max(-least), z.clamp_min(least))


def _log(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float64).log())


HALF_LINE = {
    # |z| keeps slope ±1 everywhere: no coordinate ever dies, and feasible weights keep their bits.
    "abs": Curve(lambda z: torch.where(z < 0, -z, z), lambda x: x, lambda z, s: z),
    "softplus": Curve(
        nn.functional.softplus,
        lambda x: x + torch.log(-torch.expm1(-x)),
        lambda z, s: z.clamp_min(_log(s)),
        floor=1e-2,
    ),
    "exp": Curve(torch.exp, torch.log, lambda z, s: z.clamp_min(_log(s)), floor=1e-2),
    "square": Curve(torch.square, torch.sqrt, lambda z, s: _away_from_zero(z, s / 2), floor=1e-4),
    "relu": Curve(torch.relu, lambda x: x, lambda z, s: z.clamp_min(1e-6), floor=1e-4),
}
INTERVAL = {
    "sigmoid": Curve(torch.sigmoid, torch.logit, lambda z, s: _two_sided(z, -_log(s / 4)), floor=1e-2),
    "tanh": Curve(
        lambda z: (1 + torch.tanh(z)) / 2,
        lambda x: torch.atanh(2 * x - 1),
        lambda z, s: _two_sided(z, -_log(s / 4) / 2),
        floor=1e-2,
    ),
    "sine": Curve(
        lambda z: (1 + torch.sin(z)) / 2,
        lambda x: torch.asin(2 * x - 1),
        lambda z, s: torch.where(torch.cos(z).abs() < s, z + 2 * s, z),
    ),
}
_FULL_SLOPE = {"sigmoid": 0.25, "tanh": 0.5, "sine": 0.5}


class IntervalChart(Chart):
    """``lower + φ(z)``, ``upper − φ(z)`` or ``lower + (upper − lower) φ(z)``, clamped against rounding."""

    lower: Tensor | None
    upper: Tensor | None

    def __init__(self, kind: str, lower: Tensor | None, upper: Tensor | None) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("lower", lower, persistent=False)
        self.register_buffer("upper", upper, persistent=False)

    @property
    def _curve(self) -> Curve:
        return (INTERVAL if self.lower is not None and self.upper is not None else HALF_LINE)[self.kind]

    def _width(self) -> Tensor | float:
        return 1.0 if self.lower is None or self.upper is None else self.upper - self.lower

    def forward(self, latent: Tensor) -> Tensor:
        """The entry at this coordinate."""
        height = self._curve.forward(latent)
        if self.lower is None:
            assert self.upper is not None
            return torch.minimum(self.upper.to(latent) - height, self.upper.to(latent))
        lower = self.lower.to(latent)
        if self.upper is None:
            return torch.maximum(lower + height, lower)
        upper = self.upper.to(latent)
        return torch.maximum(torch.minimum(lower + (upper - lower) * height, upper), lower)

    def right_inverse(self, x: Tensor) -> Tensor:
        """The coordinate of this entry; entries on a boundary that the curve never reaches move inside."""
        height = (x - self.lower.to(x) if self.lower is not None else self._upper(x) - x) / self._scale(x)
        floor = self._curve.floor
        ceiling = 1 - floor if self.lower is not None and self.upper is not None else None
        return self._curve.inverse(height.clamp(floor, ceiling))

    def relative_slope(self, latent: Tensor) -> Tensor:
        """``|dx/dz|`` over the curve's steepest slope (1 for the half line)."""
        with torch.enable_grad():
            z = latent.detach().clone().requires_grad_()
            (slope,) = torch.autograd.grad(self._curve.forward(z).sum(), z)
        full = _FULL_SLOPE.get(self.kind, 1.0)
        return slope.abs() / full

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Lift flat coordinates back to the given share of the full slope."""
        latent.copy_(torch.where(wanted, self._curve.lift(latent, slope), latent))

    def _upper(self, x: Tensor) -> Tensor:
        assert self.upper is not None
        return self.upper.to(x)

    def _scale(self, x: Tensor) -> Tensor | float:
        width = self._width()
        return width.to(x) if isinstance(width, Tensor) else width

    def extra_repr(self) -> str:
        """The kind of curve."""
        return self.kind


class SoftmaxChart(Chart):
    """``total · softmax(z)`` along ``dim``: the open simplex."""

    def __init__(self, total: float, dim: int | None) -> None:
        super().__init__()
        self.total = total
        self.dim = dim

    def _softmax(self, latent: Tensor) -> Tensor:
        if self.dim is None:
            return torch.softmax(latent.reshape(-1), 0).reshape(latent.shape)
        return torch.softmax(latent, self.dim)

    def forward(self, latent: Tensor) -> Tensor:
        """The vectors at these logits."""
        return self.total * self._softmax(latent)

    def right_inverse(self, x: Tensor) -> Tensor:
        """Logits of the vectors; zeros, which softmax never reaches, move to a hundredth of the mean."""
        count = x.numel() if self.dim is None else x.shape[self.dim]
        return torch.log((x / self.total).clamp_min(1e-2 / max(count, 1)))

    def relative_slope(self, latent: Tensor) -> Tensor:
        """``p (1 − p)`` relative to the uniform vector's."""
        p = self._softmax(latent.detach())
        count = p.numel() if self.dim is None else p.shape[self.dim]
        uniform = (1 / count) * (1 - 1 / count) if count > 1 else 1.0
        return p * (1 - p) / uniform

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Lift logits that lie too far below the largest of their vector."""
        top = latent.max() if self.dim is None else latent.amax(self.dim, keepdim=True)
        latent.copy_(torch.where(wanted, torch.maximum(latent, top + _log(slope)), latent))


class StickBreakingChart(SoftmaxChart):
    """``p_k = σ(z_k − log(n − k)) · (total − p_1 − … − p_{k−1})`` along ``dim``: the open simplex, piece by piece.

    Every coordinate breaks its share off the stick that is left; the last piece is the rest, and the last
    coordinate is idle. Coordinates 0 are the uniform vector. A piece behind a break that took everything is
    revived by that break: slopes are those within the stick that is left.

    Source: Stan Reference Manual, section *Simplex transform*.
    """

    def forward(self, latent: Tensor) -> Tensor:
        """The vectors at these coordinates."""
        return along(self.dim, latent, self._pieces)

    def _pieces(self, latent: Tensor) -> Tensor:
        break_at = wide(latent)[..., :-1] - _equal_share(latent)
        taken, left = nn.functional.logsigmoid(break_at), nn.functional.logsigmoid(-break_at).cumsum(-1)
        nothing = torch.zeros_like(wide(latent)[..., :1])
        logarithms = torch.cat([taken, nothing], -1) + torch.cat([nothing, left], -1)
        # The logarithms of a vector that sums to 1 are its own logits: softmax mends what rounding did to the sum.
        return (self.total * torch.softmax(logarithms, -1)).to(latent.dtype)

    def right_inverse(self, x: Tensor) -> Tensor:
        """``log p_k − log(p_{k+1} + …) + log(n − k)``; entries below a hundredth of the mean are moved there."""
        return along(self.dim, x, self._breaks)

    def _breaks(self, x: Tensor) -> Tensor:
        pieces = (wide(x) / self.total).clamp_min(1e-2 / max(x.shape[-1], 1))
        left = pieces.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        breaks = torch.log(pieces[..., :-1]) - torch.log(left) + _equal_share(x)
        return torch.cat([breaks, torch.zeros_like(pieces[..., :1])], -1).to(x.dtype)

    def relative_slope(self, latent: Tensor) -> Tensor:
        """``σ (1 − σ)`` of each break relative to that of the uniform vector; 1 for the idle coordinate."""
        return along(self.dim, latent.detach(), self._slopes)

    def _slopes(self, latent: Tensor) -> Tensor:
        share = _equal_share(latent)
        taken = torch.sigmoid(latent[..., :-1] - share)
        slope = taken * (1 - taken) / (torch.sigmoid(share) * torch.sigmoid(-share))
        return torch.cat([slope, torch.ones_like(latent[..., :1])], -1)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Bring breaks back that take nearly nothing or nearly everything."""
        latent.copy_(
            torch.where(wanted, along(self.dim, latent, lambda rows: self._lifted(rows, slope)), latent)
        )

    def _lifted(self, latent: Tensor, slope: float) -> Tensor:
        share = _equal_share(latent)
        # σ(z)(1 − σ(z)) = 1 / (2 + 2 cosh z)
        furthest = torch.acosh(((1 + torch.cosh(share)) / slope - 1).clamp_min(1))
        breaks = torch.maximum(torch.minimum(latent[..., :-1], share + furthest), share - furthest)
        return torch.cat([breaks, latent[..., -1:]], -1)


def _equal_share(rows: Tensor) -> Tensor:
    """``log(n − k)`` for k = 1, …, n − 1: a break at its negative takes an (n − k + 1)-th of what is left."""
    work = wide(rows)
    return torch.arange(rows.shape[-1] - 1, 0, -1, dtype=work.dtype, device=rows.device).log()


class BallChart(Chart):
    """``radius · z / √(radius² + ‖z‖²)`` along ``dim``: the open ball."""

    def __init__(self, radius: float, dim: int | None) -> None:
        super().__init__()
        self.radius = radius
        self.dim = dim

    def forward(self, latent: Tensor) -> Tensor:
        """The vectors at these coordinates."""
        norm = precise_norm(latent, self.dim, keepdim=True)
        factor = self.radius / torch.hypot(norm, torch.full_like(norm, self.radius))
        return (wide(latent) * factor.to(wide(latent).dtype)).to(latent.dtype)

    def right_inverse(self, x: Tensor) -> Tensor:
        """``x / √(1 − ‖x‖²/radius²)``; vectors at the boundary move inside by a hundredth."""
        share = precise_norm(x, self.dim, keepdim=True) / self.radius
        inside = share.clamp_max(0.99)
        shortening = torch.where(share > inside, inside / share, torch.ones_like(share))
        factor = shortening / torch.sqrt((1 - inside) * (1 + inside))
        return (wide(x) * factor.to(wide(x).dtype)).to(x.dtype)

    def relative_slope(self, latent: Tensor) -> Tensor:
        """The radial slope ``(1 + ‖z‖²/radius²)^(−3/2)`` of each vector."""
        length = precise_norm(latent.detach(), self.dim, keepdim=True) / self.radius
        return ((1 + length.square()) ** -1.5).to(latent.dtype).expand_as(latent)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Shorten vectors that lie too far out."""
        longest = self.radius * (slope ** (-2 / 3) - 1) ** 0.5
        norm = precise_norm(latent, self.dim, keepdim=True)
        factor = torch.where(norm > longest, longest / norm, torch.ones_like(norm))
        latent.copy_(torch.where(wanted, latent * factor, latent))


class SumChart(Chart):
    """``z − mean(z) + total/n`` along ``dim``: all vectors with the given sum."""

    def __init__(self, total: float, dim: int | None) -> None:
        super().__init__()
        self.total = total
        self.dim = dim

    def forward(self, latent: Tensor) -> Tensor:
        """The vectors with the mean put right."""
        return along(self.dim, latent, lambda rows: shift_to_sum(wide(rows), self.total).to(rows.dtype))

    def right_inverse(self, x: Tensor) -> Tensor:
        """The members are their own coordinates."""
        return x

    def relative_slope(self, latent: Tensor) -> Tensor:
        """1: the map is affine and never saturates."""
        return torch.ones_like(latent)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Nothing to lift."""


class WhereChart(Chart):
    """A chart on the entries that ``mask`` picks; the others are their own coordinates."""

    mask: Tensor

    def __init__(self, inner: Chart, mask: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, latent: Tensor) -> Tensor:
        """The inner chart where the mask says so."""
        # Free coordinates may lie where the inner chart overflows: it sees 0 in their place.
        return torch.where(self.mask, self.inner(latent.where(self.mask, torch.zeros_like(latent))), latent)

    def right_inverse(self, x: Tensor) -> Tensor:
        """The inner coordinates where the mask says so; free entries may lie outside the inner set."""
        inverse = self.inner.right_inverse(self.inner(torch.zeros_like(x)).where(~self.mask, x))
        return torch.where(self.mask, inverse, x)

    def relative_slope(self, latent: Tensor) -> Tensor:
        """1 for the free entries."""
        slope = self.inner.relative_slope(latent)
        return torch.where(self.mask, slope, torch.ones_like(slope))

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Only the masked entries can be flat."""
        self.inner.floor_(latent, wanted & self.mask, slope)


class BlockChart(Chart):
    """A chart of a block of the tensor; the other entries are their own coordinates."""

    def __init__(self, inner: Chart, axes: Axes) -> None:
        super().__init__()
        self.inner = inner
        self.axes = axes

    def forward(self, latent: Tensor) -> Tensor:
        """The inner chart on the block."""
        return put(latent, self.axes, self.inner(take(latent, self.axes)))

    def right_inverse(self, x: Tensor) -> Tensor:
        """The inner coordinates of the block."""
        return put(x, self.axes, self.inner.right_inverse(take(x, self.axes)))

    def relative_slope(self, latent: Tensor) -> Tensor:
        """1 for the free entries."""
        slope = self.inner.relative_slope(take(latent, self.axes))
        return put(torch.ones_like(latent), self.axes, slope)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Only the block can be flat."""
        lifted = take(latent, self.axes).clone()
        self.inner.floor_(lifted, take(wanted, self.axes), slope)
        latent.copy_(put(latent, self.axes, lifted))


class FlattenChart(Chart):
    """A chart of ``x.flatten(start_dim)``."""

    def __init__(self, inner: Chart, start_dim: int) -> None:
        super().__init__()
        self.inner = inner
        self.start_dim = start_dim

    def forward(self, latent: Tensor) -> Tensor:
        """The inner chart on the flattened view."""
        return self.inner(latent.flatten(self.start_dim)).reshape(latent.shape)  # type: ignore[no-any-return]

    def right_inverse(self, x: Tensor) -> Tensor:
        """The inner coordinates on the flattened view."""
        return self.inner.right_inverse(x.flatten(self.start_dim)).reshape(x.shape)

    def relative_slope(self, latent: Tensor) -> Tensor:
        """The inner slope."""
        return self.inner.relative_slope(latent.flatten(self.start_dim)).reshape(latent.shape)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """The inner lift on a view; a non-contiguous tensor is written back."""
        flat = latent.flatten(self.start_dim)
        self.inner.floor_(flat, wanted.flatten(self.start_dim), slope)
        latent.copy_(flat.reshape(latent.shape))
