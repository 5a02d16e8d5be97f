"""A set's slack functions as one tensor, and the way from their multipliers to that of the value."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from feasible.sets import Set


def slacks(value: Tensor, set: Set) -> Tensor:
    """All slack functions side by side: behind dimension 0 where the value has one, else in one vector."""
    found = set.slack(value)
    if found and value.dim() and all(slack.dim() and slack.shape[0] == value.shape[0] for slack in found):
        return torch.cat([slack.reshape(len(slack), math.prod(slack.shape[1:])) for slack in found], dim=1)
    return torch.cat([value.reshape(-1)[:0], *(slack.reshape(-1) for slack in found)])


def pulled_back(duals: Tensor, value: Tensor, set: Set) -> Tensor:
    """``Jᵀμ``, J the Jacobian of the slack functions at this value: in the shape of the value."""
    with torch.enable_grad():
        at = value.detach().requires_grad_()
        (gradient,) = torch.autograd.grad((duals * slacks(at, set)).sum(), at)
    return gradient
