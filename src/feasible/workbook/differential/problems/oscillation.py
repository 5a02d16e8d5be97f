"""The 2019 study's problem: oscillations of any amplitude, frequency and phase, from labels and an equation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, final, get_args

import torch
from torch import Tensor

from feasible import pde
from feasible.workbook.differential.checks import at_least, one_of
from feasible.workbook.differential.problems.problem import Posed, ProblemDefinition, Shown
from feasible.workbook.differential.rows import Columns, Rows
from feasible.workbook.errors import InputError

__all__ = ["Oscillation"]

Law = Literal["helmholtz", "pythagorean"]
Residual = Callable[..., Tensor]
LOW, HIGH = (-1.0, 0.2, 0.2, -0.5), (1.0, 5.0, 5.0, 0.5)
"""The box of (x, A, f, φ) that the labels come from."""
QUERY = (1.0, 1.0, 0.0)
"""A, f and φ of the test; f = 1 is not on the grid of the labels."""
QUERIES = 50
"""Random inputs over which outputs must differ, the same for every seed."""


@final
@dataclass(frozen=True)
class Oscillation(ProblemDefinition):
    """``u(x; A, f, φ) = A sin(2πf x + φ)`` on [−1, 1], learned from labels on a grid of (A, f, φ) and an equation.

    Solutions are compared at A = 1, f = 1, φ = 0, where the root mean square of u is 0.706; there the equation is held
    out, too, between the points of the test. The study's network has seen neither this frequency nor ``f x``.

    Args:
        equation: ``"helmholtz"``: ``u″ + (2πf)² u = 0``, in units of (2πf)²; ``"pythagorean"``:
            ``(2πf u)² + u′² = (2πf A)²``, in units of (2πf A)² (the study's code left A out).
        grid: how many values each of A, f and φ has.
        points: random x for each of their combinations.
        labels: how many of all these labels there are, picked at random; ``None``: all of them.
        collocation: how many random points of the whole box (x, A, f, φ) the equation has; ``None``: those of the
            labels, as in the study.
        conditions: how many random inputs have the rows ``u(0) = A sin φ`` and ``u′(0)/2πf = A cos φ``, which the study
            did not use: with them the equation decides on the solution, and labels are not needed.
        relative: whether all of these rows are in units of A, so that small amplitudes count as much as large ones; in
            the study they did not.
        test_points: where the solution is compared, equally spaced.

    Raises:
        InputError: there is no such equation, or a number is out of its range.

    Source: Jergensen, *Constrained Neural Nets Workbook* (2019).
    """

    equation: Law = "helmholtz"
    grid: int = 10
    points: int = 50
    labels: int | None = None
    collocation: int | None = None
    conditions: int = 0
    relative: bool = False
    test_points: int = 500
    metric = "mean squared error"

    def __post_init__(self) -> None:
        one_of(self, "equation", get_args(Law))
        at_least(self, grid=2, points=1, labels=1, collocation=1, conditions=0, test_points=2)
        total = self.grid**3 * self.points
        if self.labels is not None and self.labels > total:
            message = f"labels must be at most grid³ · points = {total:,}, got {self.labels:,}."
            raise InputError(message, key=("labels",))

    def make(self, seed: int) -> Posed:
        """Each seed has its own x, labels and collocation points."""
        generator = torch.Generator().manual_seed(seed)
        x, inputs = self._labelled(generator)
        points = (x, inputs) if self.collocation is None else box(self.collocation, generator)
        rows = [
            Rows("labels", "data", self._in_units(_misfit), (x, inputs, oscillation(x, inputs))),
            Rows("equation", "equation", self._law(), points, box),
        ]
        if self.conditions:
            first = start(self.conditions, generator)
            for name, residual in {"start": _start, "slope": _slope}.items():
                rows.append(Rows(name, "condition", self._in_units(residual), first, start))
        test = pde.grid(pde.Interval(LOW[0], HIGH[0]), self.test_points, dtype=torch.float64)
        columns = (test, torch.tensor([QUERY], dtype=torch.float64).expand(len(test), -1))
        between = ((test[1:] + test[:-1]) / 2, columns[1][1:])  # a way may project at points of the test
        reference = oscillation(*columns)
        queries = list(box(QUERIES, torch.Generator().manual_seed(0))[1].unsqueeze(1))
        return Posed(
            rows,
            Rows("equation", "equation", self._law(), between),
            columns,
            reference,
            pde.Interval(LOW[0], HIGH[0]),
            Shown(columns, [("x", test[:, 0])], reference),
            is_linear=self.equation == "helmholtz",
            inputs=len(QUERY),
            queries=queries,
            query_reference=[oscillation(test, query.expand(len(test), -1)) for query in queries],
        )

    def solution(self, x: Tensor, *inputs: Tensor) -> Tensor:
        """``A sin(2πf x + φ)``."""
        return oscillation(x, *inputs)

    def _labelled(self, generator: torch.Generator) -> Columns:
        """Random x at every node of the grid over (A, f, φ), or a part of them."""
        axes = [
            torch.linspace(low, high, self.grid, dtype=torch.float64)
            for low, high in zip(LOW[1:], HIGH[1:], strict=True)
        ]
        inputs = torch.cartesian_prod(*axes).repeat_interleave(self.points, 0)
        x, _ = box(len(inputs), generator)
        if self.labels is None:
            return x, inputs
        index = torch.randperm(len(inputs), generator=generator)[: self.labels]
        return x[index], inputs[index]

    def _law(self) -> Residual:
        if self.equation == "helmholtz":
            return self._in_units(pde.Helmholtz(wave_number))
        return pde.Pythagorean(wave_number, amplitude=lambda x, inputs: inputs[:, :1])

    def _in_units(self, residual: Residual) -> Residual:
        """The same rows, divided by A where they are to be."""
        if not self.relative:
            return residual
        return lambda model, x, inputs, *labels: residual(model, x, inputs, *labels) / inputs[:, :1]


def oscillation(x: Tensor, inputs: Tensor) -> Tensor:
    """``A sin(2πf x + φ)``, (n, 1), for the rows (A, f, φ) of ``inputs``."""
    amplitude, phase = inputs[:, :1], inputs[:, 2:]
    return amplitude * torch.sin(wave_number(x, inputs) * x + phase)


def wave_number(x: Tensor, inputs: Tensor) -> Tensor:
    """``2πf``, (n, 1)."""
    return 2 * math.pi * inputs[:, 1:2]


def box(count: int, generator: torch.Generator) -> Columns:
    """Points x, (n, 1), and inputs (A, f, φ), (n, 3), uniform over the box."""
    low, high = (torch.tensor(corner, dtype=torch.float64) for corner in (LOW, HIGH))
    points = low + (high - low) * torch.rand(count, len(LOW), generator=generator, dtype=torch.float64)
    return points[:, :1], points[:, 1:]


def start(count: int, generator: torch.Generator) -> Columns:
    """Points x = 0, and inputs uniform over the box."""
    x, inputs = box(count, generator)
    return torch.zeros_like(x), inputs


def _misfit(model: Any, x: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
    residual: Tensor = model(x, inputs) - labels
    return residual


def _start(model: Any, x: Tensor, inputs: Tensor) -> Tensor:
    """``u(0) − A sin φ``, (n, 1)."""
    value: Tensor = model(x, inputs) - inputs[:, :1] * inputs[:, 2:].sin()
    return value


def _slope(model: Any, x: Tensor, inputs: Tensor) -> Tensor:
    """``u′(0)/2πf − A cos φ``, (n, 1)."""
    slope = pde.derivatives(model, x, inputs, wanted=["gradient"]).gradient[:, :, 0]
    return slope / wave_number(x, inputs) - inputs[:, :1] * inputs[:, 2:].cos()
