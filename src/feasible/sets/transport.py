"""Doubly stochastic matrices and their corners, the permutations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.sets.balance import balanced, balanced_displacement, nearest_doubly_stochastic
from feasible.sets.matrices import SquareMatrices, on_finite
from feasible.sets.nearest import NearestPoint, nearest_point
from feasible.sets.precision import roundoff, uniform, wide, widest
from feasible.sets.relaxations import PermutationRelaxation
from feasible.sets.rivals import Rivals, permutation_table, rivals_of_permutations, spacing
from feasible.sets.tuples import tuples

__all__ = ["DoublyStochastic", "Permutation"]

_LISTED = 8
"""Larger matrices have too many permutations to compare with all of them."""


@final
@dataclass(frozen=True, eq=False, repr=False)
class DoublyStochastic(SquareMatrices, NearestPoint):
    """Non-negative square matrices whose rows and columns all sum to 1: soft permutations.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` subject to ``p ≥ 0``, ``p 1 = 1`` and ``pᵀ 1 = 1``:
    ``max(x + u + v, 0)`` with one number u a row and one v a column that make the sums right.

    >>> DoublyStochastic().project(torch.tensor([[3.0, 0.0], [0.0, 0.0]]))
    tensor([[1., 0.],
            [0., 1.]])

    Source: Li, Sun & Toh, *On the efficient computation of a generalized Jacobian of the projector over the
    Birkhoff polytope*, Math. Program. 179 (2020).
    """

    def project(self, x: Tensor) -> Tensor:
        """``max(x + u + v, 0)``, worked out in float64; differentiable where no entry is just reaching 0."""
        return nearest_point(x, self)

    def solve(self, x: Tensor) -> tuple[Tensor, ...]:
        """The projection, and where it is positive."""
        return on_finite(x, lambda safe: self._balance(safe, x))

    def _balance(self, safe: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        member = self.is_member(x)[..., None, None]
        start = torch.where(member, torch.zeros_like(safe), safe)  # members have nothing to wait for
        point = torch.where(member, x, nearest_doubly_stochastic(widest(start)).to(x.dtype))
        return point, point > 0

    def derivative(self, displacement: Tensor, *factors: Tensor) -> Tensor:
        """Onto the matrices with row and column sums 0 that vanish where the projection does."""
        return balanced_displacement(widest(displacement), factors[0]).to(displacement.dtype)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether all entries are non-negative and all sums 1, up to rounding."""
        work = wide(x.detach())
        excess = torch.maximum((work.sum(-1) - 1).abs(), (work.sum(-2) - 1).abs())
        allowed = roundoff(x.dtype) * math.sqrt(max(x.shape[-1], 1))
        return (excess <= allowed).all(-1) & (x >= 0).all(-1).all(-1)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """The nearest members to exponential variables with the right mean: most entries positive."""
        self.check_shape(torch.Size(shape))
        return self.project(-torch.log1p(-uniform(shape, generator)) / max(shape[-1], 1))

    def support(self, y: Tensor) -> Tensor:
        """The value of the best assignment: ``max ⟨y, p⟩`` over permutations p."""
        return best_value(y, self.lmo(-y))

    def lmo(self, gradient: Tensor) -> Tensor:
        """The permutation that collects the smallest sum of gradients."""
        return Permutation().lmo(gradient)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """Nearest direction with row and column sums 0 that is ≥ 0 where x is 0."""
        return on_finite(direction, lambda safe: (self._turn(x, safe).to(direction.dtype),))[0]

    def _turn(self, x: Tensor, direction: Tensor) -> Tensor:
        if x.numel() == 0:
            return direction
        size = widest(direction).abs().amax((-2, -1), keepdim=True)
        size = torch.where(size > 0, size, 1.0)
        found = balanced(widest(direction) / size, x > 0, 0.0)
        return torch.where(x > 0, found, found.clamp_min(0)) * size


@final
@dataclass(frozen=True, eq=False, repr=False)
class Permutation(SquareMatrices, NearestPoint):
    """Square matrices of zeros with a single 1 in each row and column.

    ``project(x)`` is ``argmin_p ½‖p − x‖²`` over permutation matrices p, which is ``argmax ⟨x, p⟩``: a linear
    assignment. Of several best ones it takes, always, the one that the solver finds first.

    >>> Permutation().project(torch.tensor([[0.1, 0.9], [0.8, 0.7]]))
    tensor([[0., 1.],
            [1., 0.]])

    Source: Crouse, *On implementing 2D rectangular assignment algorithms* (2016), as found in scipy.
    """

    convex = False
    discrete = True
    exact = True
    default_method = "StraightThrough"

    def project(self, x: Tensor) -> Tensor:
        """The best assignment; infinite entries are taken or shunned wherever that is possible."""
        return nearest_point(x, self)

    def solve(self, x: Tensor) -> tuple[Tensor, ...]:
        """The projection."""
        nan = x.isnan().any(-1).any(-1)[..., None, None]
        point = torch.where(self.is_member(x)[..., None, None], x, best_assignment(x))
        return (torch.where(nan, math.nan, point),)

    def derivative(self, displacement: Tensor, *factors: Tensor) -> Tensor:
        """0: the nearest permutation changes in jumps."""
        return torch.zeros_like(displacement)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each matrix has a single 1 in each row and column, and zeros elsewhere."""
        one = x == 1
        binary = (one | (x == 0)).all(-1).all(-1)
        return binary & (one.sum(-1) == 1).all(-1) & (one.sum(-2) == 1).all(-1)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Uniform: the order of uniform numbers."""
        self.check_shape(torch.Size(shape))
        order = uniform(shape[:-1], generator).argsort(-1)
        return torch.eye(shape[-1], device=order.device)[order]

    def support(self, y: Tensor) -> Tensor:
        """The value of the best assignment."""
        return best_value(y, self.project(y))

    def lmo(self, gradient: Tensor) -> Tensor:
        """The permutation that collects the smallest sum of gradients."""
        return self.project(-gradient)

    def relaxation(self) -> PermutationRelaxation:
        """Sinkhorn's doubly stochastic matrix, in the end the exact assignment."""
        return PermutationRelaxation(self)

    def rivals(self, x: Tensor) -> Rivals:
        """Among all permutation matrices, of up to 8 rows.

        Raises:
            UnsupportedError: the matrices are larger.
        """
        self._check_listed(x.shape)
        return rivals_of_permutations(x, self.project(x))

    def spacing(self, shape: Sequence[int]) -> float:
        """As for any list of members; all of them have the same distances to the others."""
        self._check_listed(shape)
        table = permutation_table(shape[-1])
        return spacing([(table - table[0]).norm(dim=-1)])

    def _check_listed(self, shape: Sequence[int]) -> None:
        if shape[-1] > _LISTED:
            count = f"{math.factorial(shape[-1]):,}" if shape[-1] <= 20 else f"{shape[-1]}!"
            raise self._lacks(
                f"list of members for matrices of {shape[-1]} rows",
                f"there are {count}, and the limit is {_LISTED} rows",
            )

    def members(self, shape: Sequence[int]) -> Iterator[Tensor]:
        """All permutations, in lexicographic order of the columns that the rows choose."""
        self.check_shape(torch.Size(shape))
        eye = torch.eye(shape[-1])
        batch = math.prod(shape[:-2])
        for orders in tuples(lambda: itertools.permutations(range(shape[-1])), batch):
            yield eye[torch.tensor(orders, dtype=torch.long)].reshape(tuple(shape))

    def count(self, shape: Sequence[int]) -> int:
        """The factorial of n for each matrix."""
        self.check_shape(torch.Size(shape))
        return int(math.factorial(shape[-1]) ** math.prod(shape[:-2]))


def best_assignment(scores: Tensor) -> Tensor:
    """For each matrix the permutation matrix p with the largest ``⟨scores, p⟩``; NaN counts as 0."""
    from scipy.optimize import linear_sum_assignment

    if scores.numel() == 0:
        return torch.zeros_like(scores)
    size = scores.shape[-1]
    table = _bounded(widest(scores.detach())).cpu().reshape(-1, size, size).numpy()
    orders = [linear_sum_assignment(matrix, maximize=True)[1].tolist() for matrix in table]
    chosen = torch.eye(size, dtype=scores.dtype)[torch.tensor(orders)]
    return chosen.reshape(scores.shape).to(scores.device)


def best_value(y: Tensor, best: Tensor) -> Tensor:
    """``⟨y, best⟩`` for each matrix; what is not chosen does not count, however large."""
    chosen = torch.where(best == 0, torch.zeros_like(y), y)
    return wide(chosen).sum((-2, -1)).to(y.dtype)


def _bounded(scores: Tensor) -> Tensor:
    """Infinite scores replaced by numbers that no sum of the finite ones outweighs."""
    largest = torch.nan_to_num(scores, 0.0, 0.0, 0.0).abs().amax((-2, -1), keepdim=True)
    limit = 2.0 * scores.shape[-1] * (largest + 1)
    return torch.where(scores.isnan(), 0.0, torch.maximum(torch.minimum(scores, limit), -limit))
