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

from feasible.solve.minimization.curvature import Curvature, Matrix
from feasible.solve.minimization.unknowns import Vector

SLACK = 1e-11
"""Relative violation of a row that does not count."""
RIDGE = 1e-13
"""Relative weight that keeps dependent rows apart; it moves the solution by as little."""
MANY = 20
"""More violated rows than this are taken in together."""


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
        self.free_move = -inverse.times(gradient)
        self.slot = np.full(total, -1)
        self.columns = np.empty((len(gradient), 0))
        self.gram = np.empty((0, 0))
        self.known = np.empty(0, dtype=np.intp)

    # -- rows in use -------------------------------------------------------------------------------

    def _take(self, rows: NDArray[np.intp]) -> None:
        """Multiply these rows by H, unless that has been done."""
        rows = rows[self.slot[rows] < 0]
        if not len(rows):
            return
        general, bounds = rows[rows < self.count], rows[rows >= self.count]
        rows = np.concatenate([general, bounds])
        parts = []
        if len(general):
            parts.append(self.inverse.times(self.jacobian[general].T))
        if len(bounds):
            parts.append(self.inverse.unit_columns(self.bounded[bounds - self.count]))
        self.slot[rows] = len(self.known) + np.arange(len(rows))
        self.known = np.concatenate([self.known, rows])
        self.columns = np.concatenate([self.columns, *parts], axis=1)
        fresh = self._heights(self.known, self.columns[:, -len(rows) :])
        old = len(self.gram)
        gram = np.empty((len(self.known), len(self.known)))
        gram[:old, :old] = self.gram
        gram[:, old:] = fresh
        gram[old:, :] = fresh.T
        self.gram = gram

    def _heights(self, rows: NDArray[np.intp], moves: Matrix) -> Matrix:
        """``a_iᵀ`` of the moves, for these rows."""
        general = rows < self.count
        if general.all():
            product: Matrix = self.jacobian[rows] @ moves
            return product
        result = np.empty((len(rows), *moves.shape[1:]))
        result[general] = self.jacobian[rows[general]] @ moves
        result[~general] = moves[self.bounded[rows[~general] - self.count]]
        return result

    def _all_heights(self, move: Vector) -> Vector:
        general = self.jacobian @ move
        return np.concatenate([general, move[self.bounded]]) if len(self.bounded) else general

    # -- solving -----------------------------------------------------------------------------------

    def solve(self, low: Vector, high: Vector, side: NDArray[np.int8]) -> Step:
        """The solution for ``low ≤ [J d, d at the bounds] ≤ high``.

        ``side`` says where each row was active before (−1, 0, 1) and is changed to where it is now.
        """
        search = _Search(self, low, high, side)
        search.run()
        active, multipliers = search.rows, search.multipliers
        move = (
            self.free_move - self.columns[:, self.slot[active]] @ multipliers
            if len(active)
            else self.free_move
        )
        everything = np.zeros(len(self.limits))
        everything[active] = multipliers
        side[:] = 0
        side[active] = np.where(multipliers != 0, np.sign(multipliers), search.sides)
        pull = np.zeros(len(self.gradient))
        pull[self.bounded] = everything[self.count :]
        general = everything[: self.count]
        image = -(self.gradient + self.jacobian.T @ general + pull)
        return Step(move, general, pull, image, bool(search.capped.any()))


class _Search:
    """Primal active-set search on the dual; the working set is grown row by row."""

    def __init__(self, program: Quadratic, low: Vector, high: Vector, side: NDArray[np.int8]) -> None:
        self.program, self.low, self.high = program, low, high
        self.equal = low == high
        rows = np.flatnonzero((side != 0) | self.equal)
        program._take(rows)
        self.rows = rows
        self.sides = side[rows].astype(np.float64)
        self.multipliers = np.zeros(len(rows))
        self.capped = np.zeros(len(rows), dtype=bool)

    def run(self) -> None:
        """Settle on the working set, then look for rows that it violates, until there are none."""
        total = len(self.low)
        for _ in range(5 * total + 50):
            self._settle()
            violated = self._violated()
            if not len(violated):
                return
            self._add(violated)

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
        rows = self.rows[free]
        right = self.program._heights(rows, self.program.free_move) - self._bounds(free)
        if self.capped.any():
            held = np.flatnonzero(self.capped)
            right = right - self.program.gram[np.ix_(chosen, slots[held])] @ self.multipliers[held]
        diagonal = np.diagonal(gram)
        floor = max(float(diagonal.max()), np.finfo(float).tiny) * 1e-16
        scale = 1 / np.sqrt(np.maximum(diagonal, floor))
        scaled = gram * scale * scale[:, None]
        scaled[np.diag_indices(len(free))] += RIDGE
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
        program = self.program
        move = program.free_move
        if len(self.rows):
            move = move - program.columns[:, program.slot[self.rows]] @ self.multipliers
        heights = program._all_heights(move)
        if self.capped.any():
            self._release(heights)
        excess = np.maximum(heights - self.high, self.low - heights)
        excess[self.rows] = -np.inf
        size = np.maximum(np.abs(heights), 1.0)
        outside = np.flatnonzero(excess > SLACK * size)
        if len(outside):
            self.heights = heights
            outside = outside[np.argsort(-excess[outside])]
            return outside if len(outside) > MANY else outside[:1]
        return self.rows[:0] if not self.released else self.rows[self.released]

    released: list[int] = []

    def _release(self, heights: Vector) -> None:
        """Free multipliers at ±ρ whose rows have come to hold."""
        self.released = []
        for at in np.flatnonzero(self.capped).tolist():
            row = self.rows[at]
            beyond = (
                heights[row] - self.high[row] if self.multipliers[at] > 0 else self.low[row] - heights[row]
            )
            if beyond < -SLACK * max(abs(heights[row]), 1.0):
                self.released.append(at)
        if self.released:
            self.capped[self.released[0]] = False
            self.released = self.released[:1]

    def _add(self, rows: NDArray[np.intp]) -> None:
        rows = rows[~np.isin(rows, self.rows)]
        if not len(rows):
            return
        self.program._take(rows)
        self.rows = np.concatenate([self.rows, rows])
        self.sides = np.concatenate([self.sides, np.where(self.heights[rows] > self.high[rows], 1.0, -1.0)])
        self.multipliers = np.concatenate([self.multipliers, np.zeros(len(rows))])
        self.capped = np.concatenate([self.capped, np.zeros(len(rows), dtype=bool)])
