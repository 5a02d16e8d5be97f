"""``problem.loss`` with the augmented Lagrangian against a primal–dual loop written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import feasible as fs

from .timing import Line, against

Step = Callable[[], object]


def main() -> Iterator[Line]:
    """Lines of ratios of a whole training step, and the host synchronisations that are added."""
    for widths, batch in (((784, 256, 10), 128), ((8, 8, 2), 128)):
        by_hand, ours = steps(widths, batch)
        added = reads(ours) - reads(by_hand)
        yield from against(
            f"multiplier, step of {'-'.join(map(str, widths))}, batch {batch}",
            ours,
            {"by hand": by_hand},
            rounds=101,
            inner=20 if widths[0] < 100 else 5,
            note=f"{added} host synchronisations added",
        )


def steps(widths: tuple[int, ...], batch: int) -> tuple[Step, Step]:
    """The same network, data and inequality (mean of the first output ≤ 0.1) in both loops."""
    x, y = torch.randn(batch, widths[0]), torch.randint(widths[-1], (batch,))
    criterion = nn.CrossEntropyLoss()
    return hand_written(widths, x, y, criterion), with_feasible(widths, x, y, criterion)


def network(widths: tuple[int, ...]) -> nn.Module:
    """A ReLU network."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def hand_written(widths: tuple[int, ...], x: Tensor, y: Tensor, criterion: nn.Module) -> Step:
    """What people write: a multiplier, a penalty, ascent after the step, clamped at 0."""
    model = network(widths)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
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
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=1e-3))

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
