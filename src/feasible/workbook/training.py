"""One method, one seed, and what came out of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from feasible.workbook.configuration import Experiment, Variant
from feasible.workbook.data import Dataset
from feasible.workbook.errors import InputError
from feasible.workbook.known import compare_with_known
from feasible.workbook.progress import Progress, Silent
from feasible.workbook.trainer import Trainer


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

    def to_dict(self) -> dict[str, Any]:
        """Plain Python data for JSON: everything but history and weights."""
        head = {"variant": self.variant, "label": self.label, "seed": self.seed}
        return {**head, "status": self.status, "reason": self.reason, **self.measurements}


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
    progress.run_started(variant.name, seed, experiment.budget.epochs)
    history: list[Mapping[str, float]] = []
    try:
        with torch.random.fork_rng(devices=()), _threads(experiment.budget.threads):
            torch.manual_seed(seed)
            result = _train(experiment, variant, seed, dataset, progress, history)
    except InputError:
        raise
    except (ArithmeticError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        result = RunResult(variant.name, variant.label, seed, "failed", reason, history=tuple(history))
    except KeyboardInterrupt:
        progress.run_finished(variant.name, seed, "interrupted", None)
        raise
    progress.run_finished(variant.name, seed, result.status, result.reason)
    return result


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(
    experiment: Experiment,
    variant: Variant,
    seed: int,
    dataset: Dataset,
    progress: Progress,
    history: list[Mapping[str, float]],
) -> RunResult:
    started = time.process_time()
    budget = experiment.budget
    trainer = Trainer(variant, dataset, seed, budget.epochs)
    for epoch in range(1, budget.epochs + 1):
        row = {"epoch": float(epoch), **trainer.train_epoch().history()}
        history.append(row)
        progress.epoch_finished(variant.name, seed, epoch, row)
        _check_finite(row["train_loss"], epoch)
        if time.process_time() - started > (budget.seconds or math.inf):
            break
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


def _check_finite(loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise DivergedError(f"diverged: the training loss was {loss} after epoch {epoch}")
