"""The runs of an experiment on a differential equation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from feasible.workbook.comparison import OBEYS, column, rows_of
from feasible.workbook.differential.experiment import DifferentialExperiment, WayVariant
from feasible.workbook.differential.measurement import measured, predicted
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.progress import Progress
from feasible.workbook.results import History, RunResult, attempt


class DifferentialWork:
    """The trainings of such an experiment, one a way and seed."""

    higher_is_better = False

    def __init__(self, experiment: DifferentialExperiment) -> None:
        self.experiment = experiment
        self.definition = experiment.definition()
        self.metric = self.definition.metric

    def train(self, variant: Any, seed: int, progress: Progress) -> RunResult:
        """Let the way run; a failure is a result with its reason."""
        progress.run_started(variant.name, seed, variant.budget.epochs)
        return attempt(
            variant.name,
            variant.label,
            seed,
            variant.budget.threads,
            progress,
            lambda history: self._solve(variant, seed, progress, history),
        )

    def _solve(self, variant: WayVariant, seed: int, progress: Progress, history: History) -> RunResult:
        posed = variant.definition.make(seed).to(variant.network.torch_dtype)
        network = variant.network.build(posed)
        monitor = Monitor(posed, self.metric, variant.budget, history, variant.name, seed, progress)
        model, status = variant.way.solve(posed, network, monitor, torch.Generator().manual_seed(seed))
        seconds = monitor.seconds
        posed = posed.to(next(model.parameters()).dtype)  # some ways end in a higher precision
        model.zero_grad()
        measurements = {
            **measured(posed, model, self.metric, self.experiment.tolerance),
            "seconds": seconds,
            "sections": dict(monitor.sections),
            "milliseconds_per_epoch": monitor.milliseconds_per_epoch,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "guarantees": [status],
        }
        weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        return RunResult(
            variant.name, variant.label, seed, "finished", None, measurements, tuple(history), weights,
            {**monitor.records(), **_shown(posed, model)},
        )  # fmt: skip

    def summarise(self, results: Sequence[RunResult]) -> dict[str, Any]:
        """What ``result.json`` says: the table, and every run."""
        runs = [result.to_dict() for result in results]
        experiment = self.experiment
        columns = [column for column in self._columns() if _is_told(column["key"], runs)]
        return {
            "experiment": experiment.name,
            "title": experiment.title,
            "description": experiment.description,
            "metric": {"name": self.metric, "higher_is_better": False},
            "unit": "epoch",
            "data": self._facts(),
            "columns": columns,
            "rows": [{**row, "guarantee": _said(row, runs)} for row in rows_of(runs, columns)],
            "runs": runs,
            "finished": all(run["status"] != "interrupted" for run in runs),
        }

    def _facts(self) -> dict[str, Any]:
        """The equation, the rows that are trained on, and where the residual is measured."""
        posed = self.definition.make(0)
        return {
            **self.definition.facts(),
            "axes": [name for name, _ in posed.shown.axes],
            "rows": {rows.name: len(rows) for rows in posed.rows},
            "held_out_points": len(posed.held_out),
        }

    def _columns(self) -> list[dict[str, str]]:
        return [
            column("test_metric", self.metric, "against the reference solution, at the test points", ".2g"),
            {**OBEYS, "help": "seeds whose residual and conditions are small enough, without a collapse"},
            column("residual", "residual", "root mean square, nondimensional, at points not trained on", ".2g"),
            column("output_rms", "output", "its root mean square: u = 0 has none", ".3g"),
            column("diversity", "diversity", "spread of the solutions over the inputs, 1 is right", ".2f"),
            column("unknown", "unknown", "relative error of the coefficient that was learned", ".1e"),
            column("seconds", "seconds", "processor time, all included", ".2g"),
            column("query_error", "other inputs", "relative L2 error of the solutions for random inputs", ".2g"),
            column("residual_99", "99%", "of the residuals at points not trained on are below this", ".2g"),
            column("worst_violation", "worst", "the largest residual there", ".2g"),
            column("guarantee", "it says", "how the way itself describes its end", "text"),
            column("train_residual", "at training points", "root mean square of the residual", ".2g"),
            column("conditions", "conditions", "root mean square of initial and boundary conditions", ".2g"),
            column("data_residual", "data", "root mean square of the data rows", ".2g"),
            column("milliseconds_per_epoch", "ms/epoch", "processor time of an epoch or iteration, median", ".3g"),
        ]  # fmt: skip


def _said(row: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    """What the ways said of their ends: where they put it differently, the first seed's words."""
    own = [run for run in runs if run["variant"] == row["variant"] and run["status"] == "finished"]
    words = dict.fromkeys(" / ".join(run["guarantees"]) for run in own)
    return str(row["guarantee"]) if len(words) < 2 else f"seed {own[0]['seed']}: {next(iter(words))}"


def _is_told(key: str, runs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any run has something to say in a column."""
    return key == "guarantee" or any(run.get(key) is not None for run in runs)


def _shown(posed: Posed, model: nn.Module) -> dict[str, Tensor]:
    """What the plots of the solution need."""
    shown = posed.shown
    return {
        "solution": predicted(model, *shown.columns),
        "reference": shown.reference.double(),
        "residual": posed.held_out.residual(model, *shown.columns).detach().double(),
        **{f"axis{number}": nodes.double().clone() for number, (_, nodes) in enumerate(shown.axes)},
    }
