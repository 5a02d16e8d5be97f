"""What a history shows: a constraint that cannot be met, circles, moves too slowly, or never mattered.

Only the last half of a history speaks: what happened while training set in is over. All thresholds are here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from feasible.problem.history import Series

LEAST_STEPS = 300
"""Steps before anything is said: earlier, every training is on its way."""
LEAST_ENTRIES = 24
"""Entries before anything is said: four in each block of the last half."""
BLOCKS = 6
"""The multiplier grows where the means of so many blocks rise one after the other: of noise 1 in 720 does."""
LEAST_GROWTH = 0.1
"""A multiplier that rose by less between the first and the last third of the half has all but arrived."""
LEAST_RESPONSE = 0.05
"""Fall of the violation over growth of the multiplier, both relative. Below it the multiplier would have to
become more than twenty times what it is."""
LINEAR_GROWTH = 0.4
"""Against a violation that stays, a multiplier grows like the steps, by 0.57 over the half; a random walk, like
their root, by 0.25."""
NOISE = 3.0
"""Standard errors by which the mean value of every block must be outside."""
LARGEST_RISE = 1.5
"""A violation that becomes so many times larger is not stuck: the training diverges, or the task has changed."""
LEAST_FACTOR = 4.0
"""A rate is too low where it needs so many times the steps that were taken: less is patience."""
LARGE = 50.0
"""Tolerances (thousandths of the first value's RMS) that a swing must exceed: noise in the end phase does not."""
LEAST_SWINGS = 3
"""Turns by more than a quarter of the range in the last half: a period and a half at least."""
LEAST_REGULARITY = 0.5
"""The correlation of neighbouring entries, of either sign: noise from batch to batch has none."""
LASTING = 0.5
"""A swing whose range shrinks by more than this over the half is settling."""


@dataclass(frozen=True)
class Trend:
    """One finding, with what is evidence for it."""

    kind: str
    """``infeasible``, ``slow``, ``oscillates``, ``flips`` or ``idle``."""
    sentence: str


def find_trends(
    series: Series,
    tolerance: float,
    values: Tensor | None = None,
    violation_of: Callable[[Tensor], float] | None = None,
) -> Trend | None:
    """What the last half of the history shows, if anything.

    Args:
        series: the history.
        tolerance: the violation that counts as none.
        values: the values themselves, an entry a row, where they were kept: their swings keep their sign, and
            their means are free of noise.
        violation_of: of such a mean.
    """
    if len(series) < LEAST_ENTRIES or series.steps[-1] - series.steps[0] < LEAST_STEPS - 1:
        return None
    violation, multiplier = (
        torch.tensor(x, dtype=torch.float64) for x in (series.violation, series.multiplier)
    )
    if not violation.isfinite().all():
        return None
    steps = series.steps[-1] + 1
    if not violation.any():
        return None if multiplier.isfinite().all() and multiplier.any() else _idle(steps)
    half = slice(len(series) // 2, None)
    tolerance = max(tolerance, 1e-3 * float(violation.max()))
    seen = violation.unsqueeze(1) if values is None else values.reshape(len(values), -1).double().cpu()
    levels = _levels(seen[half], violation_of if values is not None else float, tolerance)
    return _swings(violation[half], seen[half], tolerance) or _grows(
        series.steps[half], levels, multiplier[half], tolerance
    )


def _levels(seen: Tensor, violation_of: Callable[[Tensor], float] | None, tolerance: float) -> list[float]:
    """The violation of the mean of every block; none where it may be noise."""
    levels = []
    for block in seen.tensor_split(BLOCKS):
        assert violation_of is not None
        level = violation_of(block.mean(0))
        if not level > tolerance + NOISE * float(block.std(0).max()) / len(block) ** 0.5:
            return []
        levels.append(level)
    return levels


def _idle(steps: int) -> Trend:
    return Trend(
        "idle", f"has never been active in {steps:,} steps: it changed nothing, and could be left out"
    )


def _grows(steps: list[int], levels: list[float], multiplier: Tensor, tolerance: float) -> Trend | None:
    """A multiplier that still grows: in vain, or too slowly."""
    if not levels or not multiplier.isfinite().all():
        return None
    means = [float(block.mean()) for block in multiplier.tensor_split(BLOCKS)]
    before, after = _ends(means)
    growth = after / before - 1 if before > 0 else 0.0
    if growth < LEAST_GROWTH or any(later <= earlier for earlier, later in pairwise(means)):
        return None
    first, last = _ends(levels)
    span = f"over the last {steps[-1] - steps[0] + 1:,} steps"
    grew = f"the multiplier grew from {before:.3g} to {after:.3g} {span}"
    if 1 - last / first < LEAST_RESPONSE * growth:
        return (
            None
            if growth < LINEAR_GROWTH
            else Trend(
                "infeasible",
                f"looks infeasible: {grew}, and the violation did not fall ({first:.3g} to {last:.3g}); nothing that "
                "the weights can do satisfies it beside the other constraints, or its rate is far too low",
            )
        )
    # The violation decays like exp(−t/τ); the ends are two thirds of the half apart.
    decay = math.log(first / last) / ((steps[-1] - steps[0]) * 2 / 3)
    missing = math.log(last / tolerance) / decay
    factor = 1 + missing / (steps[-1] + 1)
    if factor < LEAST_FACTOR:
        return None
    return Trend(
        "slow",
        f"its rate is too low: {grew}, while the violation only fell from {first:.3g} to {last:.3g}; "
        f"at this pace it takes about {_rounded(missing):,} more steps. Multiply dual_lr by about {_rounded(factor)}",
    )


def _swings(violation: Tensor, columns: Tensor, tolerance: float) -> Trend | None:
    """A violation that comes and goes, as large as ever."""
    end = violation[-(len(violation) // 3) :]
    if float(end.max()) < LARGE * tolerance:
        return None
    moving = columns[:, int((columns.amax(0) - columns.amin(0)).argmax())]
    turns, regularity = _turns(moving), _regularity(moving)
    early, late = (_range(part) for part in (moving[: len(moving) // 3], moving[-(len(moving) // 3) :]))
    if turns < LEAST_SWINGS or abs(regularity) < LEAST_REGULARITY or late < LASTING * early:
        return None
    ends = f"between {float(moving.min()):.3g} and {float(moving.max()):.3g}"
    if regularity < 0:
        return Trend(
            "flips",
            f"oscillates from step to step {ends}: its pull is too strong for the learning rate; "
            "lower the penalty (or the learning rate)",
        )
    return Trend(
        "oscillates",
        f"oscillates {ends} without settling, {turns} swings in the last half of the steps: "
        "lower dual_lr, or raise the penalty",
    )


def _ends(blocks: Sequence[float]) -> tuple[float, float]:
    """The means of the first and of the last third."""
    third = BLOCKS // 3
    return sum(blocks[:third]) / third, sum(blocks[-third:]) / third


def _range(x: Tensor) -> float:
    return float(x.max() - x.min())


def _turns(x: Tensor) -> int:
    """How often x goes back by more than a quarter of its range."""
    least, extreme, direction, turns = _range(x) / 4, float(x[0]), 0, 0
    for value in x.tolist():
        ahead = (value - extreme) * (direction or (1 if value > extreme else -1))
        if direction == 0 and ahead > least:
            direction, extreme = (1 if value > extreme else -1), value
        elif direction != 0 and ahead >= 0:
            extreme = value
        elif direction != 0 and -ahead > least:
            direction, extreme, turns = -direction, value, turns + 1
    return turns


def _regularity(x: Tensor) -> float:
    """The correlation of neighbours."""
    centred = x - x.mean()
    return float((centred[1:] * centred[:-1]).sum() / centred.square().sum().clamp_min(1e-300))


def _rounded(x: float) -> int:
    """One significant digit: the estimate is no better."""
    scale = 10 ** max(math.floor(math.log10(x)), 0)
    return int(round(x / scale) * scale)
