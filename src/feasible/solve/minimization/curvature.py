"""Inverse Hessian approximations of a Lagrangian: a dense matrix for few unknowns, pairs for many."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from feasible.solve.minimization.unknowns import Vector

Matrix = NDArray[np.float64]
DAMPING = 0.2
"""Least share of the old curvature along a step that an update keeps (Powell)."""
SMALLEST = 1e-280
"""Curvature below this is lost in the arithmetic."""
DENSE = 100
"""Up to this many unknowns the dense matrix is kept."""


class Curvature(Protocol):
    """An approximation H of the inverse Hessian.

    Rows are multiplied by it in two steps: a *sketch* of them, which is linear in the rows, and what follows from it.
    """

    def sketch(self, rows: Matrix) -> Matrix:
        """What has to be known of rows (or of one vector)."""

    def times(self, rows: Matrix, sketch: Matrix) -> Matrix:
        """``V H``."""

    def inner(self, first: Matrix, its_sketch: Matrix, second: Matrix, other_sketch: Matrix) -> Matrix:
        """``V H Wᵀ``."""

    def update(self, step: Vector, change: Vector, image: Vector) -> None:
        """Learn that the gradient changed by ``change`` along ``step``, where it was expected to by ``image``."""

    def reset(self, scale: float) -> None:
        """Start over with ``scale`` times the unit matrix."""


def curvature(count: int, memory: int, dtype: type[np.floating[Any]] = np.float64) -> Curvature:
    """The kind that suits this many unknowns."""
    return Dense(count) if count <= DENSE else Limited(count, memory, dtype)


def combined(weights: Matrix, rows: Matrix) -> Matrix:
    """``w V`` in the dtype of the rows, of which there is no copy."""
    product: Matrix = weights.astype(rows.dtype, copy=False) @ rows
    return product


def damped(step: Vector, change: Vector, image: Vector) -> Vector | None:
    """The change of the gradient, mixed with the expected one until the curvature is positive; ``None``: no step.

    Source: Powell, *A fast algorithm for nonlinearly constrained optimization calculations* (1978).
    """
    expected, curved = float(step @ image), float(step @ change)
    if not expected > SMALLEST:
        return None
    if curved < DAMPING * expected:
        share = (1 - DAMPING) * expected / (expected - curved)
        change = share * change + (1 - share) * image
    return change


class Dense:
    """The BFGS matrix itself: n² numbers."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.reset(1.0)

    def reset(self, scale: float) -> None:
        """Start over with ``scale`` times the unit matrix."""
        self.matrix = scale * np.eye(self.count)
        self.is_fresh = True

    def sketch(self, rows: Matrix) -> Matrix:
        """``V H`` itself."""
        product: Matrix = rows @ self.matrix
        return product

    def times(self, rows: Matrix, sketch: Matrix) -> Matrix:
        """``V H``."""
        return sketch

    def inner(self, first: Matrix, its_sketch: Matrix, second: Matrix, other_sketch: Matrix) -> Matrix:
        """``V H Wᵀ``."""
        product: Matrix = its_sketch @ second.T
        return product

    def update(self, step: Vector, change: Vector, image: Vector) -> None:
        """``H ← (1 − ρsyᵀ) H (1 − ρysᵀ) + ρssᵀ``; a fresh matrix takes the scale of the step first."""
        curved = damped(step, change, image)
        if curved is None:
            return
        rate = float(step @ curved)
        if self.is_fresh:
            self.matrix *= rate / float(curved @ curved) / self.matrix[0, 0]
            self.is_fresh = False
        moved = self.matrix @ curved
        weight = (rate + float(curved @ moved)) / rate**2
        cross = np.outer(moved / rate, step)
        self.matrix += weight * np.outer(step, step)
        self.matrix -= cross
        self.matrix -= cross.T


class Limited:
    """The last pairs of steps and changes of the gradient: memory linear in n.

    ``H = γ + [S Y] M [S Y]ᵀ`` with a small matrix M (Byrd, Nocedal & Schnabel, *Representations of quasi-Newton
    matrices*, 1994). Products of the pairs are kept, so that an update passes over them once.
    """

    def __init__(self, count: int, memory: int, dtype: type[np.floating[Any]] = np.float64) -> None:
        self.count, self.memory = count, memory
        self.pairs = np.empty((2 * memory, count), dtype)
        """Steps in the even rows, changes in the odd ones."""
        self.reset(1.0)

    def reset(self, scale: float) -> None:
        """Forget all pairs."""
        self.scale = scale
        self.order: list[int] = []
        """Where the pairs are kept, from the oldest to the newest."""
        self.gram = np.zeros((2 * self.memory, 2 * self.memory))
        self.middle = np.empty((0, 0))

    def sketch(self, rows: Matrix) -> Matrix:
        """Products with the pairs."""
        product: Matrix = rows @ self.pairs[: 2 * len(self.order)].T
        return product.astype(np.float64, copy=False)

    def times(self, rows: Matrix, sketch: Matrix) -> Matrix:
        """``V H``."""
        result = combined(sketch @ self.middle, self.pairs[: 2 * len(self.order)])
        result += self.scale * rows
        return result

    def inner(self, first: Matrix, its_sketch: Matrix, second: Matrix, other_sketch: Matrix) -> Matrix:
        """``V H Wᵀ``."""
        product: Matrix = self.scale * (first @ second.T) + its_sketch @ self.middle @ other_sketch.T
        return product

    def update(self, step: Vector, change: Vector, image: Vector) -> None:
        """Keep the pair, in the place of the oldest where there are too many."""
        curved = damped(step, change, image)
        if curved is None:
            return
        slot = self.order.pop(0) if len(self.order) == self.memory else len(self.order)
        self.order.append(slot)
        here = slice(2 * slot, 2 * slot + 2)
        self.pairs[here] = step, curved
        end = 2 * len(self.order)
        products = np.stack([self.pairs[:end] @ vector for vector in self.pairs[here]], 1)
        self.gram[:end, here], self.gram[here, :end] = products, products.T
        self.scale = float(self.gram[2 * slot, 2 * slot + 1] / self.gram[2 * slot + 1, 2 * slot + 1])
        self._factor()

    def _factor(self) -> None:
        """The middle matrix, in the order in which the pairs are kept."""
        steps = 2 * np.array(self.order)
        changes = steps + 1
        crossed = self.gram[np.ix_(steps, changes)]
        inverse = np.linalg.inv(np.triu(crossed))
        inner = np.diag(np.diagonal(crossed)) + self.scale * self.gram[np.ix_(changes, changes)]
        self.middle = np.zeros((2 * len(steps), 2 * len(steps)))
        self.middle[np.ix_(steps, steps)] = inverse.T @ inner @ inverse
        self.middle[np.ix_(steps, changes)] = -self.scale * inverse.T
        self.middle[np.ix_(changes, steps)] = -self.scale * inverse
