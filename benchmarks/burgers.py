"""Burgers' equation with ν = 0.01/π: time slabs against one network, by relative L2 error and process seconds.

``u_t + u u_x = ν u_xx`` on [−1, 1] × [0, 1], ``u(x, 0) = −sin πx``, zero at both ends. What a user knows is built in:
the ends, and that u is odd in x, so that half of the strip is enough. The truth is the Cole–Hopf integral by the
trapezoidal rule, which is exact to rounding here. Errors are on 128 × 100 points.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import cast

import torch
from torch import Tensor, nn

from feasible import pde

from .timing import Line

SECONDS = float(os.environ.get("FEASIBLE_BURGERS_SECONDS", "200"))
"""Process time of each run of the peers; the slabs take what they take."""
SEEDS = tuple(range(int(os.environ.get("FEASIBLE_BURGERS_SEEDS", "2"))))
GOAL = 1e-5
VISCOSITY = 0.01 / math.pi
STRIP = pde.TimeCylinder(pde.Interval(0.0, 1.0), 0.0, 1.0)


class Odd(nn.Module):
    """``(1 − x²) (N(x, t) − N(−x, t))``: zero at −1, 0 and 1, for all weights.

    Args:
        width: of two hidden layers.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        self.network = nn.Sequential(*layers, nn.Linear(width, 1, bias=False)).double()

    def forward(self, x: Tensor) -> Tensor:
        """u at points (x, t)."""
        place, when = x[:, :1], 2 * x[:, 1:] - 1
        right = self.network(torch.cat([place, when], 1))
        left = self.network(torch.cat([-place, when], 1))
        return cast(Tensor, (1 - place**2) * (right - left))


def burgers(viscosity: float, points: int) -> pde.System:
    """The equation and its start, on the right half."""
    start = pde.Initial(STRIP, "start", lambda x: -torch.sin(math.pi * x[:, :1]))
    equation = pde.Burgers(viscosity)
    return pde.System(equation, STRIP, [start], points, weights=[1.0, 10.0], dtype=torch.float64)


def cole_hopf(points: Tensor, viscosity: float = VISCOSITY, count: int = 4001) -> Tensor:
    """The solution at points (x, t), (n, 1)."""
    z = torch.linspace(-16, 16, count, dtype=torch.float64)
    parts = []
    for part in points.split(1000):
        y = part[:, :1] - 2 * torch.sqrt(viscosity * part[:, 1:]) * z
        exponent = -torch.cos(math.pi * y) / (2 * math.pi * viscosity) - z**2
        weight = torch.exp(exponent - exponent.amax(1, keepdim=True))
        parts.append(-(torch.sin(math.pi * y) * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True))
    return torch.cat(parts)


@dataclass
class Judge:
    """Relative L2 errors."""

    points: Tensor
    truth: Tensor

    def __call__(self, model: nn.Module) -> float:
        """Of a solution."""
        with torch.no_grad():
            return float((model(self.points) - self.truth).norm() / self.truth.norm())


def judge() -> Judge:
    """On a regular grid."""
    x, t = (torch.linspace(0, 1, count, dtype=torch.float64) for count in (128, 100))
    points = torch.cartesian_prod(x, t)
    return Judge(points, cole_hopf(points))


def by_slabs(generator: torch.Generator) -> nn.Module:
    """Ten slabs, halved where they are not solved, 2 × 20 units each."""
    solve = partial(pde.collocate, tol=3e-5, rounds=20, generator=generator)
    return pde.march(burgers(VISCOSITY, 1500), Odd(20), 10, solve).solution


def at_once(is_linear: bool, generator: torch.Generator) -> nn.Module:
    """One network with 2 × 28 units (896 parameters) for the whole strip, on adaptive points; its start is built in."""
    known = burgers(VISCOSITY, 4000)
    odd = Odd(28)
    model = pde.hard(odd, *known.conditions)
    system = pde.System(known.equation, STRIP, points=known.points)
    linear = list(odd.network[-1].parameters()) if is_linear else []
    pde.collocate(model, system, tol=1e-9, rounds=10_000, seconds=SECONDS, linear=linear, generator=generator)
    return model


WAYS: dict[str, Callable[[torch.Generator], nn.Module]] = {
    "time slabs": by_slabs,
    "one network": partial(at_once, False),
    "one network, last layer eliminated": partial(at_once, True),
}


def reached(way: str, seed: int, error: Judge) -> tuple[float, float]:
    """The relative error of a way, and the process seconds that it took."""
    torch.manual_seed(seed)
    start = time.process_time()
    solution = WAYS[way](torch.Generator().manual_seed(seed))
    seconds = time.process_time() - start
    found = error(solution)
    print(f"    {way}, seed {seed}: {found:.1e} in {seconds:.0f} CPU s", flush=True)
    return found, seconds


def main() -> Iterator[Line]:
    """Errors of the slabs over errors of the peers."""
    torch.set_num_threads(1)
    error = judge()
    runs = {way: [reached(way, seed, error) for seed in SEEDS] for way in WAYS}
    ours, *peers = runs.items()
    for peer, others in peers:
        pairs = list(zip(ours[1], others, strict=True))
        ratios = tuple(sorted(a / b for (a, _), (b, _) in pairs))
        errors, seconds = zip(*ours[1], strict=True)
        shown = (
            f"error {median(errors):.1e} (worst {max(errors):.1e}; goal {GOAL:.0e}) in {max(seconds):.0f} CPU s / "
            f"{median(other for other, _ in others):.1e} in {max(spent for _, spent in others):.0f}"
        )
        yield Line("Burgers, ν = 0.01/π, time slabs", peer, ratios, note=shown)
