"""Straight-through: the model computes with the nearest member, the gradient passes to the point behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from feasible.methods.method import Method
from feasible.methods.slot import Slot, remember_order
from feasible.sets import Set
from feasible.sets.charts import Chart

__all__ = ["StraightThrough"]


@final
@dataclass(frozen=True)
class StraightThrough(Method):
    """The weight is ``P(z)``, the member nearest to z; z is free, and its gradient is that of the weight.

    The derivative of P is 0 almost everywhere; it is taken to be 1: ``∂L/∂z := ∂L/∂w`` at ``w = P(z)``. So z
    collects gradients until another member is nearer. The weight has a member's bits at every step; it needs
    a module that owns it (bare tensors: ``ProximalAnneal``). For sets that are not convex.

    Raises:
        UnsupportedError: the set is convex, or the problem holds bare tensors.

    >>> import torch, feasible as fs
    >>> layer = torch.nn.Linear(2, 1)
    >>> problem = fs.Problem(layer)
    >>> _ = problem.constrain("weight", fs.FiniteSet([-1, 0, 1]), by=fs.StraightThrough())
    >>> bool(((layer.weight == 0) | (layer.weight.abs() == 1)).all())
    True

    Source: Bengio, Léonard & Courville, *Estimating or propagating gradients through stochastic neurons*
    (2013); Courbariaux, Bengio & David, *BinaryConnect* (2015).
    """

    guarantee = "by construction"
    hard = True
    latent = True
    for_values = False

    def objection(self, set: Set) -> str | None:
        """Convex sets are reached without a heuristic."""
        return objection_to_convex(set)

    def install(self, slot: Slot, set: Set) -> None:
        """The free point in the place of the weight, for all modules that own it."""
        for module, _ in slot.owners:
            remember_order(module)
        slot.install(NearestMember(set, slot.leaf))

    def uninstall(self, slot: Slot, set: Set) -> None:
        """A plain parameter again, with the member's bits."""
        slot.bake()


def objection_to_convex(set: Set) -> str | None:
    """Why methods for members that are apart refuse a convex set."""
    if set.convex:
        return f"{set!r} is convex, and Project or Reparametrize get there without a heuristic"
    return None


class NearestMember(Chart):
    """``P(z)`` with the derivative of z."""

    like: Tensor

    def __init__(self, set: Set, weight: Tensor) -> None:
        super().__init__()
        self.set = set
        self.shape = weight.shape
        self.register_buffer("like", weight.new_empty(()), persistent=False)

    def _apply(self, function: Any, recurse: bool = True) -> NearestMember:
        """The set's tensors go where the module goes."""
        super()._apply(function, recurse)  # type: ignore[no-untyped-call]
        self.set = self.set.cast(self.like.expand(self.shape))
        return self

    def forward(self, latent: Tensor) -> Tensor:
        """The nearest member, bit for bit."""
        # Subtracted twice, so that even the sign of a zero survives; ∞ − ∞ is the NaN that is taken out.
        zero = (latent.detach() - latent).nan_to_num(0.0)
        return self.set.project(latent.detach()) - zero

    def right_inverse(self, x: Tensor) -> Tensor:
        """The point itself."""
        return x

    def relative_slope(self, latent: Tensor) -> Tensor:
        """1: every entry hears its gradient."""
        return torch.ones_like(latent)

    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        """Nothing is ever flat."""
