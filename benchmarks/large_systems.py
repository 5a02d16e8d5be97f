"""100,000 collocation points and a million parameters: seconds and memory, by products with the Jacobian in parts.

Each row is a process of its own, so that its peak of memory is its own. The whole graph of the residual over all points
would be some hundred GiB.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn

import feasible as fs
from feasible import pde
from feasible.optim.parts import ProductsOfParts

from .timing import Line

POINTS = int(os.environ.get("FEASIBLE_LARGE_POINTS", "100000"))
WIDTH = int(os.environ.get("FEASIBLE_LARGE_WIDTH", "1000"))
PART = 1000
ROUNDS = 2
"""Of LSMR in a step: enough to see what one costs."""
LIMIT = 8.0
"""GiB."""


def main() -> Iterator[Line]:
    """One line for each dtype and solver."""
    for solver in SOLVERS:
        for dtype in ("float32", "float64"):
            command = [sys.executable, "-m", "benchmarks.large_systems", solver, dtype]
            ran = subprocess.run(
                command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
            )
            found = json.loads(ran.stdout)
            note = (
                f"{found['gibibytes']:.2f} GiB (goal {LIMIT:.0f}), {found['times']:.0f} s for J v, "
                f"{found['transposed']:.0f} s for Jᵀ w, {found['seconds']:.0f} s in all; residual "
                f"{found['before']:.3g} → {found['after']:.3g}"
            )
            work = f"{solver}, {found['points']:,} points × {found['parameters']:,}, {dtype}"
            yield Line(work, "none", note=note)


def posed(dtype: torch.dtype) -> tuple[nn.Module, pde.System]:
    """Helmholtz on a square, zero on one side, for layers of 2-n-n-1."""
    torch.manual_seed(0)
    layers = nn.Linear(2, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1)
    square = pde.Rectangle((0, 0), (1, 1))
    side = pde.Dirichlet(square, "left", lambda x: torch.sin(torch.pi * x[:, 1:]))
    system = pde.System(pde.Helmholtz(torch.pi), square, [side], points=POINTS, dtype=dtype)
    return nn.Sequential(*layers).to(dtype), system


def step(network: nn.Module, system: pde.System) -> tuple[float, float]:
    """One of ``LevenbergMarquardt``."""
    optimizer = fs.optim.LevenbergMarquardt(
        network.parameters(), jacobian="products", solver_rounds=ROUNDS, max_trials=1
    )
    optimizer.step([partial(part, network) for part in system.chunks(PART)])
    return optimizer.last.loss, optimizer.last.new_loss


def projection(network: nn.Module, system: pde.System) -> tuple[float, float]:
    """One step of ``project_parameters``."""
    parts = [(part, fs.Equal(0.0)) for part in system.chunks(PART)]
    result = fs.project_parameters(
        network, parts, method="matrix-free", max_iterations=1, solver_rounds=ROUNDS
    )
    return result.residual


SOLVERS: dict[str, Callable[[nn.Module, pde.System], tuple[float, float]]] = {
    "LevenbergMarquardt": step,
    "project_parameters": projection,
}


def run(solver: str, dtype: torch.dtype) -> dict[str, float]:
    """What is reported, from one process."""
    torch.set_num_threads(1)
    network, system = posed(dtype)
    start = time.process_time()
    before, after = SOLVERS[solver](network, system)
    seconds = time.process_time() - start
    parts = [partial(part, network) for part in system.chunks(PART)]
    parameters = list(network.parameters())
    products = ProductsOfParts(parts, torch.zeros(0, dtype=dtype), None, parameters, 1e-4, ROUNDS)
    start = time.process_time()
    w = products.times(torch.ones(products.columns, dtype=dtype))
    middle = time.process_time()
    products.transposed(w)
    return {
        "points": POINTS,
        "parameters": products.columns,
        "seconds": seconds,
        "times": middle - start,
        "transposed": time.process_time() - middle,
        "before": before,
        "after": after,
        "gibibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], getattr(torch, sys.argv[2]))))
