"""The state dict that a model has once its reparametrizations are baked, in the order it had before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from feasible.methods.slot import ORDERS, Slot, unwrap
from feasible.sets.charts import Chart


def plain_state_dict(
    model: Any, slots: Mapping[str, Slot], settled: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Names and tensors of the plain model; ``settled`` weights replace the present ones."""
    by_name = {name: slot for slot in slots.values() for name in (slot.name, *slot.aliases)}

    def final(name: str, present: Tensor) -> Tensor:
        slot = by_name.get(name)
        if slot is None:
            return present.detach().clone()
        return settled.get(slot.name, slot.value()).detach().clone()

    if not isinstance(model, nn.Module):
        return {name: final(name, slot.value()) for name, slot in by_name.items()}
    return {name: final(name, tensor) for name, tensor in _entries(unwrap(model), "")}


@torch.no_grad()
def load_plain_state(model: Any, slots: Mapping[str, Slot], state: Mapping[str, Tensor]) -> None:
    """Write what ``plain_state_dict`` gave into the model as it is stored now."""
    by_name = {name for slot in slots.values() for name in (slot.name, *slot.aliases)}
    for slot in slots.values():
        slot.refresh()
        slot.write(state[slot.name].to(slot.value()))
    if isinstance(model, nn.Module):
        for name, tensor in _entries(unwrap(model), ""):
            if name not in by_name:
                tensor.copy_(state[name])


def _entries(module: nn.Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Persistent tensors in the order of a plain state dict."""
    charted = module._modules.get("parametrizations")
    lists = dict(charted._modules) if charted is not None else {}
    # Charts are baked; parametrizations of the user's own stay as they are.
    inside = [name for name, maps in lists.items() if maps is not None and isinstance(maps[0], Chart)]  # type: ignore[index]
    for name in module.__dict__.get(ORDERS, (*module._parameters, *inside)):
        if name in inside:
            yield prefix + name, getattr(module, name)
        elif module._parameters.get(name) is not None:
            yield prefix + name, module._parameters[name]  # type: ignore[misc]
    for name, buffer in module._buffers.items():
        if buffer is not None and name not in module._non_persistent_buffers_set:
            yield prefix + name, buffer
    for name, child in module._modules.items():
        if child is charted and inside:
            others = ((own, maps) for own, maps in lists.items() if own not in inside and maps is not None)
            for own, maps in others:
                yield from _entries(maps, f"{prefix}{name}.{own}.")
        elif child is not None:
            yield from _entries(unwrap(child), f"{prefix}{name}.")
