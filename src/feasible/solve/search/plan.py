"""A search that has been checked: what is trained, on what, and what one choice takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from feasible.errors import UnsupportedError
from feasible.sets import Set
from feasible.solve.handed import check_batches, check_function
from feasible.solve.search.choices import Choice, Table, find_choices, listed
from feasible.solve.search.ensemble import Ensemble
from feasible.solve.search.optimizers import Factory, adam, check_elementwise, check_factory
from feasible.solve.search.template import Loss, Template, make_template

MEMORY = 2**28
"""Bytes that a chunk may take on the CPU; larger ones are no faster."""
LIMIT, MAX_SECONDS = 1_000_000, 3600.0
"""More choices, or a longer time, are refused unless asked for."""


@dataclass(frozen=True, eq=False)
class Plan:
    """All that a search needs but the list of its choices."""

    choices: Sequence[Choice]
    template: Template
    batches: Sequence[Any]
    steps: int
    starts: int
    optimizer: Factory
    seed: int
    bytes_per_member: int
    fitting: int
    """Members that fit into the memory at a time."""
    asked: int | None
    """Members at a time that the user wants."""
    device: torch.device

    def ensemble(self, table: Table, members: Tensor) -> Ensemble:
        """Some members, by number: choice · starts + start."""
        chosen = table.take(members // self.starts)
        return Ensemble(self.template, chosen, (members % self.starts).tolist(), self.optimizer)

    def batch(self, step: int) -> Any:
        """What a step learns from."""
        return self.batches[step % len(self.batches)]

    def chunk(self, members: int) -> int:
        """Members at a time: as asked for, or as many as fit, in chunks of about equal length."""
        if self.asked is not None:
            return min(self.asked, members)
        chunks = -(-members // self.fitting)
        return -(-members // chunks)

    def wait(self) -> None:
        """Until the device has done what it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def is_trained(self) -> bool:
        """Whether there is anything to train."""
        return bool(self.template.starts[0])


def make_plan(
    model: nn.Module,
    choices: Mapping[str, Set],
    loss: Loss,
    batches: Iterable[Any],
    steps: int,
    optimizer: Factory | None,
    starts: int,
    chunk: int | str,
    merge: str | Mapping[str, str] | None,
    seed: int,
) -> Plan:
    """Check all arguments and try one call, one call for two members, and the optimizer."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    check_function(loss, "loss")
    _check_whole("steps", steps)
    _check_whole("starts", starts)
    if chunk != "auto":
        _check_whole("chunk", chunk, ', or "auto"')
    factory = adam if optimizer is None else optimizer
    check_factory(factory)
    found = find_choices(model, choices, merge)
    kept = _kept(batches, steps)
    template = make_template(model, found, loss, kept[0], starts, seed)
    device = found[0].slot.value().device
    size = _bytes_per_member(template, found, kept[0], factory)
    fitting = max(_memory(device) // max(size, 1), 1)
    asked = None if chunk == "auto" else int(chunk)
    return Plan(found, template, kept, steps, starts, factory, seed, size, fitting, asked, device)


@contextmanager
def surroundings(seed: int, model: object) -> Iterator[None]:
    """Random numbers of the search's own, and attention without the fused kernels, which ``vmap`` does not know."""
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    devices = {parameter.device for parameter in parameters if parameter.device.type == "cuda"}
    fused = torch.backends.mha.get_fastpath_enabled()
    own = torch.random.fork_rng(devices=list(devices))
    with own, torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        torch.manual_seed(seed)
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)


def _check_whole(name: str, value: object, otherwise: str = "") -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number ≥ 1{otherwise}, got {value!r}.")


def _kept(batches: Iterable[Any], steps: int) -> list[Any]:
    """One pass, at most so many batches as there are steps where its length is not known."""
    check_batches(batches, "batches", "batches")
    kept = list(batches if isinstance(batches, Sized) else itertools.islice(batches, steps))
    if not kept:
        raise ValueError("batches is empty: give at least one batch, as in batches=[(x, y)].")
    return kept


class _Allocated(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the memory of all that is computed."""

    bytes = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, inputs: tuple[Any, ...] = (), options: Any = None
    ) -> Any:
        output = function(*inputs, **(options or {}))
        if isinstance(output, Tensor) and not function.is_view:
            self.bytes += output.numel() * output.element_size()
        return output


def _bytes_per_member(template: Template, choices: Sequence[Choice], batch: Any, factory: Factory) -> int:
    """What one more member takes in a step.

    Raises:
        ValueError: the loss does not depend on what is trained.
        UnsupportedError: the model cannot run under ``vmap``, or the optimizer couples members.
    """
    table = listed(choices, most=1)
    needed = [_allocated(template, table, count, batch) for count in (1, 2)]
    values = list(template.starts[0].values())
    tensors = (*values, *values, *template.buffers[0].values(), *table.members)
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return held + max(needed[1] - needed[0], 0) + check_elementwise(factory, values)


def _allocated(template: Template, table: Table, count: int, batch: Any) -> int:
    """Bytes that a forward pass of so many members allocates."""
    members = Ensemble(template, table.take(torch.zeros(count, dtype=torch.long)), [0] * count, None)
    try:
        with _Allocated() as allocated:  # type: ignore[no-untyped-call]
            members.forward(batch)
        members.differentiate(batch)
        members.evaluate([batch])
    except RuntimeError as error:
        raise UnsupportedError(
            "the model or the loss runs for one choice, but not for several at once under torch.func.vmap:\n"
            f"  {str(error).strip().splitlines()[0]}\n"
            "  Values must not steer Python (if, .item(), float()), derivatives need torch.func.grad or jacrev, and "
            "torch cannot stack nn.RNN, nn.GRU and nn.LSTM."
        ) from error
    if members.leaves and all(leaf.grad is None for leaf in members.leaves):
        raise ValueError(
            "the loss does not depend on anything that is trained, or is detached from it.\n"
            "  Run the model through the first argument: loss=lambda call, batch: criterion(call(batch[0]), batch[1])."
        )
    return int(allocated.bytes)


def _memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else MEMORY
