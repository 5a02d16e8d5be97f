"""Train by another way, then move the parameters as little as possible to where the equation holds."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

import feasible as fs
from feasible.solve.projection import ProjectionResult
from feasible.workbook.differential.checks import above_zero, at_least, one_of
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.differential.rows import Rows, root_mean_square
from feasible.workbook.differential.ways.way import Solved, Way
from feasible.workbook.errors import InputError
from feasible.workbook.tasks.task import is_kept

__all__ = ["Projected"]


@final
@dataclass(frozen=True)
class Projected(Way):
    """``project_parameters`` after a training, in float64 whatever the network was trained in.

    What the projection obeys it obeys at its points, and what it does elsewhere is another matter: at points of the
    test it answers one query. Unknown coefficients stay as they were trained. The records follow its course.

    Args:
        first: the way that trains.
        share: of the budget of epochs and seconds, for the first way; the projection has its own limit.
        at: where the equation is to hold: at its own ``"training"`` points, or at the ``"test"`` points.
        points: how many of the test points, evenly picked.
        conditions: whether the conditions are to hold, too.
        metric: what is moved as little as possible: the ``"parameters"``, or the ``"outputs"`` at these points.
        parameters: which parameters move: a pattern of names.
        tolerance: the largest residual that counts as none; ``None``: 1e-8.
        method: of ``project_parameters``; ``"adam"``: the study's own, Adam on the mean squared residual.
        max_iterations: of the projection; ``None``: 100, and 10,000 of Adam.
        learning_rate: of Adam.

    Raises:
        InputError: a number is out of its range, or a word is unknown.
    """

    first: Way
    share: float = 0.8
    at: Literal["training", "test"] = "training"
    points: int = 500
    conditions: bool = True
    metric: Literal["parameters", "outputs"] = "parameters"
    parameters: str = "*"
    tolerance: float | None = None
    method: Literal["auto", "dense", "matrix-free", "adam"] = "auto"
    max_iterations: int | None = None
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        above_zero(self, "share", "tolerance", "learning_rate")
        at_least(self, points=1, max_iterations=1)
        one_of(self, "at", ("training", "test"))
        one_of(self, "metric", ("parameters", "outputs"))
        one_of(self, "method", ("auto", "dense", "matrix-free", "adam"))
        if self.share > 1:
            raise InputError(f"share must be at most 1, got {self.share}.", key=("share",))

    def solve(self, posed: Posed, network: nn.Module, monitor: Monitor, generator: torch.Generator) -> Solved:
        """The first way, then the projection."""
        with share_of_budget(monitor, self.share):
            model = self.first.solve(posed, network, monitor, generator).model
        model.zero_grad()
        course = Course()
        model, posed = model.double(), posed.to(torch.float64)
        for name in posed.unknowns:
            model.get_parameter(name).requires_grad_(False)  # it says what the equation is
        with monitor.section("projection"), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            result = self._project(posed, model, course)
        course.show(model, monitor)
        before, after = result.residual
        collapsed = "; the outputs collapsed" if warned else ""
        return Solved(
            model,
            f"residual {before:.1e} → {after:.1e} at {self.at} points, "
            f"moved by {result.relative_move:.2g} of ‖θ‖{collapsed}",
        )

    def _project(self, posed: Posed, model: nn.Module, course: Course) -> ProjectionResult:
        equations = self._equations(posed)
        obeyed = [*equations, *(posed.of_kind("condition") if self.conditions else ())]
        constraints: list[Any] = [(_noted(rows, course), fs.Equal(0.0)) for rows in obeyed]
        places = [rows.columns[: 1 + bool(posed.inputs)] for rows in equations]
        return fs.project_parameters(
            model,
            constraints,
            self.parameters,
            metric=self.metric,
            points=tuple(torch.cat(columns) for columns in zip(*places, strict=True)),
            tol=self.tolerance,
            method=self.method,
            max_iterations=self.max_iterations,
            learning_rate=self.learning_rate,
        )

    def _equations(self, posed: Posed) -> list[Rows]:
        """The equation at the points where it is to hold."""
        if self.at == "training":
            return posed.of_kind("equation")
        count = len(posed.test[0])
        index = torch.linspace(0, count - 1, min(self.points, count)).round().long()
        columns = tuple(column[index] for column in posed.test)
        return [replace(rows, columns=columns, draw=None) for rows in posed.of_kind("equation")]


@contextmanager
def share_of_budget(monitor: Monitor, share: float) -> Iterator[None]:
    """Inside the block there are only so many epochs and seconds."""
    whole = monitor.budget
    part: dict[str, float] = {"epochs": max(1, round(share * whole.epochs))}
    if whole.seconds is not None:
        part["seconds"] = share * whole.seconds
    monitor.budget = whole.model_copy(update=part)
    try:
        yield
    finally:
        monitor.budget = whole


@dataclass
class Course:
    """The parameters of a projection whenever its rows were smaller than ever before: other trials are no steps."""

    least: float = math.inf
    steps: int = 0
    places: list[tuple[int, list[Tensor]]] = field(default_factory=list)

    def note(self, model: nn.Module, size: float) -> None:
        """The model is here; of many steps, ever rarer ones are kept."""
        if size < self.least:
            self.least = size
            self.steps += 1
            if is_kept(self.steps):
                self.places.append((self.steps, [p.detach().clone() for p in model.parameters()]))

    def show(self, model: nn.Module, monitor: Monitor) -> None:
        """All that was kept, and the end; the model stays there."""
        twin = copy.deepcopy(model)
        for step, place in [*self.places, (self.steps + 1, [p.detach() for p in model.parameters()])]:
            with torch.no_grad():
                for parameter, value in zip(twin.parameters(), place, strict=True):
                    parameter.copy_(value)
            monitor.follow(twin, step)


def _noted(rows: Rows, course: Course) -> Any:
    """The rows, whose evaluations are noted."""

    def residual(model: nn.Module) -> Tensor:
        values = rows(model)
        if rows.kind == "equation":
            course.note(model, root_mean_square(values))
        return values

    return residual
