"""Where the final weights of a run lie: histograms over the methods, on one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from feasible.workbook.run_directory import RunDirectory

BINS = 90


@dataclass(frozen=True)
class Histogram:
    """Shares of the constrained weights by value, one list per method."""

    centres: list[float]
    shares: dict[str, list[float]]
    bounds: list[float]
    """The bounds that the rules draw, where they are numbers."""
    patterns: list[str]


def weight_histogram(run: RunDirectory, variants: Sequence[str]) -> Histogram | None:
    """The weights that rules speak of, all seeds together; ``None`` where no rule is about weights."""
    rules = [rule for rule in run.tables.get("constraints", ()) if rule.get("weights")]
    values = {variant: _constrained_weights(run, variant, rules) for variant in variants}
    values = {variant: found for variant, found in values.items() if found.size}
    if not rules or not values:
        return None
    bounds = sorted({bound for rule in rules for bound in bounds_of(rule["set"])})
    # A few far outliers must not squeeze all others into one bin: they are counted in the outermost ones.
    lows, highs = zip(*(np.quantile(found, [0.002, 0.998]) for found in values.values()))
    low, high = min([*lows, *bounds]), max([*highs, *bounds])
    edges = _edges(float(low), float(high), bounds)
    shares = {
        variant: (np.histogram(np.clip(found, edges[0], edges[-1]), edges)[0] / found.size).tolist()
        for variant, found in values.items()
    }
    centres = ((edges[:-1] + edges[1:]) / 2).tolist()
    return Histogram(centres, shares, bounds, [str(rule["weights"]) for rule in rules])


def _edges(low: float, high: float, bounds: Sequence[float]) -> NDArray[np.float64]:
    """Bins of equal width, every bound in the middle of one: weights that rest there are one stripe."""
    width = (high - low or 1.0) / BINS
    anchor = bounds[0] if bounds else low
    if len(bounds) == 2 and bounds[1] > bounds[0]:
        width = (bounds[1] - bounds[0]) / max(1, round((bounds[1] - bounds[0]) / width))
    first, last = np.floor((low - anchor) / width) - 1, np.ceil((high - anchor) / width) + 1
    edges: NDArray[np.float64] = anchor + (np.arange(first, last + 1) - 0.5) * width
    return edges


def _constrained_weights(
    run: RunDirectory, variant: str, rules: Sequence[Mapping[str, Any]]
) -> NDArray[np.float64]:
    found = [
        tensor.astype(np.float64).ravel()
        for path in run.weight_files(variant)
        for name, tensor in load_file(path).items()
        if any(_speaks_of(rule, name) for rule in rules)
    ]
    everything = np.concatenate(found) if found else np.empty(0)
    return everything[np.isfinite(everything)]


def _speaks_of(rule: Mapping[str, Any], name: str) -> bool:
    if any(fnmatchcase(name, pattern) for pattern in rule.get("exclude", ())):
        return False
    return fnmatchcase(name, rule["weights"])


def bounds_of(table: Any) -> list[float]:
    """The numbers that a set of a TOML file allows up to, or alone; other sets have no lines to draw."""
    if table == "NonNegative" or (isinstance(table, dict) and table.get("name") == "NonNegative"):
        return [0.0]
    if isinstance(table, dict) and table.get("name") in ("Box", "Equal"):
        numbers = [table.get(key) for key in ("lower", "upper", "value")]
        return [float(number) for number in numbers if isinstance(number, (int, float))]
    return []
