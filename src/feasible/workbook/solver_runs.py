"""The runs of an experiment that compares solvers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from feasible.workbook.comparison import GAP, OBEYS, WORST, column, rows_of
from feasible.workbook.progress import Progress
from feasible.workbook.results import RunResult, attempt
from feasible.workbook.solving import SolverVariant, SolvingExperiment
from feasible.workbook.tasks.task import Record


class SolvingWork:
    """The trainings of such an experiment, one a solver and seed."""

    metric = "objective"
    higher_is_better = False

    def __init__(self, experiment: SolvingExperiment) -> None:
        self.experiment = experiment
        self.definition = experiment.definition()

    def train(self, variant: Any, seed: int, progress: Progress) -> RunResult:
        """Let the solver run; a failure is a result with its reason."""
        budget = self.experiment.budget
        progress.run_started(variant.name, seed, 1)
        return attempt(
            variant.name, variant.label, seed, budget.threads, progress, lambda _: self._solve(variant, seed)
        )

    def _solve(self, variant: SolverVariant, seed: int) -> RunResult:
        record = Record(self.definition.make(seed))
        solution = variant.solver.solve(record, self.experiment.budget.epochs)
        seconds = record.seconds
        history = (*record.history(), record.row(record.evaluations, seconds, solution.x))
        return RunResult(
            variant.name,
            variant.label,
            seed,
            "finished",
            None,
            {**self._measured(record, solution.x), "seconds": seconds, "guarantees": [solution.status]},
            history,
            {"x": solution.x},
        )

    @torch.no_grad()
    def _measured(self, record: Record, x: torch.Tensor) -> dict[str, Any]:
        task = record.task
        loss, violation = float(task.objective(x)), task.violation(x)
        if not math.isfinite(loss):
            raise ArithmeticError(f"diverged: the objective is {loss} at the end")
        return {
            "train_loss": loss,
            "test_metric": loss,
            "worst_violation": violation,
            "feasible": violation <= self.experiment.tolerance,
            "test_feasible": None,
            "gap": None if task.optimum is None else loss - task.optimum,
            "evaluations": record.evaluations,
        }

    def summarise(self, results: Sequence[RunResult]) -> dict[str, Any]:
        """What ``result.json`` says: the table, and every run."""
        runs = [result.to_dict() for result in results]
        columns = _columns(any(run.get("gap") is not None for run in runs))
        experiment = self.experiment
        return {
            "experiment": experiment.name,
            "title": experiment.title,
            "description": experiment.description,
            "metric": {"name": "objective", "higher_is_better": False},
            "unit": "evaluation",
            "data": {"problem": repr(self.definition), "test_rows": 0},
            "columns": columns,
            "rows": rows_of(runs, columns),
            "runs": runs,
            "finished": all(run["status"] != "interrupted" for run in runs),
        }


def _columns(is_gap_known: bool) -> list[dict[str, str]]:
    return [
        column("test_metric", "objective", "the function at the end", ".8g"),
        OBEYS,
        *([GAP] if is_gap_known else []),
        WORST,
        column("evaluations", "evaluations", "of the objective", ".0f"),
        column("seconds", "seconds", "processor time, all included", ".2g"),
        column("guarantee", "it says", "how the solver itself describes its end", "text"),
    ]
