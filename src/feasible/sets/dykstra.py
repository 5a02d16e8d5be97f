"""Dykstra's iteration: the projection onto an intersection from the projections onto its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Dykstra:
    """Where the iteration ended and how."""

    point: Tensor
    converged: bool
    iterations: int
    gap: float
    """Largest movement between two parts in the last round: 0 at a common point."""


def dykstra(
    x: Tensor,
    projections: Sequence[Callable[[Tensor], Tensor]],
    contained: Callable[[Tensor], Tensor],
    most: int = 2_000,
    check_every: int = 5,
) -> Dykstra:
    """``argmin_p ½‖p − x‖²`` over the common points of the parts.

    Each part corrects what its own last projection has taken away. It has converged when those
    corrections have come to rest and every part contains the point; checking costs one
    synchronisation every ``check_every`` rounds.
    """
    work = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    point = work
    corrections = [torch.zeros_like(work) for _ in projections]
    small = torch.finfo(work.dtype).eps
    gap = 0.0
    for iteration in range(1, most + 1):
        before = [correction.detach() for correction in corrections]
        movement = torch.zeros((), dtype=work.dtype, device=work.device)
        for index, project in enumerate(projections):
            shifted = point + corrections[index]
            nearest = project(shifted)
            movement = torch.maximum(movement, _largest(nearest.detach() - point.detach()))
            corrections[index] = shifted - nearest
            point = nearest
        if iteration % check_every and iteration > 2:
            continue
        change = max(
            float(_largest(new.detach() - old)) for new, old in zip(corrections, before, strict=True)
        )
        gap = float(movement)
        if not (change <= 8 * small * (1 + float(_largest(work.detach())))):
            continue
        rounded = point.to(x.dtype)
        if bool(contained(rounded.detach()).all()):
            return Dykstra(rounded, True, iteration, gap)
        if gap == 0.0:
            break
    return Dykstra(point.to(x.dtype), False, most, gap)


def _largest(x: Tensor) -> Tensor:
    return x.abs().max() if x.numel() else torch.zeros((), dtype=x.dtype, device=x.device)
