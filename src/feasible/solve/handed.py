"""What users hand in to be run on batches: the batches themselves, and functions of (call, batch)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

Function = Callable[[Callable[..., Any], Any], Any]
"""``fn(call, batch)``, where ``call(*inputs)`` runs the model."""


def check_batches(batches: Iterable[Any], name: str, argument: str) -> None:
    """Raise ``ValueError`` where these are no batches, or one that is not in a list."""
    array = (Tensor, np.ndarray)
    is_one = isinstance(batches, tuple) and batches and all(isinstance(part, array) for part in batches)
    if is_one or isinstance(batches, (*array, Mapping, str)) or not isinstance(batches, Iterable):
        got = f"one batch, {described(batches)}" if is_one else type(batches).__name__
        raise ValueError(
            f"{name} must be a list of batches, or what iterates over them, such as a DataLoader; got {got}.\n"
            f"  One batch of all data is a list of one: {argument}=[(x, y)]."
        )


def check_function(function: object, name: str) -> None:
    """Raise ``ValueError`` unless it can be called with the model's call and a batch."""
    if not callable(function):
        raise ValueError(
            f"{name} must be a function {_signature(name)}, got {function!r}.\n  {_example(name)}"
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # built in: the first call will tell
    try:
        signature.bind(None, None)
    except TypeError:
        raise ValueError(
            f"{name} must be a function {_signature(name)}, got one of {signature}.\n  {_example(name)}"
        ) from None


def first_value(function: Function, call: Callable[..., Any], batch: Any, name: str) -> Any:
    """What the function gives for the first batch.

    Raises:
        ValueError: it takes something else than a function and a batch; what it says itself is the cause.
    """
    try:
        return function(call, batch)
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"{name} is called as {_signature(name)}, with a function that runs the model and a batch, "
            f"{described(batch)}. It ended with {type(error).__name__}: {error}.\n  {_example(name)}"
        ) from error


def one_number(value: object, name: str) -> Tensor:
    """What a loss gave, as one real number.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point():
        return value.reshape(())
    if isinstance(value, Tensor):
        got = f"shape {tuple(value.shape)}, {value.dtype}"
        mend = "Reduce it, as in .mean()." if value.numel() != 1 else "Give real numbers, as of a loss."
    else:
        got = type(value).__name__
        mend = "Leave out .item() and float()." if isinstance(value, float) else "Return the loss itself."
    raise ValueError(f"{name}(call, batch) must return a scalar tensor, got {got}. {mend}")


def described(batch: object) -> str:
    """A batch, or what came in its place, in some words."""
    if isinstance(batch, (Tensor, np.ndarray)):
        return f"a tensor of shape {tuple(batch.shape)}"
    if isinstance(batch, Mapping):
        return f"a dict of {', '.join(map(repr, batch))}"
    if isinstance(batch, (list, tuple)):
        parts = [
            str(tuple(part.shape)) if isinstance(part, Tensor) else type(part).__name__ for part in batch
        ]
        return f"a {type(batch).__name__} of {', '.join(parts[:6])}{', …' * (len(parts) > 6)}"
    return type(batch).__name__


def _signature(name: str) -> str:
    return f"{name.rpartition(' ')[2]}(call, batch)"


def _example(name: str) -> str:
    argument = name.rpartition(" ")[2]
    return f"For example {argument}=lambda call, batch: criterion(call(batch[0]), batch[1])."
