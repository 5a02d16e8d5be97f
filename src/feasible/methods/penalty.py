"""Penalties: the distance to the set, weighted, is added to the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from torch import Tensor

from feasible.methods.method import Method, Pull, State
from feasible.schedules import Schedule, check_weight, value_at
from feasible.sets import Set

__all__ = ["Penalty"]

Kind = Literal["squared", "exact", "product", "textbook-product"]


@final
@dataclass(frozen=True)
class Penalty(Method):
    """The loss gains ``weight`` times a distance to the set, summed over its units (entries, vectors, matrices).

    - ``"squared"``: ``½ ‖v − P v‖²``, smooth; it leaves a violation that shrinks like 1/weight.
    - ``"exact"``: ``‖v − P v‖``; no violation beyond a finite weight (larger than the multiplier), and not smooth at
      the boundary.
    - ``"product"``, for sets with a list of members c: ``d² · exp(mean log dᵢ²)``, with d the distance to the nearest
      member and dᵢ those to the others. 0 at members only; unlike the squared one it is flat half way between them,
      so that a weight still changes sides, and every member counts the same, however many there are.
    - ``"textbook-product"``, for comparison: ``Π dᵢ²`` over all members; with many of them it overflows or vanishes.

    A product of distances has no unit of its own: beside {−1, 0, 1} the penalty of {−0.05, 0, 0.05} is 20⁴ times
    smaller. ``unit="auto"`` measures distances in a typical distance between members, so that one weight serves both.

    Args:
        weight: a positive number, or a schedule (a growing weight forces the constraint in the end).
        kind: which of these distances.
        unit: of the distances in products: a length, or ``"auto"``.

    Raises:
        ValueError: the weight or the unit is not positive, or the kind is unknown.
        UnsupportedError: a product over a set without a list of members, or over permutations of more than 8 rows.

    >>> import torch, feasible as fs
    >>> w = torch.tensor([-2.0], requires_grad=True)
    >>> problem = fs.Problem([w])
    >>> _ = problem.constrain("0", fs.NonNegative(), by=fs.Penalty(3.0))
    >>> problem.loss(torch.tensor(0.0))
    tensor(6., grad_fn=<...>)

    Source: Nocedal & Wright, *Numerical Optimization*, chapter 17.
    """

    weight: float | Schedule
    kind: Kind = "squared"
    unit: float | Literal["auto"] = 1.0

    def __post_init__(self) -> None:
        check_weight("Penalty", "weight", self.weight, from_zero=True)
        if self.kind not in get_args(Kind):
            known = ", ".join(f'"{kind}"' for kind in get_args(Kind)[:-1])
            raise ValueError(f'Penalty: kind must be {known} or "{get_args(Kind)[-1]}", got {self.kind!r}.')
        is_length = isinstance(self.unit, (int, float)) and math.isfinite(self.unit) and self.unit > 0
        if not is_length and self.unit != "auto":
            raise ValueError(f'Penalty: unit must be a positive, finite length or "auto", got {self.unit!r}.')
        if self.unit != 1.0 and not self._is_product:
            raise ValueError(
                f'Penalty: unit={self.unit!r} belongs to the products of distances, got kind="{self.kind}".'
            )

    @property
    def _is_product(self) -> bool:
        return self.kind in ("product", "textbook-product")

    def objection(self, set: Set) -> str | None:
        """A product needs members."""
        if self._is_product and not set.offers("rivals"):
            return f"a product of distances needs a list of members, which {set!r} does not have"
        return super().objection(set)

    def bind(self, value: Tensor, set: Set) -> State:
        """The unit of distances in a product."""
        if not self._is_product:
            return {}
        logs = set.rivals(value).logs  # whether there is a list for this shape
        unit = set.spacing(value.shape) if self.unit == "auto" else self.unit
        return {"length": torch.full((), unit, dtype=logs.dtype, device=logs.device)}

    def pull(self, mean: Tensor, set: Set, state: State, step: int) -> Pull:
        """The weighted distance and its gradient, which points away from the nearest member."""
        weight = value_at(self.weight, step)
        if self._is_product:
            return self._product(mean, set, weight, state["length"])
        residual = set.residual(mean)
        if self.kind == "squared":
            gradient = residual * weight
            return Pull((residual * gradient).sum() / 2, gradient)
        norm = set.norm(residual)
        length = set.spread(torch.where(norm == 0, torch.ones_like(norm), norm), residual)
        return Pull(norm.sum() * weight, residual * (weight / length))

    def _product(self, x: Tensor, set: Set, weight: float, unit: Tensor) -> Pull:
        residual, count, logs, slopes = set.rivals(x)
        share = 1.0 if self.kind == "textbook-product" else 1.0 / max(count, 1)
        squares = set.norm(residual).square()
        unit = unit.to(squares.dtype)
        factor = torch.exp(share * (logs - 2 * count * unit.log())) * (weight / unit.square())
        # At a member the product is 0, however far the others are.
        factor = torch.where(squares == 0, weight, factor)
        slope = 2 * residual + share * set.spread(squares, x) * slopes
        return Pull((squares * factor).sum().to(x.dtype), (set.spread(factor, x) * slope).to(x.dtype))
