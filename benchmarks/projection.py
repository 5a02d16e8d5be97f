"""Attached box projection against a loop of ``clamp_`` written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

import feasible as fs

from .timing import Line, medians, ratios


class NoStep(torch.optim.Optimizer):
    """An optimizer that leaves the weights alone: what remains is the cost of the hooks and of stepping."""

    def __init__(self, parameters: list[Tensor]) -> None:
        super().__init__(parameters, {})

    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Nothing."""


def main() -> Iterator[Line]:
    """Lines of ratios; the time of an empty step is taken from both sides."""
    for count, size, rounds, inner in ((100, 10_000, 41, 20), (10, 1_000_000, 41, 3)):
        for set in (fs.Box(-1.0, 1.0), fs.NonNegative()):
            yield from compare(count, size, set, rounds, inner)


def compare(count: int, size: int, set: fs.Set, rounds: int, inner: int) -> Iterator[Line]:
    """One size and one set."""
    weights = [torch.randn(size, requires_grad=True) for _ in range(count)]
    for weight in weights:
        weight.grad = torch.randn(size)

    def by_hand() -> None:
        with torch.no_grad():
            for weight in weights:
                if isinstance(set, fs.Box):
                    weight.clamp_(-1.0, 1.0)
                else:
                    weight.clamp_(min=0.0)

    runs: dict[str, Callable[[], object]] = {"clamp_ loop": lambda: (empty.step(), by_hand())}
    empty = NoStep(weights)
    runs["empty step"] = empty.step
    for name, method in {"feasible": fs.Project(), "feasible, tangent": fs.Project(tangent=True)}.items():
        problem = fs.Problem(weights)
        problem.constrain("*", set, by=method)
        runs[name] = problem.attach(NoStep(weights)).step
    times = medians(runs, rounds, inner)
    for name in ("feasible", "feasible, tangent"):
        kind = name.removeprefix("feasible")
        yield Line(
            f"{set!r} on {count} × {size:,}{kind}",
            "clamp_ loop",
            ratios(times, name, "clamp_ loop", "empty step"),
        )
