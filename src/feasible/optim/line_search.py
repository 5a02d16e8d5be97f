"""Line search along a path that bends at bounds: Wolfe's conditions, and what stands for them where it bends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ARMIJO = 1e-4
WOLFE = 0.9
TRIALS = 25


@dataclass(frozen=True)
class Trial:
    """The path at one step length."""

    t: float
    f: float
    slope: float
    """Derivative of f along the path."""
    point: Any
    """What was found there; the search does not look at it."""
    predicted: float = 0.0
    """``⟨∇f(x(0)), x(t) − x(0)⟩``: by how much f would change if it were linear."""
    bends: bool = False
    """Whether an entry has met a bound before t."""

    @property
    def is_finite(self) -> bool:
        """Whether f and its gradient are numbers."""
        return math.isfinite(self.f) and math.isfinite(self.slope)


@dataclass(frozen=True)
class Search:
    """Looks for a step length with enough descent, at which the path has become flatter.

    On a straight path these are the strong Wolfe conditions. Beyond a bend the slope may have jumped past every
    small value: there it only must not be steep downwards. Where f has changed by no more than its own
    rounding, the slopes decide alone.

    Args:
        evaluate: the path at a step length.
        start: the path at 0, with a negative slope.
        longest: the longest step that is allowed.
        rounding: by how much values of f may be wrong.

    Source: Nocedal & Wright, *Numerical Optimization*, algorithms 3.5 and 3.6; Ferry, Gill, Wong & Zhang,
    *A class of projected-search methods for bound-constrained optimization* (2021); Hager & Zhang, *A new
    conjugate gradient method with guaranteed descent* (2005), section 4.
    """

    evaluate: Callable[[float], Trial]
    start: Trial
    longest: float = math.inf
    rounding: float = 0.0

    def run(self, t: float, trials: int = TRIALS) -> Trial | None:
        """The accepted trial; the best one with enough descent if none is, ``None`` if there is none."""
        low, high = self.start, None
        for _ in range(max(trials, 1)):
            trial = self.evaluate(t)
            if not (trial.is_finite and self._descends(trial)) or trial.f > low.f + self.rounding:
                high = trial
            elif self._is_flat(trial):
                return trial
            else:
                ahead = math.inf if high is None else high.t - low.t
                if trial.slope * ahead >= 0:
                    high = low
                low = trial
            t = self._longer(low) if high is None else between(low, high)
            if t == low.t:
                break
        return low if low.t > 0 else None

    def _descends(self, trial: Trial) -> bool:
        if trial.predicted < 0 and trial.f <= self.start.f + ARMIJO * trial.predicted:
            return True
        is_level = trial.f <= self.start.f + self.rounding
        return is_level and trial.slope <= (2 * ARMIJO - 1) * self.start.slope

    def _is_flat(self, trial: Trial) -> bool:
        steepest = WOLFE * abs(self.start.slope)
        falls = trial.slope < -steepest and trial.t < self.longest
        rises = trial.slope > steepest and not trial.bends
        return not (falls or rises)

    def _longer(self, low: Trial) -> float:
        """Where the slopes would meet zero if they went on in a straight line, within limits."""
        change = low.slope - self.start.slope
        root = low.t * self.start.slope / -change if change > 0 else math.inf
        return min(self.longest, max(2 * low.t, min(root, 10 * low.t)))


def between(low: Trial, high: Trial) -> float:
    """A step length between two ends: the minimum of the cubic through them, a tenth away from either."""
    width = high.t - low.t
    if not high.is_finite:
        return low.t + 0.25 * width
    share = cubic_minimum(low.f, low.slope * width, high.f, high.slope * width)
    return low.t + min(max(share, 0.1), 0.9) * width


def cubic_minimum(f0: float, slope0: float, f1: float, slope1: float) -> float:
    """The minimum of the cubic on [0, 1] with these values and slopes at its ends; ½ where it has none."""
    a = slope0 + slope1 - 3 * (f1 - f0)
    radicand = a * a - slope0 * slope1
    if radicand < 0:
        return 0.5
    root = math.sqrt(radicand)
    divisor = slope1 - slope0 + 2 * root
    return 1 - (slope1 + root - a) / divisor if divisor else 0.5
