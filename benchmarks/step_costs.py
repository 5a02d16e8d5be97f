"""What a constraint costs: a training step against its batch, its width and its number of constraints."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import feasible as fs
from feasible import pde

from .exact_multipliers import in_the_form_of_the_study
from .timing import Line, Run, medians, ratios

PLAIN, STUDY = "the unconstrained step", "the study's form"


class Size(NamedTuple):
    """Of a step."""

    batch: int
    width: int
    constraints: int
    """On each sample."""

    def __str__(self) -> str:
        plural = "" if self.constraints == 1 else "s"
        return f"batch {self.batch}, width {self.width}, {self.constraints} constraint{plural}"


SIZES = [
    *(Size(batch, 100, 1) for batch in (1, 10, 100, 500)),
    *(Size(100, width, 1) for width in (10, 1000)),
    *(Size(10, 100, constraints) for constraints in (10, 100)),
]
"""One of the three is varied at a time."""


def main() -> Iterator[Line]:
    """The step with a soft penalty, with one multiplier on the reduced residuals, and with a multiplier for each."""
    for size in SIZES:
        runs = {
            PLAIN: plain(size),
            "soft penalty": required(size, fs.Penalty(1.0)),
            "reduced multiplier": required(size, fs.ExactMultipliers(), per="sample", reduction=2.0),
            "exact multipliers": required(size, fs.ExactMultipliers()),
        }
        times = medians(runs, rounds=11)
        times[STUDY] = medians({STUDY: study(size)}, rounds=3)[STUDY]
        for name in runs:
            if name != PLAIN:
                yield _line(f"{name}, {size}", times, name, PLAIN)
        first = {name: found[: len(times[STUDY])] for name, found in times.items()}
        yield _line(f"exact multipliers, {size}", first, "exact multipliers", STUDY)


def _line(work: str, times: dict[str, list[float]], name: str, peer: str) -> Line:
    ours, theirs = (1000 * statistics.median(times[key]) for key in (name, peer))
    return Line(work, peer, ratios(times, name, peer), note=f"{ours:.3g} ms against {theirs:.3g} ms")


def setting(size: Size) -> tuple[nn.Module, torch.optim.Optimizer, Callable[[], tuple[Tensor, Tensor]]]:
    """A network of so many outputs, Adam, and what gives the loss and the Helmholtz residuals (batch, outputs)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, size.width), nn.Tanh(), nn.Linear(size.width, size.constraints))
    x = torch.rand(size.batch, 1)
    k = torch.linspace(1, 5, size.constraints) * 2 * math.pi
    y = torch.sin(k * x)

    def evaluate() -> tuple[Tensor, Tensor]:
        u = pde.derivatives(model, x, wanted=["value", "laplacian"])
        return (u.value - y).square().mean(), u.laplacian / k.square() + u.value

    return model, torch.optim.Adam(model.parameters(), lr=1e-3), evaluate


def plain(size: Size) -> Run:
    """The step on the data alone."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, size.width), nn.Tanh(), nn.Linear(size.width, size.constraints))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = torch.rand(size.batch, 1)
    y = torch.sin(torch.linspace(1, 5, size.constraints) * 2 * math.pi * x)

    def step() -> None:
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()

    return step


def required(size: Size, by: Any, **how: Any) -> Run:
    """The step with the residuals required to be 0."""
    model, optimizer, evaluate = setting(size)
    problem = fs.Problem(model)
    problem.require("residual", fs.Equal(0.0), by=by, **how)
    problem.attach(optimizer)

    def step() -> None:
        optimizer.zero_grad()
        loss, residual = evaluate()
        problem.loss(loss, residual=residual).backward()
        optimizer.step()

    return step


def study(size: Size) -> Run:
    """The step as the study took it, all residuals at once."""
    model, optimizer, evaluate = setting(size)
    return in_the_form_of_the_study(model, optimizer, evaluate)
