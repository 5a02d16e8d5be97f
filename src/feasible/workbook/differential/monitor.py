"""What is watched while a way runs: error and residual, percentiles, predictions, and where the time goes.

The records, by their names in ``records.safetensors``; a look is a row of the history:

- ``epochs`` (looks,)
- ``percentiles.residual``, ``percentiles.size of the residual`` (at points that are not trained on),
  ``percentiles.parameters``, ``percentiles.gradients``, ``percentiles.updates`` (of a single epoch): (looks, 101)
- ``predictions`` (looks, points, outputs), at the points that are shown
- ``trajectory.steps``, ``trajectory.residual``, ``trajectory.error`` (steps,) and ``trajectory.solution`` (steps,
  points, outputs): a projection that was followed. A way may ``keep`` other ``trajectory.NAME`` (steps,) beside them.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import torch
from torch import Tensor, nn

from feasible.workbook.differential.measurement import error, evaluated, predicted
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.differential.rows import root_mean_square
from feasible.workbook.progress import Progress
from feasible.workbook.results import History
from feasible.workbook.tables import BudgetTable
from feasible.workbook.tasks.task import is_kept

PERCENTILES = torch.linspace(0, 1, 101, dtype=torch.float64)


class Monitor:
    """The clock of a run, its history, and its records.

    What the monitor itself needs does not count as time of the run.

    Args:
        posed: the problem.
        metric: of the problem.
        budget: how many epochs or iterations, and how many seconds of processor time.
        history: is filled.
        name: of the way.
        seed: of the run.
        progress: is told of every row of the history.
    """

    def __init__(
        self, posed: Posed, metric: str, budget: BudgetTable, history: History, name: str, seed: int, progress: Progress
    ) -> None:  # fmt: skip
        self.posed, self.metric, self.budget, self.history = posed, metric, budget, history
        self.name, self.seed, self.progress = name, seed, progress
        self.sections: dict[str, float] = defaultdict(float)
        """Seconds by what they were spent on."""
        self._inside = 0.0  # seconds of sections within the present one
        self._epochs: list[float] = []  # seconds
        self._records: dict[str, list[Tensor]] = defaultdict(list)
        self._before: tuple[int, Tensor] | None = None
        self._started, self._watching = time.process_time(), 0.0

    @property
    def seconds(self) -> float:
        """Processor time of the run."""
        return time.process_time() - self._started - self._watching

    @property
    def seconds_left(self) -> float:
        """Of the budget."""
        return (self.budget.seconds or math.inf) - self.seconds

    @property
    def milliseconds_per_epoch(self) -> float | None:
        """The median; ``None``: there are no epochs."""
        return 1000 * median(self._epochs) if self._epochs else None

    def epochs(self, model: nn.Module) -> Iterator[int]:
        """Count 1, 2, … until the budget is used up; the model is looked at after the first ones, then ever rarer."""
        self.look(model, 0)
        epoch = 0
        while epoch < self.budget.epochs and self.seconds_left > 0:
            epoch += 1
            started = self.seconds
            yield epoch
            self._epochs.append(self.seconds - started)
            is_last = epoch == self.budget.epochs or self.seconds_left <= 0
            if is_kept(epoch) or is_last:
                self.look(model, epoch)

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Time that is spent on one thing; that of a section within it counts there alone."""
        started, outside, self._inside = self.seconds, self._inside, 0.0
        try:
            yield
        finally:
            spent = self.seconds - started
            self.sections[name] += spent - self._inside
            self._inside = outside + spent

    def look(self, model: nn.Module, epoch: int) -> None:
        """One row of the history, and one of every record."""
        started, seconds = time.process_time(), self.seconds
        residual = evaluated(self.posed.held_out, model)
        row = {
            "epoch": float(epoch),
            "seconds": seconds,
            "train_loss": sum(root_mean_square(evaluated(rows, model)) ** 2 for rows in self.posed.rows),
            "test_metric": error(self.posed, model, self.metric),
            "worst_violation": float(residual.abs().max()),
            "residual": root_mean_square(residual),
            "output_rms": root_mean_square(predicted(model, *self.posed.test)),
        }
        self.history.append(row)
        self.progress.epoch_finished(self.name, self.seed, epoch, row)
        self._record(model, epoch, residual)
        self._watching += time.process_time() - started

    def follow(self, model: nn.Module, step: int) -> None:
        """Where a projection was at a step."""
        started = time.process_time()
        posed = self.posed.to(next(model.parameters()).dtype)
        self.keep("trajectory.steps", torch.tensor(float(step)))
        self.keep("trajectory.residual", torch.tensor(root_mean_square(evaluated(posed.held_out, model))))
        self.keep("trajectory.error", torch.tensor(error(posed, model, self.metric)))
        self.keep("trajectory.solution", predicted(model, *posed.shown.columns))
        self._watching += time.process_time() - started

    def keep(self, name: str, value: Tensor) -> None:
        """One more row of a record, in single precision: it is for plots."""
        self._records[name].append(value.detach().float().clone())

    def records(self) -> dict[str, Tensor]:
        """Everything that was recorded, the rows of each name stacked."""
        return {name: torch.stack(rows) for name, rows in self._records.items() if rows}

    def _record(self, model: nn.Module, epoch: int, residual: Tensor) -> None:
        parameters = list(model.parameters())
        values = _flat([parameter.detach() for parameter in parameters])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self.keep("epochs", torch.tensor(float(epoch)))
        self.keep("percentiles.residual", _percentiles(residual))
        self.keep("percentiles.size of the residual", _percentiles(residual.abs()))
        self.keep("percentiles.parameters", _percentiles(values))
        self.keep("percentiles.gradients", _percentiles(_flat(gradients)))
        since, before = self._before or (epoch, values)
        is_comparable = epoch > since and before.shape == values.shape
        update = (values - before) / (epoch - since) if is_comparable else values.new_zeros(0)
        self.keep("percentiles.updates", _percentiles(update))
        self.keep("predictions", predicted(model, *self.posed.shown.columns))
        self._before = (epoch, values)


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1).double() for tensor in tensors]) if tensors else torch.zeros(0)


def _percentiles(values: Tensor) -> Tensor:
    """101 percentiles; NaN where there are no numbers, or not only finite ones."""
    values = values.reshape(-1).double()
    if not len(values) or not bool(values.isfinite().all()):
        return torch.full_like(PERCENTILES, math.nan)
    ordered = values.sort().values  # torch.quantile has a limit on its size
    return ordered[((len(ordered) - 1) * PERCENTILES).round().long()]
