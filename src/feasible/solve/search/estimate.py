"""What a search would take, before it is started."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from feasible.sets import Set
from feasible.solve.counting import Count
from feasible.solve.search.choices import duration, listed, spelled
from feasible.solve.search.optimizers import Factory
from feasible.solve.search.plan import LIMIT, MAX_SECONDS, Plan, make_plan, surroundings
from feasible.solve.search.template import Loss

__all__ = ["SearchEstimate", "estimate_search"]

_LIST = 100_000
"""Choices that are listed to count their classes; of more, merged ones are not foreseen."""
_DIGITS = 100_000
"""Longer counts are not computed."""


@dataclass(frozen=True)
class SearchEstimate:
    """Count, memory and time of an exhaustive search; prints as a sentence."""

    count: int | float
    """Choices that would be trained: one for each class where they are merged and no more than 100,000.

    ``math.inf`` from 100,000 digits on.
    """
    starts: int
    """Initial values of each choice."""
    steps: int
    """Steps of the optimizer."""
    chunk: int
    """Models that would be trained at a time."""
    memory: int
    """Bytes that a chunk takes, roughly: parameters, gradients, optimizer, and what a forward pass computes."""
    seconds: float
    """Wall time, from a few steps of one chunk."""

    def __str__(self) -> str:
        starts = f" from {self.starts} starts" if self.starts > 1 else ""
        count = spelled(self.count) if isinstance(self.count, int) else f"more than 10^{_DIGITS}"
        return (
            f"{count} choices for {self.steps:,} steps{starts}, {self.chunk:,} models at a time: "
            f"about {self.memory / 2**20:.3g} MiB and {duration(self.seconds)}{self._refusal()}"
        )

    def _refusal(self) -> str:
        if self.count > LIMIT:
            return (
                f". exhaustive_search refuses more than limit={LIMIT:,} choices: train, then problem.polish"
            )
        if self.seconds > MAX_SECONDS:
            return f". exhaustive_search refuses more than max_seconds={MAX_SECONDS:g}, unless told otherwise"
        return ""


def estimate_search(
    model: nn.Module,
    choices: Mapping[str, Set],
    loss: Loss,
    batches: Iterable[Any],
    steps: int,
    optimizer: Factory | None = None,
    *,
    starts: int = 1,
    chunk: int | str = "auto",
    merge: str | Mapping[str, str] | None = None,
    seed: int = 0,
) -> SearchEstimate:
    """Tell what ``exhaustive_search`` with these arguments would take; the model stays as it is.

    The choices are counted, not listed, so that the answer comes at once for any number of them. The time is that of
    a few steps and one evaluation of one chunk, times the number of steps and of chunks.

    Args:
        model: as for ``exhaustive_search``, like all others.
        choices: the sets of the named weights.
        loss: ``loss(call, batch)``.
        batches: the batches; an iterator is used up.
        steps: steps of the optimizer.
        optimizer: a function that makes an optimizer.
        starts: initial values of each choice.
        chunk: how many models are trained at a time.
        merge: ``"rows"`` or ``"columns"``.
        seed: of the random numbers.

    Returns:
        The estimate.

    Raises:
        ValueError: as ``exhaustive_search``.
        UnsupportedError: as ``exhaustive_search``, but not for count or time.

    >>> import torch, feasible as fs
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3, bias=False), torch.nn.Linear(3, 1))
    >>> estimate = fs.estimate_search(
    ...     model,
    ...     {"0.weight": fs.FiniteSet([-1, 0, 1])},
    ...     loss=lambda call, batch: call(batch).square().mean(),
    ...     batches=[torch.randn(8, 4)],
    ...     steps=100,
    ... )
    >>> estimate.count
    531441
    """
    with surroundings(seed, model):
        plan = make_plan(model, choices, loss, batches, steps, optimizer, starts, chunk, merge, seed)
        total = Count.of_all([choice.count for choice in plan.choices])
        number = total.up_to(_DIGITS)
        count: int | float = math.inf if number is None else number
        if any(choice.merge for choice in plan.choices) and count <= _LIST:
            count = len(listed(plan.choices))
        members = count * starts
        size = plan.chunk(int(min(members, 10**18)))
        return SearchEstimate(
            count, starts, steps, size, size * plan.bytes_per_member, _seconds(plan, members, size)
        )


def _seconds(plan: Plan, members: int | float, size: int) -> float:
    """Of the whole search; a chunk that the memory would not hold is measured in part."""
    table = listed(plan.choices, most=1)
    measured = min(size, plan.fitting)
    ensemble = plan.ensemble(table, torch.zeros(measured, dtype=torch.long))
    ensemble.step(plan.batch(0))
    step = min(_timed(plan, lambda number=number: ensemble.step(plan.batch(number))) for number in (1, 2))
    final = _timed(plan, lambda: ensemble.evaluate(plan.batches))
    if members > 10**300:  # whole numbers grow beyond all floats
        return math.inf
    return (step * plan.steps + final) * (members / measured)


def _timed(plan: Plan, run: Any) -> float:
    plan.wait()
    started = time.perf_counter()
    run()
    plan.wait()
    return time.perf_counter() - started
