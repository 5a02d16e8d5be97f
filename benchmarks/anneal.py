"""Annealing to a list of values: what it adds to a step, and where it leads beside torchao's PARQ."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import feasible as fs

from .peers import load
from .timing import Line

TERNARY = (-1.0, 0.0, 1.0)
SIZE = 10_000_000
SEEDS = 5

Training = Callable[[nn.Sequential, int], tuple[torch.optim.Optimizer, Callable[[], None]]]
"""A model and the number of steps → its optimizer, and what ends the training."""


def main() -> Iterator[Line]:
    """The cost of a step over a whole anneal, then accuracies on digits, rounded and not polished."""
    torch.set_num_threads(1)
    yield cost(steps=2_000, rounds=3)
    for hidden, steps in ((32, 1_500), (32, 700), (8, 700)):
        yield digits(hidden, steps)


# -- cost ----------------------------------------------------------------------------------------------


def cost(steps: int, rounds: int) -> Line:
    """All steps of an anneal over as many of the same optimizer alone; blocks of both take turns."""
    totals = [_pair(steps) for _ in range(rounds)]
    ratios = tuple(sorted(annealed / alone for annealed, alone in totals))
    work = f"ProximalAnneal, ternary, {SIZE:,} weights, {steps:,} steps"
    return Line(work, "fused Adam alone", ratios, goal=1.10)


def _pair(steps: int, block: int = 100) -> tuple[float, float]:
    annealed, alone = _step(steps), _step(None)
    spent = {annealed: 0.0, alone: 0.0}
    for _ in range(steps // block):
        for run in spent:
            start = time.process_time()
            for _ in range(block):
                run()
            spent[run] += time.process_time() - start
    return spent[annealed], spent[alone]


def _step(steps: int | None) -> Callable[[], object]:
    """A step of fused Adam with a gradient that stays; annealed where a number of steps is given."""
    generator = torch.Generator().manual_seed(0)
    weight = (0.3 * torch.randn(SIZE, generator=generator)).requires_grad_()
    weight.grad = torch.randn(SIZE, generator=generator)
    optimizer = torch.optim.Adam([weight], lr=1e-3, fused=True)
    if steps is not None:
        problem = fs.Problem([weight])
        problem.constrain("*", fs.FiniteSet(TERNARY), by=fs.ProximalAnneal(steps))
        problem.attach(optimizer)
    optimizer.step()
    return optimizer.step


# -- accuracy ------------------------------------------------------------------------------------------


def digits(hidden: int, steps: int) -> Line:
    """Test accuracies of a network whose last layer ends ternary, over seeds."""
    work = f"digits 64-{hidden}-10, ternary last layer, {steps:,} Adam steps: accuracy"
    peer = "torchao PARQ"
    parq = load("torchao.prototype.parq")
    if isinstance(parq, str):
        return Line(work, peer, note=parq)
    trainings: dict[str, Training] = {
        "ProximalAnneal": lambda model, n: constrained(model, fs.ProximalAnneal(n)),
        "StraightThrough": lambda model, n: constrained(model, fs.StraightThrough()),
        "PARQ": lambda model, n: with_parq(parq, model, n),
    }
    found = []
    for name, training in trainings.items():
        accuracies = [accuracy(training, hidden, steps, seed) for seed in range(SEEDS)]
        found.append(f"{name} {statistics.mean(accuracies):.1f} (worst {min(accuracies):.1f})")
    return Line(work, peer, note=f"{', '.join(found)} %; {SEEDS} seeds, rounded only")


def accuracy(training: Training, hidden: int, steps: int, seed: int) -> float:
    """Percent of 360 held-out digits."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    x, y, x_test, y_test = _data()
    optimizer, end = training(model, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(x), (128,), generator=generator)
        optimizer.zero_grad()
        cross_entropy(model(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    end()
    weight = model[2].weight
    assert isinstance(weight, Tensor)
    assert bool(torch.isin(weight, torch.tensor(TERNARY)).all())
    return 100 * float((model(x_test).argmax(1) == y_test).float().mean())


def constrained(model: nn.Sequential, method: fs.Method) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
    """This library."""
    problem = fs.Problem(model)
    problem.constrain("2.weight", fs.FiniteSet(TERNARY), by=method)
    return problem.attach(_adam(list(model.parameters()))), problem.finish


def with_parq(
    library: Any, model: nn.Sequential, steps: int
) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
    """PARQ with the same list of values, annealed over the middle of the training, as its examples do."""

    class Listed(library.quant.Quantizer):  # type: ignore[misc]
        def get_quant_size(self, b: int) -> int:
            return len(TERNARY)

        def quantize(self, p: Tensor, b: int, dim: int | None = None) -> tuple[Tensor, Tensor]:
            return fs.FiniteSet(TERNARY).project(p), torch.tensor(TERNARY)

    weight = model[2].weight
    others = [parameter for parameter in model.parameters() if parameter is not weight]
    base = _adam([{"params": others}, {"params": [weight], "quant_bits": 2}])
    annealing = library.optim.ProxPARQ(anneal_start=steps // 10, anneal_end=steps * 9 // 10)
    return library.optim.QuantOptimizer(base, Listed(), annealing), lambda: None


def _adam(parameters: list[Any]) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=0.01)


def _data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x / 16, y, test_size=360, random_state=0, stratify=y)
    x, x_test, y, y_test = map(torch.as_tensor, parts)
    return x.float(), y, x_test.float(), y_test
