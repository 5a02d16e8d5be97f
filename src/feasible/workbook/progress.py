"""What a long experiment tells while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """A listener: progress bars, log lines, or nothing."""

    def experiment_started(self, total_runs: int, skipped: int) -> None:
        """So many trainings are asked for, and so many of them are there already."""

    def run_started(self, variant: str, seed: int, epochs: int) -> None:
        """One method begins with one seed."""

    def epoch_finished(self, variant: str, seed: int, epoch: int, row: Mapping[str, float]) -> None:
        """One more row of the history."""

    def run_finished(self, variant: str, seed: int, status: str, reason: str | None) -> None:
        """``"finished"``, ``"failed"`` with the reason, or ``"interrupted"``."""


class Silent:
    """The listener that says nothing."""

    def experiment_started(self, total_runs: int, skipped: int) -> None:
        """Nothing."""

    def run_started(self, variant: str, seed: int, epochs: int) -> None:
        """Nothing."""

    def epoch_finished(self, variant: str, seed: int, epoch: int, row: Mapping[str, float]) -> None:
        """Nothing."""

    def run_finished(self, variant: str, seed: int, status: str, reason: str | None) -> None:
        """Nothing."""
