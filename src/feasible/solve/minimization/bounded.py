"""A smooth function under bounds: projected L-BFGS on the free variables."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feasible.solve.minimization.standstill import Standstill
from feasible.solve.minimization.unknowns import Vector

ARMIJO = 1e-4
SHORTEST = 1e-16
PATIENCE = 30
STRETCH, STRETCHES = 4.0, 40
SAME, GENTLER = 100, 0.9
"""Between values that differ by so many rounding errors, a step has to bring the slope down to this share."""


class Spot(NamedTuple):
    """A place with the function's value and gradient."""

    x: Vector
    value: float
    gradient: Vector


class Oracle:
    """A function with its gradient, which is asked for only at points that pass."""

    def __init__(self, value: Callable[[Vector], float], gradient: Callable[[], Vector]) -> None:
        self.value = value
        self.gradient = gradient
        """At the point whose value was asked for last."""


class Pairs:
    """Steps and changes of the gradient, and the L-BFGS direction on some of the variables."""

    def __init__(self, memory: int) -> None:
        self.kept: deque[tuple[Vector, Vector, Vector]] = deque(maxlen=memory)
        self.is_open = True
        """Whether nothing is known about how long a step may be: at the start, and where the function bends down."""

    def clear(self) -> None:
        """Forget everything."""
        self.kept.clear()
        self.is_open = True

    def add(self, step: Vector, change: Vector) -> None:
        """Keep a pair whose curvature is positive."""
        products = step * change
        self.is_open = not products.sum() > 1e-12 * np.linalg.norm(step) * np.linalg.norm(change)
        if not self.is_open:
            self.kept.append((step, change, products))

    def direction(self, gradient: Vector, free: NDArray[np.bool_]) -> Vector:
        """``−H g`` with the matrix of the free variables; the others stay.

        Source: Bertsekas, *Projected Newton methods for optimization problems with simple constraints* (1982).
        """
        everything = bool(free.all())
        mask = free.astype(np.float64)

        def restricted(vector: Vector) -> Vector:
            return vector if everything else vector * mask

        search = restricted(gradient)
        used = []
        for step, change, products in reversed(self.kept):
            curved = float(products.sum() if everything else products @ mask)
            if curved <= 0:
                continue
            weight = float(step @ search) / curved
            search = restricted(search - weight * change)
            used.append((step, change, curved, weight))
        if used:
            _, change, curved, _ = used[0]
            size = float(change @ change) if everything else float((change * change) @ mask)
            search = search * (curved / size)
        for step, change, curved, weight in reversed(used):
            search = restricted(search + (weight - float(change @ search) / curved) * step)
        return -search


def projected_gradient(spot: Spot, lower: Vector, upper: Vector) -> Vector:
    """``P(x − g) − x``, in an order that keeps −g where x is large."""
    gap: Vector = np.clip(-spot.gradient, lower - spot.x, upper - spot.x)
    return gap


def minimize_bounded(
    oracle: Oracle,
    spot: Spot,
    lower: Vector,
    upper: Vector,
    finished: Callable[[Spot, float], bool],
    iterations: int,
    memory: int,
) -> tuple[Spot, bool]:
    """Go down from ``spot``, which obeys the bounds, until ``finished(spot, stationarity)``.

    Returns the last spot, and whether it finished (rather than got stuck, or used up its iterations).
    """
    pairs, standstill = Pairs(memory), Standstill(PATIENCE)
    has_bounds = bool(np.isfinite(lower).any() or np.isfinite(upper).any())
    for _ in range(iterations):
        gap = projected_gradient(spot, lower, upper)
        stationarity = float(np.abs(gap).max())
        if finished(spot, stationarity):
            return spot, True
        if standstill.is_reached:
            return spot, False
        following = _advanced(oracle, pairs, spot, gap, lower, upper, has_bounds)
        if following is None and pairs.kept:
            pairs.clear()
            following = _advanced(oracle, pairs, spot, gap, lower, upper, has_bounds)
        if following is None:
            return spot, False
        pairs.add(following.x - spot.x, following.gradient - spot.gradient)
        standstill.watch(spot.x, following.x, stationarity)
        spot = following
    return spot, False


def _advanced(
    oracle: Oracle, pairs: Pairs, spot: Spot, gap: Vector, lower: Vector, upper: Vector, has_bounds: bool
) -> Spot | None:
    x, gradient = spot.x, spot.gradient
    if has_bounds:
        near = min(1e-8 * max(1.0, float(np.abs(x).max())), float(np.abs(gap).max()))
        held = ((x <= lower + near) & (gradient > 0)) | ((x >= upper - near) & (gradient < 0))
        direction = pairs.direction(gradient, ~held)
        direction[held] = gap[held]
    else:
        direction = pairs.direction(gradient, np.ones(len(x), dtype=bool))
    length = 1.0 if pairs.kept else min(1.0, 1.0 / float(np.linalg.norm(gradient)))
    noise = SAME * np.finfo(float).eps * abs(spot.value)
    while length > SHORTEST:
        trial = np.clip(x + length * direction, lower, upper) if has_bounds else x + length * direction
        value = oracle.value(trial)
        descent = float(gradient @ (trial - x))
        if descent >= 0:
            return None
        if value <= spot.value + ARMIJO * descent:
            if np.array_equal(trial, x):
                return None
            if not pairs.is_open:
                return Spot(trial, value, oracle.gradient())
            return _lengthened(oracle, spot, direction, length, value, lower, upper)
        if value <= spot.value + noise:
            # Values this close say nothing: the slope has to have gone down (Hager & Zhang 2005).
            after = oracle.gradient()
            if abs(float(after @ (trial - x))) <= GENTLER * abs(descent):
                return Spot(trial, value, after)
        length *= _shortened(spot.value, descent, value)
    return None


def _lengthened(
    oracle: Oracle, spot: Spot, direction: Vector, length: float, value: float, lower: Vector, upper: Vector
) -> Spot:
    """The last of longer and longer steps that each go further down."""
    for _ in range(STRETCHES):
        longer = oracle.value(np.clip(spot.x + STRETCH * length * direction, lower, upper))
        if not longer < value - ARMIJO * abs(value - spot.value):
            break
        length, value = STRETCH * length, longer
    x = np.clip(spot.x + length * direction, lower, upper)
    return Spot(x, oracle.value(x), oracle.gradient())


def _shortened(value: float, slope: float, reached: float) -> float:
    """The factor for the next length: the minimum of a parabola, between 0.1 and 0.5."""
    if not np.isfinite(reached):
        return 0.1
    return float(np.clip(-slope / (2 * (reached - value - slope)), 0.1, 0.5))
