"""The progress of an experiment on stderr: bars in a terminal, a line per training elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from feasible.workbook.cells import show


class Bars:
    """Listens to an experiment; use it as a context manager.

    Args:
        console: where to draw.
        labels: what the methods are called.
        quiet: draw nothing.
    """

    def __init__(self, console: Console, labels: Mapping[str, str], quiet: bool = False) -> None:
        self._console = console
        self._labels = labels
        self._quiet = quiet
        self._total = self._done = 0
        self._all: TaskID | None = None
        self._one: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def experiment_started(self, total_runs: int, skipped: int) -> None:
        """So many trainings are asked for, and so many of them are there already."""
        self._total, self._done = total_runs, skipped
        self._all = self._progress.add_task("trainings", total=total_runs, completed=skipped)
        if skipped:
            self._print(f"{skipped} of {total_runs} trainings are there already.")

    def run_started(self, variant: str, seed: int, epochs: int) -> None:
        """One method begins with one seed."""
        self._one = self._progress.add_task(self._name(variant, seed), total=epochs)

    def epoch_finished(self, variant: str, seed: int, epoch: int, row: Mapping[str, float]) -> None:
        """One more epoch."""
        if self._one is not None:
            self._progress.advance(self._one)

    def run_finished(self, variant: str, seed: int, status: str, reason: str | None) -> None:
        """A training ended, one way or the other."""
        self._done += 1
        if self._one is not None:
            self._progress.remove_task(self._one)
        if self._all is not None:
            self._progress.advance(self._all)
        end = status if reason is None else f"{status}: {reason}"
        if status != "finished" or not self._console.is_terminal:
            self._print(f"[{show(self._done)}/{show(self._total)}] {self._name(variant, seed)}: {end}")

    def _name(self, variant: str, seed: int) -> str:
        return f"{self._labels.get(variant, variant)}, seed {seed}"

    def _print(self, line: str) -> None:
        if not self._quiet:
            self._console.print(Text(line), soft_wrap=True)
