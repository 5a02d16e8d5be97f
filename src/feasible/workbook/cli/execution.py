"""From what was typed to a finished run with its page."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feasible.workbook.bars import Bars
from feasible.workbook.cli.folders import choose_folder
from feasible.workbook.configuration import AnyExperiment, load_experiment
from feasible.workbook.display import Screen
from feasible.workbook.errors import InputError
from feasible.workbook.page import write_page
from feasible.workbook.run_directory import FIRST_LOOK, RunDirectory, read_run
from feasible.workbook.runner import run_experiment


@dataclass(frozen=True)
class Request:
    """The arguments of ``feasible run``."""

    experiment: str
    settings: tuple[str, ...] = ()
    seeds: int | None = None
    quick: bool = False
    resume: bool = False
    out: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """A run on disk, finished or interrupted, and its page."""

    request: Request
    run: RunDirectory
    page: Path

    @property
    def resume_command(self) -> str:
        """The command that goes on where an interrupted run stopped."""
        words = ["feasible", "run", self.request.experiment, "--out", str(self.run.path), "--resume"]
        if self.request.quick:
            words.append("--quick")
        if self.request.seeds is not None:
            words += ["--seeds", str(self.request.seeds)]
        for setting in self.request.settings:
            words += ["--set", setting]
        return shlex.join(words)

    def to_dict(self) -> dict[str, Any]:
        """The result for programs."""
        return {"run": str(self.run.path), "report": str(self.page), **self.run.result}

    def show(self, screen: Screen) -> None:
        """The comparison table and where to read more."""
        screen.heading(self.run.title)
        if self.run.is_quick:
            screen.line(FIRST_LOOK)
        screen.comparison(self.run.result["columns"], self.run.rows, self.run.best_feasible())
        screen.line(f"Report: {self.page}")


def execute(request: Request, screen: Screen) -> Outcome:
    """Train what was asked for and write the page.

    Raises:
        InputError: the experiment or the folder is wrong; nothing has been written.
    """
    if request.seeds is not None and request.seeds < 1:
        raise InputError(f"--seeds must be at least 1, got {request.seeds}.")
    experiment = load_experiment(request.experiment, request.settings)
    folder = choose_folder(experiment.name, request.out, request.resume)
    with Bars(screen.err, labels(experiment), screen.quiet) as bars:
        run_experiment(
            experiment,
            folder,
            seeds=None if request.seeds is None else range(request.seeds),
            quick=request.quick,
            resume=request.resume,
            progress=bars,
            command_line=typed_command(),
        )
    return Outcome(request, read_run(folder), write_page(folder))


def labels(experiment: AnyExperiment) -> dict[str, str]:
    """What the methods are called."""
    return {variant.name: variant.label for variant in experiment.variants()}


def typed_command() -> Sequence[str]:
    """What the user typed, without the path of the program."""
    return ["feasible", *sys.argv[1:]]
