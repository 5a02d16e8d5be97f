"""How far a network is from the known solution of its problem, where there is one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from feasible.workbook.errors import InputError, closest
from feasible.workbook.tables import KnownTable


def check_known(known: KnownTable, state: Mapping[str, Tensor]) -> None:
    """Whether the known weights are those of the network.

    Raises:
        InputError: they are not; its key is seen from the whole file.
    """
    for name, entries in known.weights.items():
        key = ("known", "weights", name)
        if name not in state:
            raise InputError(f'"{name}" is no parameter of the network.{closest(name, state)}', key=key)
        try:
            shape = tuple(torch.tensor(entries, dtype=torch.float64).shape)
        except (TypeError, ValueError):
            raise InputError(f"{name} must be lists of numbers of equal length.", key=key) from None
        if shape != tuple(state[name].shape):
            message = f"{name} has the shape {tuple(state[name].shape)}, the known weights have {shape}."
            raise InputError(message, key=key)


def compare_with_known(known: KnownTable, loss: float, state: Mapping[str, Tensor]) -> dict[str, float]:
    """The gap of the training loss, and the largest difference of a weight."""
    found = {}
    if known.loss is not None:
        found["gap"] = loss - known.loss
    if known.weights:
        found["known_distance"] = max(
            float((state[name].detach().double() - torch.tensor(entries, dtype=torch.float64)).abs().max())
            for name, entries in known.weights.items()
        )
    return found
