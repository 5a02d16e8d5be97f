"""Sinkhorn's iteration: rows and columns scaled in turn until all of them sum to 1."""

from __future__ import annotations

import torch
from torch import Tensor

from feasible.sets.precision import wide

DIFFERENTIATED_ROUNDS = 20
"""Rounds that gradients go through; those before only find where the iteration ends."""
MOST_ROUNDS = 400
ENOUGH = 1e-3
"""How far row sums may be from 1 before the differentiated rounds."""


def sinkhorn(scores: Tensor) -> Tensor:
    """The doubly stochastic matrices ``exp(scores + u + v)`` with a number u a row and v a column.

    Works in logarithms. Gradients go through the last rounds only, which is where they come from once the
    iteration has settled.
    """
    if scores.numel() == 0:
        return scores
    logs = wide(scores)
    with torch.no_grad():
        shift = _settled(logs.detach())
    logs = logs + shift
    for _ in range(DIFFERENTIATED_ROUNDS):
        logs = logs - logs.logsumexp(-1, keepdim=True)
        logs = logs - logs.logsumexp(-2, keepdim=True)
    return logs.exp().to(scores.dtype)


def _settled(logs: Tensor) -> Tensor:
    """What rows and columns have to be shifted by, nearly."""
    balanced, can_look = logs, not _is_mapped(logs)
    for round in range(MOST_ROUNDS):
        sums = balanced.logsumexp(-1, keepdim=True)
        balanced = balanced - sums
        balanced = balanced - balanced.logsumexp(-2, keepdim=True)
        # A NaN is never larger: it ends the rounds at once. Looking costs a synchronisation.
        if round % 10 == 9 and can_look and not bool((sums.abs() > ENOUGH).any()):
            break
    return balanced - logs


def _is_mapped(x: Tensor) -> bool:
    """Whether ``vmap`` stands for several tensors by this one."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            return True
        x = functorch.get_unwrapped(x)
    return False
