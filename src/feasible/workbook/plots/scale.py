"""Logarithmic axes that know zero."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LogScale:
    """A logarithmic axis on which an exact zero has a place of its own, before everything else."""

    zero: float | None
    """Where zeros are drawn; ``None``: there are none."""
    lowest: int
    highest: int

    @classmethod
    def of(cls, values: Iterable[float]) -> LogScale:
        """The scale that holds all values; those below a trillionth of the largest are drawn at the edge."""
        finite = [value for value in values if math.isfinite(value)]
        positive = [value for value in finite if value > 0]
        if not positive:
            return cls(0.1, 0, 0)
        highest = math.ceil(math.log10(max(positive)))
        lowest = max(math.floor(math.log10(min(positive))), highest - 12)
        lowest = min(lowest, highest - 1)
        return cls(10.0 ** (lowest - 1) if len(positive) < len(finite) else None, lowest, highest)

    def place(self, value: float, aside: float = 0.0) -> float | None:
        """Where a value is drawn, zeros by so many decades aside; what is not finite is not drawn."""
        if not math.isfinite(value):
            return None
        if value <= 0:
            return None if self.zero is None else self.zero * 10**aside
        return max(value, 10.0**self.lowest)

    def axis(self, title: str) -> dict[str, Any]:
        """The plotly axis, with a tick that says 0."""
        powers = range(self.lowest, self.highest + 1, max(1, math.ceil((self.highest - self.lowest) / 6)))
        ticks = [(10.0**power, _power(power, self.lowest)) for power in powers]
        if self.zero is not None:
            ticks.insert(0, (self.zero, "0"))
        low = self.lowest if self.zero is None else self.lowest - 1
        return {
            "type": "log",
            "title": {"text": title},
            "tickvals": [value for value, _ in ticks],
            "ticktext": [text for _, text in ticks],
            "range": [low - 0.4, self.highest + 0.15],
        }


def _power(power: int, lowest: int) -> str:
    """A power of ten, as a plain number where all of them are short."""
    if 0 <= power <= 3 or -3 <= lowest <= power < 0:
        return f"{10.0**power:g}"
    return f"10<sup>{str(power).replace('-', '−')}</sup>"


@dataclass(frozen=True)
class SignedLogScale:
    """An axis for both signs: linear within ± ``linear``, logarithmic outside."""

    linear: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float], smallest: float) -> SignedLogScale:
        """The scale that holds all values, and on which ``smallest`` can still be told from zero.

        It spans twelve powers of ten at most.
        """
        highest = max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0
        linear = 10.0 ** math.floor(math.log10(max(smallest, 1e-12 * highest)))
        return cls(linear, max(linear, highest))

    def place(self, value: float) -> float | None:
        """Where a value is drawn on a linear axis; what is not finite is not drawn."""
        if not math.isfinite(value):
            return None
        size = abs(value) / self.linear
        return math.copysign(size if size <= 1 else 1 + math.log10(size), value)

    def axis(self) -> dict[str, Any]:
        """The plotly axis."""
        low, high = round(math.log10(self.linear)), math.floor(math.log10(self.highest))
        powers = range(low, high + 1, max(1, math.ceil((high - low) / 4)))
        positive = [(10.0**power, _power(power, low)) for power in powers]
        ticks = [*((-value, f"−{text}") for value, text in reversed(positive)), (0.0, "0"), *positive]
        end = (self.place(self.highest) or 1.0) * 1.05
        return {
            "tickvals": [self.place(value) for value, _ in ticks],
            "ticktext": [text for _, text in ticks],
            "range": [-end, end],
        }
