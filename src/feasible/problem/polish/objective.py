"""The loss as a function of the discrete weights: at many points at once, and its gradient."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from feasible.methods.slot import unwrap
from feasible.problem.polish.targets import Target
from feasible.problem.polish.trials import Trials
from feasible.problem.ranks import is_distributed, total
from feasible.solve.handed import one_number

Loss = Callable[[Callable[..., Any], Any], Tensor]
"""``fn(call, batch)``: a scalar, where ``call(*inputs)`` runs the model."""

Result = TypeVar("Result")

_NUMBERS = 2**22
"""Of weights and inputs together, so many numbers are in one batch of trials."""
_MOST = 1024
_GRADIENT = 3
"""What a gradient costs, in evaluations."""


class SpentError(Exception):
    """The budget does not allow the evaluations that were asked for."""


@dataclass
class Budget:
    """Evaluations that are left, and the time at which the search has to end."""

    evaluations: int
    deadline: float = math.inf
    used: int = 0

    def spend(self, count: int) -> None:
        """Take so many, or raise ``SpentError``."""
        if self.used + count > self.evaluations or time.monotonic() > self.deadline:
            raise SpentError
        self.used += count

    @property
    def left(self) -> int:
        """How many evaluations are left."""
        return self.evaluations - self.used


class Objective:
    """The mean loss of the batches; nothing but the targets' entries is ever changed."""

    def __init__(self, model: Any, targets: Sequence[Target], batches: Sequence[Any], loss: Loss) -> None:
        self.targets = targets
        self.obstacle: str | None = None
        """Why several trials cannot be computed at once, once that is known."""
        self.budget = Budget(0)
        self._model = unwrap(model) if isinstance(model, nn.Module) else model
        self._batches = batches
        self._loss = loss
        self._swapped: dict[int, Tensor] = {}
        self._is_compared = False
        size = sum(target.entries.numel() for target in targets)
        self.chunk = max(1, min(_MOST, _NUMBERS // max(size + max(map(_numbers, batches)), 1)))

    @property
    def work(self) -> int:
        """Products in one evaluation, roughly."""
        rows = sum(map(_rows, self._batches))
        return rows * sum(target.entries.numel() for target in self.targets)

    # -- one point ---------------------------------------------------------------------------------

    def call(self, *inputs: Any, **named: Any) -> Any:
        """Run the model; tensors that are no module come back as they are held, trial values in their place."""
        if isinstance(self._model, nn.Module):
            return self._model(*inputs, **named)
        if isinstance(self._model, Mapping):
            return {name: self._swapped.get(id(tensor), tensor) for name, tensor in self._model.items()}
        return [self._swapped.get(id(tensor), tensor) for tensor in self._model]

    def mean(self, function: Callable[[Callable[..., Any], Any], Any]) -> float:
        """A function of ``call`` and a batch, averaged over the batches at the present weights."""
        with torch.no_grad(), same_noise(self.targets):
            values = [torch.as_tensor(function(self.call, batch)).double().cpu() for batch in self._batches]
        return float(self._averaged(torch.stack([value.reshape(()) for value in values]).mean()))

    def loss(self) -> float:
        """The loss at the present weights."""
        return self.mean(lambda call, batch: scalar(self._loss(call, batch)))

    def gradient(self) -> list[Tensor]:
        """With respect to every target."""
        self.budget.spend(_GRADIENT)
        return [gradient.squeeze(0) for gradient in self._gradients_in_turn(Trials.none(self.targets))]

    # -- many points -------------------------------------------------------------------------------

    def losses(self, trials: Trials) -> Tensor:
        """The loss at every trial: float64, on the CPU."""
        parts = [self._losses(part) for part in trials.split(self.chunk)]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64)

    def gradients(self, trials: Trials) -> list[Tensor]:
        """The gradients at every trial: for each target (trials, *shape)."""
        parts = []
        for part in trials.split(max(self.chunk // _GRADIENT, 1)):
            self.budget.spend(_GRADIENT * part.count)
            parts.append(self._gradients(part))
        return [torch.cat(gradients) for gradients in zip(*parts, strict=True)]

    def _losses(self, trials: Trials) -> Tensor:
        self.budget.spend(trials.count)
        if trials.count > 1:
            together = self._together(self._losses_at_once, trials)
            if together is not None:
                return together
        return self._losses_in_turn(trials)

    def _gradients(self, trials: Trials) -> list[Tensor]:
        together = self._together(self._gradients_at_once, trials)
        return self._gradients_in_turn(trials) if together is None else together

    def _together(self, function: Callable[[Trials], Result], trials: Trials) -> Result | None:
        """All trials at once, where the model and the loss allow it; else ``None``, and the reason is kept."""
        if self.obstacle is not None:
            return None
        try:
            self._compare_once(trials)
            return function(trials) if self.obstacle is None else None
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            self.obstacle = str(error).strip().split("\n")[0] or type(error).__name__
            return None

    def _compare_once(self, trials: Trials) -> None:
        """Some modules keep other references to their weights: a first trial shows whether they are seen."""
        if self._is_compared:
            return
        self._is_compared = True
        few = next(trials.split(2))
        if not torch.allclose(self._losses_at_once(few), self._losses_in_turn(few), rtol=1e-3, atol=1e-6):
            self.obstacle = "the model gives other results there"

    @torch.no_grad()
    def _losses_at_once(self, trials: Trials) -> Tensor:
        touched, stacks = trials.stacks(self.targets)
        results = torch.zeros(trials.count, dtype=torch.float64)
        with same_noise(self.targets):
            for batch in self._batches:
                losses = torch.func.vmap(self._at(touched, batch), randomness="same")(*stacks)
                results += losses.double().cpu()
        return self._averaged(results / len(self._batches))

    def _gradients_at_once(self, trials: Trials) -> list[Tensor]:
        _, stacks = trials.stacks(self.targets, everywhere=True)
        every = list(range(len(self.targets)))
        sums = [torch.zeros_like(stack) for stack in stacks]
        with same_noise(self.targets):
            for batch in self._batches:
                slope = torch.func.grad(self._at(every, batch), argnums=tuple(every))
                for one, gradient in zip(
                    sums, torch.func.vmap(slope, randomness="same")(*stacks), strict=True
                ):
                    one += gradient.detach()
        return [self._averaged(one / len(self._batches)) for one in sums]

    def _at(self, touched: Sequence[int], batch: Any) -> Callable[..., Tensor]:
        """The loss of a batch as a function of the touched targets."""

        def function(*weights: Tensor) -> Tensor:
            with self._put(touched, weights):
                return scalar(self._loss(self.call, batch)).reshape(())

        return function

    @contextmanager
    def _put(self, touched: Sequence[int], weights: Sequence[Tensor]) -> Iterator[None]:
        """Other tensors in the place of the parameters."""
        slots = [self.targets[number].slot for number in touched]
        try:
            for slot, weight in zip(slots, weights, strict=True):
                self._swapped[id(slot.leaf)] = weight
                for module, attribute in slot.owners:
                    module._parameters[attribute] = weight  # type: ignore[assignment]
            yield
        finally:
            self._swapped.clear()
            for slot in slots:
                for module, attribute in slot.owners:
                    module._parameters[attribute] = slot.leaf  # type: ignore[assignment]

    def _losses_in_turn(self, trials: Trials) -> Tensor:
        return torch.tensor([self.loss() for _ in self._visit(trials)], dtype=torch.float64)

    def _gradients_in_turn(self, trials: Trials) -> list[Tensor]:
        found: list[list[Tensor]] = [[] for _ in self.targets]
        leaves = [target.slot.leaf for target in self.targets]
        for _ in self._visit(trials):
            sums = [torch.zeros_like(leaf) for leaf in leaves]
            with torch.enable_grad(), same_noise(self.targets), requiring(leaves, True):
                for batch in self._batches:
                    loss = scalar(self._loss(self.call, batch))
                    if not loss.requires_grad:
                        continue  # it does not depend on the targets
                    for one, gradient in zip(
                        sums, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True
                    ):
                        if gradient is not None:
                            one += gradient
            for one, gradients in zip(sums, found, strict=True):
                gradients.append(self._averaged(one / len(self._batches)))
        return [torch.stack(gradients) for gradients in found]

    def _visit(self, trials: Trials) -> Iterator[None]:
        """The weights at one trial after the other."""
        before = [target.values() for target in self.targets]
        try:
            for number in range(trials.count):
                with torch.no_grad():
                    for target, value in zip(self.targets, before, strict=True):
                        target.slot.leaf.copy_(value)
                    trials.apply(number, self.targets)
                yield
        finally:
            with torch.no_grad():
                for target, value in zip(self.targets, before, strict=True):
                    target.slot.leaf.copy_(value)

    def _averaged(self, x: Tensor) -> Tensor:
        """The mean over all processes, which then decide alike."""
        if not is_distributed():
            return x
        device = self.targets[0].slot.leaf.device
        return (total(x.to(device)) / torch.distributed.get_world_size()).to(x.device)


def scalar(loss: Any) -> Tensor:
    """The loss, if it is one number.

    Raises:
        ValueError: it is not.
    """
    return one_number(loss, "polish: loss")


@contextmanager
def requiring(leaves: Iterable[Tensor], wanted: bool) -> Iterator[None]:
    """Leaves that take gradients or do not, and afterwards as they were."""
    flags = [(leaf, leaf.requires_grad) for leaf in leaves]
    try:
        for leaf, _ in flags:
            leaf.requires_grad_(wanted)
        yield
    finally:
        for leaf, flag in flags:
            leaf.requires_grad_(flag)


@contextmanager
def same_noise(targets: Sequence[Target]) -> Iterator[None]:
    """Every evaluation draws the same random numbers, if any, and leaves the global generators as they were."""
    devices = {target.slot.leaf.device for target in targets}
    indices = sorted(device.index or 0 for device in devices if device.type == "cuda")
    generators = [torch.default_generator, *(torch.cuda.default_generators[index] for index in indices)]
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(0)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """All tensors in a batch of nested lists and dicts."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors_of(value)
    elif isinstance(batch, (list, tuple)):
        for value in batch:
            yield from tensors_of(value)


def _numbers(batch: Any) -> int:
    return sum(tensor.numel() for tensor in tensors_of(batch))


def _rows(batch: Any) -> int:
    first = next(tensors_of(batch), None)
    return 1 if first is None or first.dim() == 0 else max(len(first), 1)
