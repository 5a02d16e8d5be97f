"""What a polish leaves as it was: modes, buffers, gradients, random generators, the problem's records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from feasible.methods.slot import unwrap
from feasible.solve.handed import check_batches

if TYPE_CHECKING:
    from feasible.problem.problem import Problem


def read(data: Iterable[Any]) -> tuple[list[Any], Iterable[Any]]:
    """The batches that the search uses, and what a retraining reads again and again.

    Raises:
        ValueError: these are no batches, or there are none.
    """
    check_batches(data, "polish: data", "data")
    generator = torch.default_generator
    state = generator.get_state()
    try:
        batches = list(data)
    finally:
        generator.set_state(state)
    if not batches:
        raise ValueError("polish: data has no batches (an iterator that was used before is empty).")
    return batches, batches if isinstance(data, Iterator) else data


@contextmanager
def undisturbed(problem: Problem) -> Iterator[None]:
    """Gradients come back at the end, of weights that are still the same parameter."""
    held = [(slot, slot.refresh(), slot.leaf.grad) for slot in problem.slots.values()]
    for _, leaf, _ in held:
        leaf.grad = None
    try:
        yield
    finally:
        for slot, leaf, gradient in held:
            slot.refresh().grad = gradient if slot.leaf is leaf else None


@contextmanager
def evaluating(problem: Problem) -> Iterator[None]:
    """In eval mode, nothing recorded; modes and buffers come back at the end."""
    modules = list(unwrap(problem.model).modules()) if isinstance(problem.model, nn.Module) else []
    modes = [(module, module.training) for module in modules]
    buffers = [(module, dict(module._buffers)) for module in modules]
    values = [(buffer, buffer.clone()) for _, own in buffers for buffer in own.values() if buffer is not None]
    recording, problem.recording = problem.recording, False
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        problem.recording = recording
        for module, training in modes:
            module.training = training
        for module, own in buffers:
            module._buffers.update(own)
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)


class Snapshot:
    """The values of all weights and buffers."""

    def __init__(self, problem: Problem) -> None:
        tensors = [slot.refresh() for slot in problem.slots.values()]
        if isinstance(problem.model, nn.Module):
            tensors += list(unwrap(problem.model).buffers())
        self._values = [(tensor, tensor.detach().clone()) for tensor in tensors]

    @torch.no_grad()
    def restore(self) -> None:
        """As they were."""
        for tensor, value in self._values:
            tensor.copy_(value)
