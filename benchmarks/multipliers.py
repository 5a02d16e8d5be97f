"""``problem.loss`` with the augmented Lagrangian beside a primal–dual loop written by hand and other libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import feasible as fs

from .dual_peers import network_values, peers, steps_to
from .timing import Line, against

Step = Callable[[], object]


def main() -> Iterator[Line]:
    """Ratios of whole training steps, the host synchronisations that are added, and steps to a known answer."""
    yield from against_hand_and_peers((784, 256, 10), 128, goal=1.05, inner=5)
    yield from against_hand_and_peers((8, 8, 2), 128, goal=1.15, inner=20)
    yield from many_at_once()
    yield from many_indexed()
    yield from platt_and_barr()


def against_hand_and_peers(widths: tuple[int, ...], batch: int, goal: float, inner: int) -> Iterator[Line]:
    """The same network, data and inequality (mean of the first output ≤ 0.1) in every loop."""
    x, y = torch.randn(batch, widths[0]), torch.randint(widths[-1], (batch,))
    criterion = nn.CrossEntropyLoss()
    by_hand, ours = hand_written(widths, x, y, criterion), with_feasible(widths, x, y, criterion)
    model = network(widths)
    others = peers(network_values(model, x, y), lambda: adam(model), equality=False, rate=0.05)
    yield from against(
        f"multiplier, step of {'-'.join(map(str, widths))}, batch {batch}",
        ours,
        {"by hand": by_hand, **others},
        goals={"by hand": goal, **dict.fromkeys(others, 1.0)},
        rounds=101,
        inner=inner,
        note=f"{reads(ours) - reads(by_hand)} host synchronisations added",
    )


def many_at_once() -> Iterator[Line]:
    """All outputs of a batch bounded, one multiplier each, beside their mean bounded."""
    x, y = torch.randn(1000, 784), torch.randint(10, (1000,))
    steps = [bounded(x, y, value) for value in (lambda out: out, lambda out: out.mean())]
    yield from against(
        "multipliers of a value of 10,000 entries, step of 784-256-10",
        steps[0],
        {"one multiplier": steps[1]},
        goals={"one multiplier": 1.15},
        note="one name; 10,000 names would be 10,000 terms",
    )


def many_indexed() -> Iterator[Line]:
    """The same batch of 128, out of more or fewer samples."""
    x, y, index = torch.randn(128, 784), torch.randint(10, (128,)), torch.randperm(1000)[:128]
    large, small = (bounded(x, y, lambda out: (out[:, :1], index), size) for size in (10_000_000, 1000))
    yield from against(
        "multipliers of 10,000,000 samples, step of 784-256-10, batch 128",
        large,
        {"of 1,000 samples": small},
        goals={"of 1,000 samples": 1.1},
        rounds=101,
        inner=5,
    )


def platt_and_barr() -> Iterator[Line]:
    """min x² + y² with x + y = 1 from (0, 2): steps to 1e-6 with SGD 0.1, dual rate 0.2 and penalty 1."""
    work = "steps to 1e-6, Platt & Barr from (0, 2)"
    x = torch.tensor([0.0, 2.0], requires_grad=True)
    problem = fs.Problem([x])
    problem.require("sum", fs.Equal(1.0), by=fs.AugmentedLagrangian(penalty=1.0, dual_lr=0.2))
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.1))

    def step() -> None:
        optimizer.zero_grad()
        problem.loss((x**2).sum(), sum=x.sum()).backward()
        optimizer.step()

    ours = steps_to(step, lambda: float((x.detach() - 0.5).abs().max()))
    for name in peers(lambda: (x.sum(), x.sum()), lambda: torch.optim.SGD([x], lr=0.1), True, 0.2):
        start = torch.tensor([0.0, 2.0], requires_grad=True)
        run = peers(
            lambda start=start: ((start**2).sum(), start.sum() - 1),
            lambda start=start: torch.optim.SGD([start], lr=0.1),
            equality=True,
            rate=0.2,
        )[name]
        if isinstance(run, str):
            yield Line(work, name, note=run)
        else:
            theirs = steps_to(run, lambda start=start: float((start.detach() - 0.5).abs().max()))
            yield Line(work, name, (ours / theirs,), 1.0, f"{ours} steps against {theirs}")


def adam(model: nn.Module) -> torch.optim.Adam:
    """The optimizer of all loops."""
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def bounded(x: Tensor, y: Tensor, value: Callable[[Tensor], object], size: int | None = None) -> Step:
    """A training step with a value, or indexed samples, bounded from above."""
    model, criterion = network((784, 256, 10)), nn.CrossEntropyLoss()
    problem = fs.Problem(model)
    by = fs.AugmentedLagrangian(penalty=1.0, dual_lr=0.05)
    problem.require("v", fs.Box(upper=0.1), by=by, per="index" if size else "value", size=size)
    optimizer = problem.attach(adam(model))

    def step() -> None:
        optimizer.zero_grad()
        prediction = model(x)
        problem.loss(criterion(prediction, y), v=value(prediction)).backward()
        optimizer.step()

    return step


def network(widths: tuple[int, ...]) -> nn.Module:
    """A ReLU network."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def hand_written(widths: tuple[int, ...], x: Tensor, y: Tensor, criterion: nn.Module) -> Step:
    """What people write: a multiplier, a penalty, ascent after the step, clamped at 0."""
    model = network(widths)
    optimizer = adam(model)
    multiplier, penalty, dual_lr = torch.zeros(()), 1.0, 0.05

    def step() -> None:
        optimizer.zero_grad()
        prediction = model(x)
        violation = prediction[:, 0].mean() - 0.1
        lifted = torch.relu(multiplier + penalty * violation)
        loss = criterion(prediction, y) + (lifted**2 - multiplier**2) / (2 * penalty)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            multiplier.add_(violation.detach(), alpha=dual_lr).clamp_(min=0)

    return step


def with_feasible(widths: tuple[int, ...], x: Tensor, y: Tensor, criterion: nn.Module) -> Step:
    """The same by ``Problem``."""
    model = network(widths)
    problem = fs.Problem(model)
    problem.require("mean", fs.Box(upper=0.1), by=fs.AugmentedLagrangian(penalty=1.0, dual_lr=0.05))
    optimizer = problem.attach(adam(model))

    def step() -> None:
        optimizer.zero_grad()
        prediction = model(x)
        loss = problem.loss(criterion(prediction, y), mean=prediction[:, 0].mean())
        loss.backward()
        optimizer.step()

    return step


class CountReads(TorchDispatchMode):
    """Counts tensors that are read back to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Count ``item()`` and what is built on it."""
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def reads(step: Step, steps: int = 10) -> int:
    """Host reads in some steps, after the first ones."""
    for _ in range(3):
        step()
    with CountReads() as counter:
        for _ in range(steps):
            step()
    return counter.count
