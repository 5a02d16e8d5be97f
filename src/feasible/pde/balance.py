"""Weights of a system's blocks that balance themselves: no block holds the parameters tighter than another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

Rule = Literal["trace", "gradient"]


def balanced(
    blocks: Sequence[Tensor],
    names: Sequence[str],
    weights: Sequence[float],
    model: Any,
    rule: Rule,
    momentum: float,
    parameters: Iterable[Tensor] | None,
    probes: int,
    seed: int,
) -> list[float]:
    """See ``System.balance``."""
    if rule not in get_args(Rule):
        raise ValueError(
            f"balance: expected the rule {' or '.join(map(repr, get_args(Rule)))}, got {rule!r}."
        )
    if not 0 <= momentum < 1 or probes < 1:
        raise ValueError(
            f"balance: expected 0 ≤ momentum < 1 and probes ≥ 1; got {momentum!r} and {probes!r}."
        )
    trained = trainable(model, parameters)
    sizes = [
        hold(block, name, trained, rule, probes, seed) for block, name in zip(blocks, names, strict=True)
    ]
    is_moved = [size > 0 and weight > 0 for size, weight in zip(sizes, weights, strict=True)]
    total = sum(size for size, moved in zip(sizes, is_moved, strict=True) if moved)
    return [
        math.exp(momentum * math.log(weight) + (1 - momentum) * math.log(total / size)) if moved else weight
        for weight, size, moved in zip(weights, sizes, is_moved, strict=True)
    ]


def trainable(model: Any, parameters: Iterable[Tensor] | None) -> list[Tensor]:
    """The parameters that gradients are taken by.

    Raises:
        TypeError: there is nothing to take them from.
        ValueError: none requires a gradient.
    """
    if parameters is None and not isinstance(model, nn.Module):
        raise TypeError(
            f"balance: the model is a {type(model).__name__}, not a module; name what is trained with parameters=."
        )
    found = [
        each for each in (model.parameters() if parameters is None else parameters) if each.requires_grad
    ]
    if not found:
        raise ValueError("balance: no parameter requires a gradient.")
    return found


def hold(block: Tensor, name: str, trained: Sequence[Tensor], rule: Rule, probes: int, seed: int) -> float:
    """``‖Jᵀ r‖`` or ``‖J‖²`` of rows over the root of their number.

    Raises:
        ValueError: the rows, or their gradients, are not finite.
    """
    rows = block.reshape(-1) / math.sqrt(max(block.numel(), 1))
    if not rows.requires_grad:
        return 0.0
    if rule == "gradient":
        vectors = [rows.detach()]
    else:
        # E ‖Jᵀ v‖² = ‖J‖² for random signs v. Drawn on the CPU, they are the same on every device.
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(2, (probes, len(rows)), generator=generator)
        vectors = list((2 * signs - 1).to(rows))
    squares = [square_length(rows, trained, vector) for vector in vectors]
    size = sum(squares) / len(squares) if rule == "trace" else math.sqrt(squares[0])
    if not math.isfinite(size):
        raise ValueError(f"balance: the rows of {name}, or their gradients, are not finite.")
    return size


def square_length(rows: Tensor, trained: Sequence[Tensor], vector: Tensor) -> float:
    """``‖Jᵀ v‖²``, in double precision."""
    parts = torch.autograd.grad(rows, trained, vector, retain_graph=True, allow_unused=True)
    return sum(float(part.double().square().sum()) for part in parts if part is not None)
