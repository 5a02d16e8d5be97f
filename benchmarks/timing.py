"""Process time of alternating runs, and the line that reports a ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

Run = Callable[[], object]


@dataclass(frozen=True)
class Line:
    """The time of ``feasible`` over that of a peer, for one piece of work; without ratios: why there are none."""

    work: str
    peer: str
    ratios: tuple[float, ...] = ()
    goal: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        """The ratio that is reported."""
        return statistics.median(self.ratios)

    @property
    def spread(self) -> str:
        """The quartiles."""
        return f"{self.ratios[len(self.ratios) // 4]:.2f}–{self.ratios[-1 - len(self.ratios) // 4]:.2f}"

    @property
    def target(self) -> str:
        """The ratio that was aimed at, and whether it was missed."""
        if self.goal is None:
            return ""
        return f"≤ {self.goal:.2f}" + (", missed" if self.ratios and self.median > self.goal else "")

    def __str__(self) -> str:
        head = f"{self.work:<52} feasible / {self.peer}".ljust(92)
        if not self.ratios:
            return f"{head} {self.note}"
        pairs = f"({self.spread}, {len(self.ratios)} pairs, 1 thread, process time)"
        return f"{head} {self.median:6.2f}   {pairs} {self.target} {self.note}".rstrip()

    def row(self) -> str:
        """The same as a row of a table in Markdown."""
        median, spread = (f"{self.median:.2f}", self.spread) if self.ratios else ("", "")
        cells = (self.work, self.peer, median, spread, self.target, self.note)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def medians(runs: Mapping[str, Run], rounds: int = 31, inner: int = 1) -> dict[str, list[float]]:
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


def ratios(
    times: Mapping[str, list[float]], name: str, peer: str, base: str | None = None
) -> tuple[float, ...]:
    """Ratios of the pairs, in order; the time of ``base`` is taken from both first."""
    floor = times[base] if base else [0.0] * len(times[name])
    return tuple(sorted((a - c) / (b - c) for a, b, c in zip(times[name], times[peer], floor, strict=True)))


def against(
    work: str,
    ours: Run,
    peers: Mapping[str, Run | str],
    goals: Mapping[str, float] | None = None,
    rounds: int = 31,
    inner: int = 1,
    base: Run | None = None,
    note: str = "",
) -> Iterator[Line]:
    """A line for each peer; a peer that does not run is a sentence that says why."""
    runs = {name: run for name, run in peers.items() if not isinstance(run, str)}
    times = medians({"feasible": ours, **runs, **({"base": base} if base else {})}, rounds, inner)
    for name, run in peers.items():
        if isinstance(run, str):
            yield Line(work, name, note=run)
        else:
            pairs = ratios(times, "feasible", name, "base" if base else None)
            yield Line(work, name, pairs, (goals or {}).get(name), note)
