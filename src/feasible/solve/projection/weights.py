"""The named parameters of a model as one vector in float64, and the model kept as it is while it is evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

import torch
from torch import Tensor, nn

from feasible.methods.lookup import find_weights
from feasible.methods.slot import Slot, find_slots, unwrap
from feasible.optim.randomness import Replay


class Weights:
    """The parameters that may move, one after the other; tied weights once, frozen ones never.

    Args:
        model: the module.
        patterns: a glob of names, or several.

    Raises:
        ValueError: a pattern matches nothing, everything that matches is frozen, or a number is not finite.
    """

    def __init__(self, model: nn.Module, patterns: str | Sequence[str]) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"project_parameters: expected a module, got {type(model).__name__}.")
        self.model = model
        self.slots = find_slots(model)
        chosen = self._chosen([patterns] if isinstance(patterns, str) else list(patterns))
        self.names = [slot.name for slot in chosen]
        self.leaves = [slot.refresh() for slot in chosen]
        self._check()
        self.sizes = [leaf.numel() for leaf in self.leaves]
        self.count = sum(self.sizes)
        self.device = self.leaves[0].device
        self._kept = [leaf.detach().clone() for leaf in self.leaves]
        self.start = self.read()

    @property
    def dtype(self) -> torch.dtype:
        """The least precise of the dtypes."""
        return max((leaf.dtype for leaf in self.leaves), key=lambda dtype: torch.finfo(dtype).eps)

    def _chosen(self, patterns: list[str]) -> list[Slot]:
        found: dict[str, Slot] = {}
        for pattern in patterns:
            found.update(
                {slot.name: slot for slot in find_weights(self.slots, pattern, "project_parameters")}
            )
        free = [slot for slot in found.values() if slot.refresh().requires_grad]
        if not free:
            named = ", ".join(found) or "nothing"
            raise ValueError(
                f"project_parameters: parameters={patterns!r} names {named}, but none of it may move: "
                "requires_grad is False.\n  Name parameters that take gradients, or set requires_grad_(True)."
            )
        return free

    def _check(self) -> None:
        devices = {leaf.device for leaf in self.leaves}
        if len(devices) > 1:
            raise ValueError(
                f"project_parameters: the parameters are on {', '.join(sorted(map(str, devices)))}; "
                "move the model to one device."
            )
        for name, leaf in zip(self.names, self.leaves, strict=True):
            if not leaf.is_floating_point():
                raise ValueError(
                    f"project_parameters: {name} has dtype {leaf.dtype}; only real floating-point numbers can move."
                )
            if not bool(leaf.detach().isfinite().all()):
                raise ValueError(f"project_parameters: {name} holds numbers that are not finite.")

    def read(self) -> Tensor:
        """What the parameters hold."""
        return torch.cat([leaf.detach().reshape(-1).double() for leaf in self.leaves])

    @torch.no_grad()
    def write(self, x: Tensor) -> None:
        """Give the parameters these values, rounded to their dtypes."""
        for leaf, part in zip(self.leaves, torch.split(x, self.sizes), strict=True):
            leaf.copy_(part.view_as(leaf))

    @torch.no_grad()
    def restore(self) -> None:
        """Give the parameters the bits that they had."""
        for leaf, kept in zip(self.leaves, self._kept, strict=True):
            leaf.copy_(kept)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other parameter requires gradients, so that graphs hold no more than these need."""
        moving = {id(leaf) for leaf in self.leaves}
        others = [p for p in unwrap(self.model).parameters() if p.requires_grad and id(p) not in moving]
        for other in others:
            other.requires_grad_(False)
        try:
            yield
        finally:
            for other in others:
                other.requires_grad_(True)

    def pieces(self, x: Tensor) -> list[Tensor]:
        """A vector in the parameters' shapes and dtypes."""
        parts = torch.split(x, self.sizes)
        return [part.view_as(leaf).to(leaf.dtype) for leaf, part in zip(self.leaves, parts, strict=True)]

    def flat(self, parts: Iterable[Tensor | None]) -> Tensor:
        """Gradients as one vector in float64; zeros where there is none."""
        pairs = zip(parts, self.leaves, strict=True)
        return torch.cat(
            [
                (torch.zeros_like(leaf) if part is None else part).detach().reshape(-1).double()
                for part, leaf in pairs
            ]
        )

    def places(self) -> list[slice]:
        """Where each parameter is in the vector."""
        ends = list(accumulate(self.sizes))
        return [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[Replay]:
    """Evaluation mode inside; afterwards modes, buffers and random numbers as they were.

    The replay makes every evaluation draw the same random numbers.
    """
    modules = list(unwrap(model).modules())
    modes = [module.training for module in modules]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    replay = Replay(next((leaf.device for leaf in model.parameters()), torch.device("cpu")))
    model.eval()
    try:
        yield replay
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training
        with torch.no_grad():
            for buffer, kept in buffers:
                buffer.copy_(kept)
        with replay:
            pass
