"""The 1-D Helmholtz equation on a small network: what each optimizer reaches in the same CPU seconds.

Ratios of errors, not of times: relative L2 errors on 1,001 points after as many seconds of process time, one pair a
seed. Below them, milliseconds an iteration of the forms of the Jacobian, as a ratio of times like everywhere.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

import feasible as fs
from feasible.optim.residuals import Linearisation, Residual
from feasible.optim.vector import Vector

from .timing import Line, against

SECONDS = float(os.environ.get("FEASIBLE_HELMHOLTZ_SECONDS", "10"))
"""Process time of each run; 30 for the row of the yardsticks."""
SEEDS = (0, 1, 2)
GOAL = 3e-7
WAVE = 4 * math.pi
Step = Callable[[], object]


class Helmholtz:
    """``u″ + k² u = f`` on [0, 1] with u(0) and u′(1) given; ``u = (1 + x) sin kx + x²``, k = 4π, 1-32-32-1 tanh."""

    def __init__(self, seed: int, points: int = 200) -> None:
        torch.manual_seed(seed)
        layers = nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
        self.model = nn.Sequential(*layers).double()
        self.x = torch.linspace(0, 1, points, dtype=torch.float64)[:, None]
        self.source = 2 * WAVE * torch.cos(WAVE * self.x) + 2 + (WAVE * self.x) ** 2
        self.grid = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
        self.truth = (1 + self.grid) * torch.sin(WAVE * self.grid) + self.grid**2

    def residual(self) -> Tensor:
        """The rows u(0), u′(1)/k and the equation's, divided by k²√N."""
        x, end = self.x.clone().requires_grad_(), self.x[-1:].clone().requires_grad_()
        u, at_end = self.model(x), self.model(end)
        (first,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
        (slope,) = torch.autograd.grad(at_end.sum(), end, create_graph=True)
        equation = (second + WAVE**2 * u - self.source) / (WAVE**2 * math.sqrt(len(x)))
        return torch.cat([self.model(self.x[:1]), (slope - 2 * WAVE - 2) / WAVE, equation]).squeeze(1)

    def error(self) -> float:
        """Relative L2 error."""
        with torch.no_grad():
            return float((self.model(self.grid) - self.truth).norm() / self.truth.norm())


def gauss_newton(task: Helmholtz) -> Step:
    optimizer = fs.optim.LevenbergMarquardt(task.model.parameters())
    return partial(optimizer.step, task.residual)


def minimised(make: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer], task: Helmholtz) -> Step:
    optimizer = make(task.model.parameters())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 0.5 * task.residual().square().sum()
        loss.backward()
        return loss

    return partial(optimizer.step, closure)


def lbfgs(parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(
        parameters, history_size=50, line_search_fn="strong_wolfe", tolerance_grad=0, tolerance_change=0
    )


OURS = {"LevenbergMarquardt": gauss_newton, "SSBroyden": partial(minimised, fs.optim.SSBroyden)}
PEERS = {
    "torch.optim.LBFGS": partial(minimised, lbfgs),
    "torch.optim.Adam": partial(minimised, partial(torch.optim.Adam, lr=1e-3)),
}


def reached(make: Callable[[Helmholtz], Step], seed: int, seconds: float) -> float:
    """The error after so many seconds of process time."""
    task = Helmholtz(seed)
    step = make(task)
    start = time.process_time()
    while time.process_time() - start < seconds:
        step()
    return task.error()


def forms() -> Iterator[Line]:
    """The Jacobian of 202 rows by 1,153 weights, per sample and by batched products."""
    task = Helmholtz(0)
    vector = Vector(list(task.model.parameters()))
    runs = {}
    for form in ("per-sample", "batched"):
        linearisation = Linearisation(vector, form, None, 1e-4, 100)  # type: ignore[arg-type]
        runs[form] = partial(linearisation.at, Residual(task.residual, None, torch.device("cpu")))
    gradient = partial(_gradient, task)
    yield from against(
        "Jacobian 202 × 1,153, per sample",
        runs["per-sample"],
        {"batched vjp": runs["batched"], "one gradient": gradient},
        goals={"batched vjp": 0.1},
        rounds=11,
    )


def _gradient(task: Helmholtz) -> None:
    task.residual().square().sum().backward()


def main() -> Iterator[Line]:
    """Errors of ours over errors of the peers; then the forms of the Jacobian."""
    torch.set_num_threads(1)
    peers = {name: [reached(make, seed, SECONDS) for seed in SEEDS] for name, make in PEERS.items()}
    for ours, make in OURS.items():
        errors = [reached(make, seed, SECONDS) for seed in SEEDS]
        for peer, others in peers.items():
            ratios = tuple(sorted(a / b for a, b in zip(errors, others, strict=True)))
            shown = f"error {median(errors):.1e} (worst {max(errors):.1e}; goal {GOAL:.0e}) / {median(others):.1e}"
            yield Line(f"Helmholtz 1-D, {SECONDS:g} CPU s, {ours}", peer, ratios, note=shown)
    yield from forms()
