"""Numbers that change with the step: a schedule is any callable from the step to a float."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

Schedule = Callable[[int], float]


@final
@dataclass(frozen=True)
class Constant:
    """The same value at every step.

    >>> Constant(0.5)(100)
    0.5
    """

    value: float

    def __post_init__(self) -> None:
        _check_finite(self, value=self.value)

    def __call__(self, step: int) -> float:
        """The value."""
        return self.value


@final
@dataclass(frozen=True)
class Linear:
    """From ``start`` to ``end`` in equal parts over ``steps`` steps, then ``end``.

    >>> Linear(0.0, 1.0, steps=4)(1)
    0.25
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_finite(self, start=self.start, end=self.end)
        if self.steps < 1:
            raise ValueError(f"Linear: steps must be at least 1, got {self.steps}.")

    def __call__(self, step: int) -> float:
        """The value at this step."""
        share = min(max(step / self.steps, 0.0), 1.0)
        return self.start + (self.end - self.start) * share


@final
@dataclass(frozen=True)
class Exponential:
    """``start · factor**step``, kept within ``minimum`` and ``maximum``.

    >>> Exponential(1.0, 2.0, maximum=10.0)(3)
    8.0
    """

    start: float
    factor: float
    minimum: float = 0.0
    maximum: float = math.inf

    def __post_init__(self) -> None:
        _check_finite(self, start=self.start, factor=self.factor)
        if self.factor <= 0:
            raise ValueError(f"Exponential: factor must be positive, got {self.factor:g}.")
        if self.minimum > self.maximum:
            raise ValueError(f"Exponential: minimum {self.minimum:g} exceeds maximum {self.maximum:g}.")

    def __call__(self, step: int) -> float:
        """The value at this step."""
        try:
            grown = self.start * self.factor**step
        except OverflowError:
            grown = math.copysign(math.inf, self.start)
        return min(max(grown, self.minimum), self.maximum)


def value_at(weight: float | Schedule, step: int) -> float:
    """A number as it is, a schedule at this step."""
    return weight(step) if callable(weight) else weight


def check_weight(owner: str, name: str, weight: float | Schedule, from_zero: bool = False) -> None:
    """Raise ``ValueError`` unless ``weight`` is a positive finite number or a schedule that starts with one.

    ``from_zero``: a schedule may also start at 0, since nothing is divided by it.
    """
    if not callable(weight) and not isinstance(weight, (int, float)):
        raise ValueError(f"{owner}: {name} must be a number or a schedule (step -> float), got {weight!r}.")
    first = value_at(weight, 0)
    if not (math.isfinite(first) and (first > 0 or (from_zero and callable(weight) and first == 0))):
        at = " at step 0" if callable(weight) else ""
        raise ValueError(f"{owner}: {name} must be positive and finite, got {first!r}{at}.")


def _check_finite(owner: object, **numbers: float) -> None:
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise ValueError(f"{type(owner).__name__}: {name} must be finite, got {number}.")
