"""Process time of alternating runs, and the line that reports a ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def medians(
    runs: Mapping[str, Callable[[], object]], rounds: int = 31, inner: int = 1
) -> dict[str, list[float]]:
    """Seconds of process time per call; the runs take turns, so that a drifting machine slows all alike."""
    torch.set_num_threads(1)
    for run in runs.values():
        run()
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            for _ in range(inner):
                run()
            times[name].append((time.process_time() - start) / inner)
    return times


def line(work: str, name: str, peer: str, times: Mapping[str, list[float]], base: str | None = None) -> str:
    """``work  name / peer  median (quartiles, pairs, …)``; the time of ``base`` is taken from both first."""
    floor = times[base] if base else [0.0] * len(times[name])
    ratios = sorted((a - c) / (b - c) for a, b, c in zip(times[name], times[peer], floor, strict=True))
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    return (
        f"{work:<44} {name} / {peer}".ljust(92)
        + f"{statistics.median(ratios):6.2f}   ({low:.2f}–{high:.2f}, {len(ratios)} pairs, 1 thread, process time)"
    )
