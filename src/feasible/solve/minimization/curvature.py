"""Inverse Hessian approximations of a Lagrangian: a dense matrix for few unknowns, pairs for many."""

from __future__ import annotations

from typing import Protocol

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
    """What directions are computed with: products with an approximation H of the inverse Hessian."""

    def times(self, columns: Matrix) -> Matrix:
        """``H V`` for a matrix of columns, or for one vector."""

    def unit_columns(self, indices: NDArray[np.intp]) -> Matrix:
        """``H e_j`` for these entries j."""

    def update(self, step: Vector, change: Vector, image: Vector) -> None:
        """Learn that the gradient changed by ``change`` along ``step``, where it was expected to by ``image``."""

    def reset(self, scale: float) -> None:
        """Start over with ``scale`` times the unit matrix."""


def curvature(count: int, memory: int) -> Curvature:
    """The kind that suits this many unknowns."""
    return Dense(count) if count <= DENSE else Limited(count, memory)


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

    def times(self, columns: Matrix) -> Matrix:
        """``H V``."""
        product: Matrix = self.matrix @ columns
        return product

    def unit_columns(self, indices: NDArray[np.intp]) -> Matrix:
        """Columns of H."""
        columns: Matrix = self.matrix[:, indices]
        return columns

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
    """The last pairs of steps and changes of the gradient: memory linear in n."""

    def __init__(self, count: int, memory: int) -> None:
        self.count, self.memory = count, memory
        self.reset(1.0)

    def reset(self, scale: float) -> None:
        """Forget all pairs."""
        self.scale = scale
        self.steps = np.empty((0, self.count))
        self.changes = np.empty((0, self.count))
        self._factor()

    def _factor(self) -> None:
        """The middle matrix of the compact form ``H = γ + [S γY] M [S γY]ᵀ`` (Byrd, Nocedal & Schnabel 1994)."""
        k = len(self.steps)
        if not k:
            self.middle = np.empty((0, 0))
            return
        products = self.steps @ self.changes.T
        inverse = np.linalg.inv(np.triu(products))
        inner = np.diag(np.diag(products)) + self.scale * self.changes @ self.changes.T
        self.middle = np.block([[inverse.T @ inner @ inverse, -inverse.T], [-inverse, np.zeros((k, k))]])

    def times(self, columns: Matrix) -> Matrix:
        """``H V``."""
        k = len(self.steps)
        result: Matrix = self.scale * columns
        if k:
            inner = np.concatenate([self.steps @ columns, self.scale * (self.changes @ columns)])
            weights = self.middle @ inner
            result = result + self.steps.T @ weights[:k] + self.scale * (self.changes.T @ weights[k:])
        return result

    def unit_columns(self, indices: NDArray[np.intp]) -> Matrix:
        """Columns of H."""
        k = len(self.steps)
        result = np.zeros((self.count, len(indices)))
        result[indices, np.arange(len(indices))] = self.scale
        if k:
            inner = np.concatenate([self.steps[:, indices], self.scale * self.changes[:, indices]])
            weights = self.middle @ inner
            result += self.steps.T @ weights[:k] + self.scale * (self.changes.T @ weights[k:])
        return result

    def update(self, step: Vector, change: Vector, image: Vector) -> None:
        """Keep the pair; the oldest goes where there are too many."""
        curved = damped(step, change, image)
        if curved is None:
            return
        kept = slice(1 if len(self.steps) >= self.memory else 0, None)
        self.steps = np.concatenate([self.steps[kept], step[None]])
        self.changes = np.concatenate([self.changes[kept], curved[None]])
        self.scale = float(step @ curved) / float(curved @ curved)
        self._factor()
