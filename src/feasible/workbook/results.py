"""What one run of one method leaves behind, whether it went well or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from feasible.workbook.errors import InputError
from feasible.workbook.progress import Progress

History = list[Mapping[str, float]]


@dataclass(frozen=True)
class RunResult:
    """What one training left behind."""

    variant: str
    label: str
    seed: int
    status: str
    """``"finished"``, ``"failed"`` or ``"interrupted"``."""
    reason: str | None = None
    measurements: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """The final weights under their plain names; empty unless finished."""
    records: Mapping[str, Tensor] = field(default_factory=dict)
    """What was watched, for plots: percentiles, predictions, solutions."""

    def to_dict(self) -> dict[str, Any]:
        """Plain Python data for JSON: everything but history, weights and records."""
        head = {"variant": self.variant, "label": self.label, "seed": self.seed}
        return {**head, "status": self.status, "reason": self.reason, **self.measurements}


def attempt(
    name: str,
    label: str,
    seed: int,
    threads: int,
    progress: Progress,
    run: Callable[[History], RunResult],
) -> RunResult:
    """Run with this seed and so many threads of torch; a failure is a result with its reason, not an exception.

    Args:
        name: of the row of the comparison.
        label: of the row of the comparison.
        seed: of torch's random numbers, which are afterwards what they were.
        threads: of torch.
        progress: is told how it ended.
        run: what is to be done; it is given a list for its history, which survives a failure.

    Raises:
        InputError: what the user asked for is wrong.
    """
    history: History = []
    try:
        with torch.random.fork_rng(devices=()), _threads(threads):
            torch.manual_seed(seed)
            result = run(history)
    except InputError:
        raise
    except (ArithmeticError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        result = RunResult(name, label, seed, "failed", reason, history=tuple(history))
    except KeyboardInterrupt:
        progress.run_finished(name, seed, "interrupted", None)
        raise
    progress.run_finished(name, seed, result.status, result.reason)
    return result


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
