"""One method, one seed: a network is trained."""

from __future__ import annotations

import math
import time

from feasible.workbook.configuration import Experiment, Variant
from feasible.workbook.data import Dataset
from feasible.workbook.known import compare_with_known
from feasible.workbook.progress import Progress, Silent
from feasible.workbook.results import History, RunResult, attempt
from feasible.workbook.tables import BudgetTable
from feasible.workbook.trainer import Trainer


class DivergedError(ArithmeticError):
    """The loss or the weights are no longer finite numbers."""


def train(
    experiment: Experiment,
    variant: Variant,
    seed: int,
    dataset: Dataset,
    progress: Progress | None = None,
) -> RunResult:
    """Train one row of the comparison; a failure is a result with its reason, not an exception.

    The same seed gives the same weights: it decides initialisation and order of the samples.
    """
    progress = progress or Silent()
    budget = experiment.budget
    progress.run_started(variant.name, seed, budget.epochs)
    return attempt(
        variant.name,
        variant.label,
        seed,
        budget.threads,
        progress,
        lambda history: _train(experiment, variant, seed, dataset, progress, history),
    )


def _train(
    experiment: Experiment,
    variant: Variant,
    seed: int,
    dataset: Dataset,
    progress: Progress,
    history: History,
) -> RunResult:
    started = time.process_time()
    trainer = Trainer(variant, dataset, seed, experiment.budget.epochs)
    if variant.search is None:
        _train_epochs(trainer, experiment.budget, seed, progress, history)
    else:
        history.append({"epoch": 1.0, **trainer.search().history()})
    final = trainer.finish()
    _check_finite(final.train_loss, len(history))
    weights = {name: tensor.detach().clone() for name, tensor in trainer.model.state_dict().items()}
    measurements = {
        **final.to_dict(),
        **compare_with_known(experiment.known, final.train_loss, weights),
        **trainer.describe(),
        "seconds": time.process_time() - started,
        "epochs": len(history),
    }
    return RunResult(
        variant.name, variant.label, seed, "finished", None, measurements, tuple(history), weights
    )


def _train_epochs(
    trainer: Trainer, budget: BudgetTable, seed: int, progress: Progress, history: History
) -> None:
    started = time.process_time()
    for epoch in range(1, budget.epochs + 1):
        row = {"epoch": float(epoch), **trainer.train_epoch().history()}
        history.append(row)
        progress.epoch_finished(trainer.variant.name, seed, epoch, row)
        _check_finite(row["train_loss"], epoch)
        if time.process_time() - started > (budget.seconds or math.inf):
            break


def _check_finite(loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise DivergedError(f"diverged: the training loss was {loss} after epoch {epoch}")
