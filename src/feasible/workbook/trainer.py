"""The training loop that a user of the library would write, around one problem."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler

import feasible as fs
from feasible.workbook.configuration import Variant
from feasible.workbook.data import Dataset, Rows
from feasible.workbook.declaration import declare, values
from feasible.workbook.evaluation import Evaluation, Judge, loss_of, metric_of
from feasible.workbook.models import build_model
from feasible.workbook.tables import TrainingTable


class Trainer:
    """One network, its problem and its optimizer; the seed decides initialisation and order of samples.

    Raises:
        UnsupportedError: a method cannot serve a set.
        InputError: a rule does not fit the network.
    """

    def __init__(self, variant: Variant, dataset: Dataset, seed: int, epochs: int) -> None:
        self.variant = variant
        self.dataset = dataset
        self.model = build_model(variant.model, dataset, seed)
        self.judge = Judge(variant, dataset, self.model)
        self.problem = declare(self.model, variant, dataset, epochs)
        self.optimizer = make_optimizer(variant.training, self.model)
        if self.problem.constraints:
            self.problem.attach(self.optimizer)
        self._schedule = make_schedule(variant.training, self.optimizer, epochs)
        self._order = torch.Generator().manual_seed(seed)
        self._seconds: list[float] = []
        self._train = dataset.train
        self.rounded: float | None = None
        """The held-out metric before polishing."""

    def train_epoch(self) -> Evaluation:
        """One pass over the training rows, and what it led to."""
        for rows in batches(len(self.dataset.x_train), self.variant.training.batch_size, self._order):
            batch = self._train[rows]
            started = time.process_time()
            self._step(batch, rows)
            self._seconds.append(time.process_time() - started)
        self._schedule.step()
        return self.judge.evaluate()

    def _step(self, batch: Rows, index: Tensor) -> None:
        if self.variant.training.optimizer.endswith("lbfgs"):
            self.optimizer.step(lambda: self._backward(batch, index))  # type: ignore[arg-type, return-value]
        else:
            self._backward(batch, index)
            self.optimizer.step()

    def _backward(self, batch: Rows, index: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        prediction = self.model(batch.x)
        loss = loss_of(prediction, batch.y, self.dataset) + regulariser(self.model, self.variant.training)
        if self.problem.constraints:
            handed = values(self.variant, prediction, batch, self.dataset, index)
            loss = self.problem.loss(loss, handed)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def search(self) -> Evaluation:
        """Every member of the sets on weights, each with a training of its own, and what the best led to."""
        table = self.variant.search
        assert table is not None
        choices = {rule.weights: rule.set for rule in self.variant.rules if rule.weights is not None}
        fs.exhaustive_search(
            self.model,
            choices,
            loss=self._loss_of,
            batches=[(self._train.x, self._train.y)],
            steps=table.steps,
            starts=table.starts,
            optimizer=partial(torch.optim.Adam, lr=table.learning_rate),
        )
        return self.judge.evaluate()

    def finish(self) -> Evaluation:
        """Weights into their sets, polished and plain again, then measured."""
        table = self.variant.polish
        if table is not None and self._is_discrete:
            self.rounded = self._rounded_metric()
            self.problem.polish(
                self._all_batches(),
                self._loss_of,
                optimizer=partial(torch.optim.Adam, lr=table.learning_rate),
                steps=table.steps,
            )
        self.problem.finish()
        return self.judge.evaluate()

    @property
    def _is_discrete(self) -> bool:
        return any(constraint.set.discrete for constraint in self.problem.constraints)

    def _all_batches(self) -> list[tuple[Tensor, Tensor]]:
        rows, size = self._train, self.variant.training.batch_size
        numbers = batches(len(rows), size, self._order)
        return [(batch.x, batch.y) for batch in (rows[number] for number in numbers)]

    def _loss_of(self, call: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return loss_of(call(x), y, self.dataset)

    @torch.no_grad()
    def _rounded_metric(self) -> float:
        """The held-out metric if the training ended here, with rounding alone."""
        rounded = build_model(self.variant.model, self.dataset)
        rounded.load_state_dict(self.problem.feasible_state_dict())
        return metric_of(rounded(self.dataset.x_test), self.dataset.y_test, self.dataset)

    @torch.no_grad()
    def describe(self) -> dict[str, Any]:
        """What the library itself says of the final weights, and how long a step took."""
        prediction = self.judge.predict_train()
        report = self.problem.report(values(self.variant, prediction, self._train, self.dataset))
        saturation = [
            (constraint.slot.value().numel(), row.saturation)
            for constraint, row in zip(self.problem.constraints, report.rows, strict=True)
            if constraint.slot is not None and row.saturation is not None
        ]
        entries = sum(count for count, _ in saturation)
        return {
            "dead_weights": sum(count * dead for count, dead in saturation) / entries if entries else None,
            "guarantees": self.judge.guarantees(report),
            "milliseconds_per_step": 1000 * median(self._seconds) if self._seconds else None,
            "rounded_metric": self.rounded,
            "report": report.to_dict() if self.problem.constraints else None,
        }


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
    if training.optimizer == "lbfgs":
        return torch.optim.LBFGS(parameters, lr=step, max_iter=4, line_search_fn="strong_wolfe")
    if training.optimizer == "projected-lbfgs":
        return fs.optim.ProjectedLBFGS(parameters, lr=step, max_iter=4)
    if training.optimizer == "stochastic-lbfgs":
        return fs.optim.ProjectedLBFGS(parameters, lr=step, stochastic=True)
    return torch.optim.SGD(parameters, lr=step, weight_decay=decay, momentum=training.momentum)


def make_schedule(training: TrainingTable, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """How the learning rate changes from epoch to epoch."""
    if training.schedule == "cosine":
        return CosineAnnealingLR(optimizer, epochs)
    return LambdaLR(optimizer, lambda epoch: 1.0)
