"""One method, one seed: the loop that a user of the library would write, and what came out of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler

import feasible as fs
from feasible.workbook.configuration import Experiment, Variant
from feasible.workbook.data import Dataset
from feasible.workbook.declaration import declare, values
from feasible.workbook.errors import InputError
from feasible.workbook.evaluation import Evaluation, Judge, loss_of
from feasible.workbook.models import build_model
from feasible.workbook.progress import Progress, Silent
from feasible.workbook.tables import TrainingTable


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
    model = build_model(variant.model, dataset, seed)
    judge = Judge(variant, dataset, model)
    problem = declare(model, variant, dataset)
    optimizer = make_optimizer(variant.training, model)
    if problem.constraints:
        problem.attach(optimizer)
    decay = make_schedule(variant.training, optimizer, experiment.budget.epochs)
    order = torch.Generator().manual_seed(seed)
    steps: list[float] = []
    for epoch in range(1, experiment.budget.epochs + 1):
        for rows in batches(len(dataset.x_train), variant.training.batch_size, order):
            steps.append(_step(model, problem, optimizer, variant, dataset, rows))
        decay.step()
        row = {"epoch": float(epoch), **judge.evaluate().history()}
        history.append(row)
        progress.epoch_finished(variant.name, seed, epoch, row)
        _check_finite(row["train_loss"], epoch)
        if time.process_time() - started > (experiment.budget.seconds or math.inf):
            break
    problem.finish()
    final = judge.evaluate()
    _check_finite(final.train_loss, len(history))
    timing = {
        "milliseconds_per_step": 1000 * median(steps),
        "seconds": time.process_time() - started,
        "epochs": len(history),
    }
    measurements = {**_described(final, judge, problem, variant), **timing}
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    return RunResult(
        variant.name, variant.label, seed, "finished", None, measurements, tuple(history), weights
    )


def _step(
    model: nn.Module,
    problem: fs.Problem,
    optimizer: Optimizer,
    variant: Variant,
    dataset: Dataset,
    rows: Tensor,
) -> float:
    """One step of the optimizer; returns the processor time that it took."""
    x, y = dataset.x_train[rows], dataset.y_train[rows]
    started = time.process_time()
    optimizer.zero_grad()
    prediction = model(x)
    loss = loss_of(prediction, y, dataset) + regulariser(model, variant.training)
    if problem.constraints:
        loss = problem.loss(loss, values(variant, prediction, rows))
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return time.process_time() - started


def batches(rows: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """All row numbers in random order, so many at a time."""
    order = torch.randperm(rows, generator=generator)
    yield from (order[start : start + size] for start in range(0, rows, size))


def regulariser(model: nn.Module, training: TrainingTable) -> Tensor | float:
    """``l1 · Σ|w| + l2 · Σw²`` over the weight matrices (not the biases), as the network uses them."""
    if training.l1 == training.l2 == 0:
        return 0.0
    matrices = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)]
    absolute = torch.stack([matrix.abs().sum() for matrix in matrices]).sum()
    squared = torch.stack([matrix.square().sum() for matrix in matrices]).sum()
    return training.l1 * absolute + training.l2 * squared


def make_optimizer(training: TrainingTable, model: nn.Module) -> Optimizer:
    """The optimizer over the model's present parameters."""
    parameters, step, decay = model.parameters(), training.learning_rate, training.weight_decay
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=step, weight_decay=decay)
    if training.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=step, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=step, weight_decay=decay, momentum=training.momentum)


def make_schedule(training: TrainingTable, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """How the learning rate changes from epoch to epoch."""
    if training.schedule == "cosine":
        return CosineAnnealingLR(optimizer, epochs)
    return LambdaLR(optimizer, lambda epoch: 1.0)


def _described(final: Evaluation, judge: Judge, problem: fs.Problem, variant: Variant) -> dict[str, Any]:
    """The final measurements and the library's own report."""
    with torch.no_grad():
        report = problem.report(values(variant, judge.predict_train()))
    saturation = [
        (constraint.slot.value().numel(), row.saturation)
        for constraint, row in zip(problem.constraints, report.rows, strict=True)
        if constraint.slot is not None and row.saturation is not None
    ]
    entries = sum(count for count, _ in saturation)
    return {
        **final.to_dict(),
        "dead_weights": sum(count * dead for count, dead in saturation) / entries if entries else None,
        "guarantees": judge.guarantees(report),
        "report": report.to_dict() if problem.constraints else None,
    }


def _check_finite(loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise DivergedError(f"diverged: the training loss was {loss} after epoch {epoch}")
