"""Quadratic programs of SQP, solved in the space of the multipliers: always solvable, warm-started.

    minimise  gᵀd + ½ dᵀB d + ρ Σ (distance of a_iᵀd from [low_i, high_i])

over d, where B is known by its inverse H alone, and bounds on d are kept exactly. Its dual has one multiplier a row
with ``|μ| ≤ ρ``, so that linearisations that contradict each other need no special case: the multipliers of the rows
that cannot hold stop at ±ρ (Fletcher's Sℓ1QP). Only rows that matter are ever multiplied by H.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feasible.solve.minimization.curvature import Curvature, Matrix, combined
from feasible.solve.minimization.unknowns import Vector

SLACK = 5e4
"""Relative violation of a row that does not count, in rounding errors of the rows."""
RIDGE = 500.0
"""Relative weight that keeps dependent rows apart, in the same; it moves the solution by as little."""
TOGETHER = 16
"""Up to this many rows all are multiplied by H at once, with the gradient."""
MANY = 8
"""One in so many of the violated rows is taken in at a time, the worst of them."""


class Step(NamedTuple):
    """Solution of a quadratic program."""

    move: Vector
    """d."""
    multipliers: Vector
    """One for each row: positive at ``high``, negative at ``low``."""
    pull: Vector
    """Those of the bounds, in the shape of d."""
    image: Vector
    """``B d = −(g + Jᵀμ + pull)``."""
    heights: Vector
    """``J d``."""
    is_elastic: bool
    """Whether some rows do not hold."""


class Quadratic:
    """The program at one point; it may be solved again for other right-hand sides.

    Args:
        inverse: H.
        gradient: g.
        jacobian: the rows a_i.
        limit: ρ.
        bounded: which entries of d have bounds.
    """

    def __init__(
        self,
        inverse: Curvature,
        gradient: Vector,
        jacobian: Matrix,
        limit: float,
        bounded: NDArray[np.intp],
    ) -> None:
        self.inverse, self.gradient, self.jacobian = inverse, gradient, jacobian
        self.bounded = bounded
        self.count = len(jacobian)
        total = self.count + len(bounded)
        self.limits = np.full(total, np.inf)
        self.limits[: self.count] = limit
        self.rounding = float(np.finfo(jacobian.dtype).eps)
        self.seen = inverse.sketch(gradient)
        self.slot = np.full(total, -1)
        self.known = np.empty(0, dtype=np.intp)
        if self.count <= TOGETHER:
            self._know(np.arange(self.count), jacobian)
        else:
            self._know(self.known, jacobian[:0])

    # -- rows in use -------------------------------------------------------------------------------

    def _know(self, rows: NDArray[np.intp], matrix: Matrix) -> None:
        """Start with these rows."""
        self.known, self.matrix, self.sketch = rows, matrix, self.inverse.sketch(matrix)
        self.slot[rows] = np.arange(len(rows))
        self.gram = self.inverse.inner(matrix, self.sketch, matrix, self.sketch)
        self.drift = -self._towards(matrix, self.sketch)

    def _towards(self, matrix: Matrix, sketch: Matrix) -> Vector:
        """``a_iᵀ H g``."""
        height: Vector = self.inverse.inner(matrix, sketch, self.gradient, self.seen)
        return height

    def take(self, rows: NDArray[np.intp]) -> None:
        """Work out the products of these rows with H, unless that has been done."""
        rows = rows[self.slot[rows] < 0]
        if not len(rows):
            return
        fresh = np.zeros((len(rows), len(self.gradient)), self.jacobian.dtype)
        general = rows < self.count
        fresh[general] = self.jacobian[rows[general]]
        fresh[np.flatnonzero(~general), self.bounded[rows[~general] - self.count]] = 1.0
        sketch = self.inverse.sketch(fresh)
        old = len(self.known)
        gram = np.empty((old + len(rows), old + len(rows)))
        gram[:old, :old] = self.gram
        gram[old:, :old] = self.inverse.inner(fresh, sketch, self.matrix, self.sketch)
        gram[:old, old:] = gram[old:, :old].T
        gram[old:, old:] = self.inverse.inner(fresh, sketch, fresh, sketch)
        self.gram = gram
        self.drift = np.concatenate([self.drift, -self._towards(fresh, sketch)])
        self.slot[rows] = old + np.arange(len(rows))
        self.known = np.concatenate([self.known, rows])
        self.matrix = np.concatenate([self.matrix, fresh])
        self.sketch = np.concatenate([self.sketch, sketch])

    def pull(self, rows: NDArray[np.intp], multipliers: Vector) -> tuple[Vector, Vector]:
        """``g + Σ μ_i a_i``, and the step ``d`` that it asks for."""
        everything = np.zeros(len(self.known))
        everything[self.slot[rows]] = multipliers
        force: Vector = self.gradient + combined(everything, self.matrix)
        move: Vector = -self.inverse.times(force, self.seen + everything @ self.sketch)
        return force, move

    @property
    def is_all_known(self) -> bool:
        """Whether products with H say all that there is to know of the rows."""
        return len(self.known) == len(self.limits)

    def foreseen(self, rows: NDArray[np.intp], multipliers: Vector) -> Vector:
        """All rows of the step that ``pull`` would give, from their products alone: no pass over the unknowns."""
        everything = np.zeros(len(self.known))
        everything[self.slot[rows]] = multipliers
        heights: Vector = (self.drift - self.gram @ everything)[self.slot]
        return heights

    def heights(self, move: Vector) -> Vector:
        """All rows of the step."""
        general: Vector = self.jacobian @ move
        return np.concatenate([general, move[self.bounded]]) if len(self.bounded) else general

    # -- solving -----------------------------------------------------------------------------------

    def solve(self, low: Vector, high: Vector, side: NDArray[np.int8]) -> Step:
        """The solution for ``low ≤ [J d, d at the bounds] ≤ high``.

        ``side`` says where each row was active before (−1, 0, 1) and is changed to where it is now.
        """
        search = _Search(self, low, high, side)
        search.run()
        active, multipliers = search.rows, search.multipliers
        everything = np.zeros(len(self.limits))
        everything[active] = multipliers
        side[:] = 0
        side[active] = np.where(multipliers != 0, np.sign(multipliers), search.sides)
        pull = np.zeros(len(self.gradient), self.gradient.dtype)
        pull[self.bounded] = everything[self.count :]
        force, move, heights = search.step
        general, is_elastic = heights[: self.count], bool(search.capped.any())
        return Step(move, everything[: self.count], pull, -force, general, is_elastic)


class _Search:
    """Primal active-set search on the dual; the working set is grown row by row."""

    def __init__(self, program: Quadratic, low: Vector, high: Vector, side: NDArray[np.int8]) -> None:
        self.program, self.low, self.high = program, low, high
        self.equal = low == high
        rows = np.flatnonzero((side != 0) | self.equal)
        program.take(rows)
        self.rows = rows
        self.sides = side[rows].astype(np.float64)
        self.multipliers = np.zeros(len(rows))
        self.capped = np.zeros(len(rows), dtype=bool)
        self.released: list[int] = []

    def run(self) -> None:
        """Settle on the working set, then look for rows that it violates, until there are none."""
        total = len(self.low)
        for _ in range(5 * total + 50):
            self._settle()
            violated = self._violated()
            if not len(violated):
                return
            self._add(violated)
        self._move()

    def _settle(self) -> None:
        """Minimise over the multipliers in use; rows whose multiplier would change its sign drop out."""
        for _ in range(5 * len(self.rows) + 10):
            free = np.flatnonzero(~self.capped)
            if not len(free):
                return
            target = self._target(free)
            current = self.multipliers[free]
            shift = target - current
            limit = self.program.limits[self.rows[free]]
            sides = self.sides[free]
            equal = self.equal[self.rows[free]]
            lowest = np.where(equal | (sides < 0), -limit, 0.0)
            highest = np.where(equal | (sides > 0), limit, 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                room = np.where(shift < 0, (lowest - current) / shift, (highest - current) / shift)
            room[shift == 0] = np.inf
            first = int(np.argmin(room))
            if room[first] >= 1.0:
                self.multipliers[free] = target
                return
            self.multipliers[free] = current + max(room[first], 0.0) * shift
            end = lowest[first] if shift[first] < 0 else highest[first]
            at = free[first]
            self.multipliers[at] = end
            if end != 0:
                self.capped[at] = True
            else:
                self._drop(at)

    def _target(self, free: NDArray[np.intp]) -> Vector:
        slots = self.program.slot[self.rows]
        chosen = slots[free]
        gram = self.program.gram[np.ix_(chosen, chosen)]
        right = self.program.drift[chosen] - self._bounds(free)
        if self.capped.any():
            held = np.flatnonzero(self.capped)
            right = right - self.program.gram[np.ix_(chosen, slots[held])] @ self.multipliers[held]
        diagonal = np.diagonal(gram)
        floor = max(float(diagonal.max()) * 1e-16, np.finfo(float).tiny)
        scale = 1 / np.sqrt(np.maximum(diagonal, floor))
        scaled = gram * scale * scale[:, None]
        scaled[np.diag_indices(len(free))] += RIDGE * self.program.rounding
        target: Vector = np.linalg.solve(scaled, right * scale) * scale
        return target

    def _bounds(self, which: NDArray[np.intp]) -> Vector:
        rows = self.rows[which]
        bounds: Vector = np.where(self.sides[which] < 0, self.low[rows], self.high[rows])
        return bounds

    def _drop(self, at: int) -> None:
        self.rows = np.delete(self.rows, at)
        self.sides = np.delete(self.sides, at)
        self.multipliers = np.delete(self.multipliers, at)
        self.capped = np.delete(self.capped, at)

    def _violated(self) -> NDArray[np.intp]:
        """Rows outside the working set that do not hold, worst first; capped ones that hold again are freed."""
        if self.program.is_all_known:
            violated = self._outside(self.program.foreseen(self.rows, self.multipliers))
            if len(violated):
                return violated
        return self._outside(self._move())

    def _move(self) -> Vector:
        """The step for these multipliers; its heights."""
        force, move = self.program.pull(self.rows, self.multipliers)
        self.step = force, move, self.program.heights(move)
        return self.step[2]

    def _outside(self, heights: Vector) -> NDArray[np.intp]:
        if self.capped.any():
            self._release(heights)
        excess = np.maximum(heights - self.high, self.low - heights)
        excess[self.rows] = -np.inf
        size = np.maximum(np.abs(heights), 1.0)
        outside = np.flatnonzero(excess > SLACK * self.program.rounding * size)
        if len(outside):
            self.heights = heights
            outside = outside[np.argsort(-excess[outside])]
            return outside[: max(1, min(len(outside), len(self.program.gradient)) // MANY)]
        return self.rows[:0] if not self.released else self.rows[self.released]

    def _release(self, heights: Vector) -> None:
        """Free multipliers at ±ρ whose rows have come to hold."""
        self.released = []
        for at in np.flatnonzero(self.capped).tolist():
            row = self.rows[at]
            beyond = (
                heights[row] - self.high[row] if self.multipliers[at] > 0 else self.low[row] - heights[row]
            )
            if beyond < -SLACK * self.program.rounding * max(abs(heights[row]), 1.0):
                self.released.append(at)
        if self.released:
            self.capped[self.released[0]] = False
            self.released = self.released[:1]

    def _add(self, rows: NDArray[np.intp]) -> None:
        is_new = np.ones(len(self.low), dtype=bool)
        is_new[self.rows] = False
        rows = rows[is_new[rows]]
        if not len(rows):
            return
        self.program.take(rows)
        self.rows = np.concatenate([self.rows, rows])
        self.sides = np.concatenate([self.sides, np.where(self.heights[rows] > self.high[rows], 1.0, -1.0)])
        self.multipliers = np.concatenate([self.multipliers, np.zeros(len(rows))])
        self.capped = np.concatenate([self.capped, np.zeros(len(rows), dtype=bool)])
