"""What a history shows: a constraint that cannot be met, circles, moves too slowly, or never mattered.

Only the last half of a history speaks: what happened while training set in is over. All thresholds are here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from feasible.problem.history import Series

LEAST_STEPS = 100
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
LEAST_FACTOR = 3.0
"""A rate is too low where it needs so many times the steps that were taken: less is patience."""
LARGE = 50.0
"""Tolerances (thousandths of the first value's RMS) that a swing must exceed: noise in the end phase does not."""
LEAST_SWINGS = 3
"""Turns by more than half the range in the last half: a period and a half at least."""
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


def find_trends(series: Series, tolerance: float, signed: Tensor | None = None) -> list[Trend]:
    """What the last half of the history shows.

    Args:
        series: the history.
        tolerance: the violation that counts as none.
        signed: the values themselves, an entry a row, where they were kept: their swings keep their sign.
    """
    if len(series) < LEAST_ENTRIES or series.steps[-1] - series.steps[0] < LEAST_STEPS - 1:
        return []
    violation, multiplier = (
        torch.tensor(x, dtype=torch.float64) for x in (series.violation, series.multiplier)
    )
    if not violation.isfinite().all():
        return []
    steps = series.steps[-1] + 1
    if not violation.any():
        return [] if multiplier.isfinite().all() and multiplier.any() else [_idle(steps)]
    half = slice(len(series) // 2, None)
    tolerance = max(tolerance, 1e-3 * float(violation.max()))
    swings = _swings(violation[half], (violation if signed is None else signed)[half], tolerance)
    found = swings or _grows(series.steps[half], violation[half], multiplier[half], tolerance)
    return [found] if found else []


def _idle(steps: int) -> Trend:
    return Trend(
        "idle", f"has never been active in {steps:,} steps: it changed nothing, and could be left out"
    )


def _grows(steps: list[int], violation: Tensor, multiplier: Tensor, tolerance: float) -> Trend | None:
    """A multiplier that still grows: in vain, or too slowly."""
    if not multiplier.isfinite().all():
        return None
    means = torch.stack([block.mean() for block in multiplier.tensor_split(BLOCKS)])
    before, after = _ends(multiplier)
    growth = after / before - 1 if before > 0 else 0.0
    still = torch.stack([block.mean() for block in violation.tensor_split(BLOCKS)])
    if not (bool((means.diff() > 0).all()) and growth > LEAST_GROWTH and bool((still > tolerance).all())):
        return None
    first, last = _ends(violation)
    span = f"over the last {steps[-1] - steps[0] + 1:,} steps"
    grew = f"the multiplier grew from {before:.3g} to {after:.3g} {span}"
    if 1 - last / first < LEAST_RESPONSE * growth:
        return Trend(
            "infeasible",
            f"looks infeasible: {grew}, and the violation did not fall ({first:.3g} to {last:.3g}); nothing that "
            "the weights can do satisfies it beside the other constraints, or its rate is far too low",
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


def _swings(violation: Tensor, values: Tensor, tolerance: float) -> Trend | None:
    """A violation that comes and goes, as large as ever."""
    end = violation[-(len(violation) // 3) :]
    if float(end.max()) < LARGE * tolerance:
        return None
    columns = values.reshape(len(values), -1).double()
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


def _ends(x: Tensor) -> tuple[float, float]:
    """The means of the first and of the last third."""
    third = len(x) // 3
    return float(x[:third].mean()), float(x[-third:].mean())


def _range(x: Tensor) -> float:
    return float(x.max() - x.min())


def _turns(x: Tensor) -> int:
    """How often x goes back by more than half its range."""
    half, extreme, direction, turns = _range(x) / 2, float(x[0]), 0, 0
    for value in x.tolist():
        ahead = (value - extreme) * (direction or (1 if value > extreme else -1))
        if direction == 0 and ahead > half:
            direction, extreme = (1 if value > extreme else -1), value
        elif direction != 0 and ahead >= 0:
            extreme = value
        elif direction != 0 and -ahead > half:
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
