"""``project_parameters`` on Helmholtz equations: the last layer in one solve, and a trained network beside Adam."""

from __future__ import annotations

import copy
import math
import resource
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import feasible as fs

from .timing import Line

K = 4 * math.pi
ADAM_STEPS = 2000
RIDGE = 2e-6
"""About 1e-9 of the Jacobian: of what labels and equation can hardly tell apart, the smooth solution."""


def main() -> Iterator[Line]:
    """Lines with the seconds and errors in their notes; ratios where both sides were timed."""
    torch.set_num_threads(1)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for units in (64, 256):
            yield last_layer(units)
        yield square()
        yield waves()
        yield after_training()
    finally:
        torch.set_default_dtype(default)


def seconds(run: Callable[[], object]) -> tuple[float, object]:
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def derivatives(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value, gradient and Laplacian."""
    x = x.clone().requires_grad_()
    u = model(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    bends = [torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1])]
    return u, slope, sum(bends)[:, None]


def solution(x: Tensor) -> Tensor:
    return (1 + x) * torch.sin(K * x) + x**2


def line(count: int = 200) -> list:
    """The 1-D row: u″ + k² u = f, with u(0) and u′(1)/k."""
    x = torch.linspace(0, 1, count)[:, None]
    f = 2 * K * torch.cos(K * x) + 2 + K**2 * x**2

    def residual(model: nn.Module) -> Tensor:
        u, _, laplacian = derivatives(model, x)
        return (laplacian + K**2 * u - f) / K**2 / math.sqrt(count)

    return [
        (residual, fs.Equal(0.0)),
        (lambda model: model(x[:1]), fs.Equal(0.0)),
        (lambda model: derivatives(model, x[-1:])[1] / K, fs.Equal(2 + 2 / K)),
    ]


def error(model: nn.Module) -> float:
    x = torch.linspace(0, 1, 1001)[:, None]
    with torch.no_grad():
        return float((model(x) - solution(x)).norm() / solution(x).norm())


def last_layer(units: int) -> Line:
    errors, times = [], []
    rows = line()
    for seed in range(3):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(1, units), nn.Tanh(), nn.Linear(units, 1))
        fs.pde.init_features_(model[0], ([0.0], [1.0]), 10.0)
        used, _ = seconds(lambda: fs.project_parameters(model, rows, "2.*"))  # noqa: B023
        times.append(used)
        errors.append(error(model))
    told = " / ".join(f"{each:.0e}" for each in errors)
    return Line(
        f"1-D Helmholtz, last of {units} tanh", "none", note=f"error {told} in {sorted(times)[1]:.3f} s"
    )


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


class ZeroOnTheBoundary(nn.Module):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, units), Sine(), nn.Linear(units, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x * (1 - x)).prod(1, keepdim=True) * self.net(x)


def square(units: int = 800, side: int = 30) -> Line:
    """DeepXDE's example: −Δu − k²u = k² sin kx sin ky."""
    inner = torch.linspace(0, 1, side + 2)[1:-1]
    x = torch.cartesian_prod(inner, inner)

    def true(at: Tensor) -> Tensor:
        return torch.sin(K * at).prod(1, keepdim=True)

    def residual(model: nn.Module) -> Tensor:
        u, _, laplacian = derivatives(model, x)
        return (laplacian / K**2 + u + true(x)) / side

    torch.manual_seed(0)
    model = ZeroOnTheBoundary(units)
    fs.pde.init_features_(model.net[0], ([0.0, 0.0], [1.0, 1.0]), 16.0, activation="sin")
    used, _ = seconds(lambda: fs.project_parameters(model, [(residual, fs.Equal(0.0))], "net.2.*"))
    at = torch.rand(5000, 2)
    with torch.no_grad():
        wrong = float((model(at) - true(at)).norm() / true(at).norm())
    return Line(f"2-D Helmholtz, last of {units} sin", "none", note=f"error {wrong:.0e} in {used:.2f} s")


class Waves(nn.Module):
    """``A · Σ c sin(w·(x, f, φ) + b)``, for the study's problem: a solution for all amplitudes, frequencies, phases."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.features, self.readout = nn.Linear(3, units), nn.Linear(units, 1, bias=False)
        nn.init.zeros_(self.readout.weight)

    def forward(self, x: Tensor, a: Tensor, f: Tensor, phase: Tensor) -> Tensor:
        return a * self.readout(torch.sin(self.features(torch.cat([x, f - 2.6, phase], 1))))


def waves(units: int = 3600, labels: int = 15_000, points: int = 20_000) -> Line:
    """The worst of five seeds."""
    found = [wave(seed, units, labels, points) for seed in range(5)]
    squares, residuals, times = (sorted(each) for each in zip(*found, strict=True))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    note = (
        f"worst of 5 seeds: MSE {squares[-1]:.0e} (goal 1e-7), residual/k² {residuals[-1]:.0e} (goal 3e-4); median "
        f"{times[2]:.0f} s; {memory:.1f} GiB"
    )
    return Line(f"the study's problem, last of {units} sin, {labels + points:,} rows", "none", note=note)


def wave(seed: int, units: int, labels: int, points: int, part: int = 1000) -> tuple[float, float, float]:
    """Labels y = A sin(2πfx + φ) at random places of the study's grid, and its equation at random points between.

    Returns:
        Mean squared error and residual/k² where A = f = 1 and φ = 0, and the seconds.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(count: int, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, generator=generator)

    def chosen(low: float, high: float) -> Tensor:
        return torch.linspace(low, high, 10)[torch.randint(10, (labels, 1), generator=generator)]

    start, model = time.process_time(), Waves(units)
    corners, scale = ([-1.0, -2.4, -0.5], [1.0, 2.4, 0.5]), (38.0, 8.0, 1.2)
    fs.pde.init_features_(model.features, corners, scale, activation="sin", generator=generator)
    x, a, f, phase = uniform(labels, -1, 1), chosen(0.2, 5), chosen(0.2, 5), chosen(-0.5, 0.5)
    y, root = a * torch.sin(2 * math.pi * f * x + phase), math.sqrt(labels)
    rows: list = [
        (lambda model, row=row: model(*row[:4]) / root, fs.Equal(row[4] / root))
        for row in zip(*(each.split(part) for each in (x, a, f, phase, y)), strict=True)
    ]
    equation = fs.pde.Helmholtz(lambda x, a, f, phase: 2 * math.pi * f)
    inputs = [torch.ones(points, 1), uniform(points, 0.2, 5), uniform(points, -0.5, 0.5)]
    system = fs.pde.System(equation, fs.pde.Interval(-1, 1), points=uniform(points, -1, 1), inputs=inputs)
    rows += [(each, fs.Equal(0.0)) for each in system.chunks(part)]
    rows.append((lambda model: RIDGE * model.readout.weight, fs.Equal(0.0)))
    fs.project_parameters(model, rows, "readout.*")
    seconds, x = time.process_time() - start, uniform(500, -1, 1)
    one = torch.ones_like(x)
    with torch.no_grad():
        square = (model(x, one, one, 0 * one) - torch.sin(2 * math.pi * x)).square().mean()
        residual = equation(model, x, one, one, 0 * one).square().mean().sqrt()
    return float(square), float(residual), seconds


def after_training() -> Line:
    """1,153 parameters, 202 constraints; the peer is the study's own projection."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    with torch.no_grad():
        model[0].weight.mul_(5)
    x = torch.linspace(0, 1, 200)[:, None]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(2000):
        optimizer.zero_grad()
        (model(x) - solution(x)).square().mean().backward()
        optimizer.step()
    rows, twin = line(), copy.deepcopy(model)
    ours, result = seconds(lambda: fs.project_parameters(model, rows, tol=1e-5))
    theirs, other = seconds(
        lambda: fs.project_parameters(twin, rows, method="adam", max_iterations=ADAM_STEPS)
    )
    note = (
        f"residual ÷ {result.residual[0] / result.residual[1]:.0e} in {ours:.1f} s, error {error(model):.0e}; Adam "
        f"÷ {other.residual[0] / other.residual[1]:.0e} in {theirs:.1f} s, error {error(twin):.0e}"
    )
    return Line(
        "projection after training, 1153 × 202", f"Adam, {ADAM_STEPS} steps", (ours / theirs,), note=note
    )
