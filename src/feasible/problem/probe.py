"""How hard a constraint has to pull: in a few early steps its gradient is compared with that of the loss.

With the norm ratio ``r = ‖∇f‖ / ‖∇⟨u, v⟩‖`` for a unit direction u of the value, and the extent V of what it has to
move, the scale ``s = r / V`` gives penalty times curvature of the constraint the size that the loss has: it makes
a method's own numbers independent of the units of the loss, of the value and of the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from feasible.methods.method import State


def is_measured(step: int) -> bool:
    """Whether gradients are compared at this step: 0, 1, 2, 4, 8, … take one more backward pass for loss and value."""
    return step & (step - 1) == 0


def first_scale(value: Tensor) -> State:
    """A scale of 1, from no measurement."""
    one = value.new_ones(())
    return {"scale": one, "probes": torch.zeros_like(one), "extent": torch.zeros_like(one)}


@torch.compiler.disable  # type: ignore[untyped-decorator]
def norms_of_gradients(
    value: Tensor, direction: Tensor | None, leaves: Sequence[Tensor]
) -> list[Tensor | None]:
    """``‖∂⟨direction, value⟩/∂leaf‖`` for each leaf, ``None`` where the value does not see it; the graph stays.

    Raises:
        RuntimeError: there is no graph, or it can be used only once.
    """
    gradients = torch.autograd.grad(
        value,
        leaves,
        None if direction is None else direction.to(value.dtype),
        retain_graph=True,
        allow_unused=True,
    )
    return [None if gradient is None else _norm(gradient) for gradient in gradients]


def _norm(gradient: Tensor) -> Tensor:
    dense = gradient.coalesce().values() if gradient.is_sparse else gradient
    norm: Tensor = torch.linalg.vector_norm(dense.float())
    return norm


def norms_of_both(loss: Sequence[Tensor | None], value: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
    """The norms of the gradients of loss and value, in the weights that the value sees.

    Raises:
        RuntimeError: it sees none that the loss sees too.
    """
    pairs = [(a, b) for a, b in zip(loss, value, strict=True) if a is not None and b is not None]
    if not pairs:
        raise RuntimeError("loss and value do not depend on the same weights")
    both = torch.stack([torch.stack(pair) for pair in pairs])
    norms: Tensor = torch.linalg.vector_norm(both, dim=0)
    return norms[0], norms[1]


class Outlook(NamedTuple):
    """What a constraint may have to do to its value."""

    direction: Tensor
    """Where it may pull, of length 1 where the value is pulled as a whole."""
    extent: Tensor
    """How far."""
    is_outside: Tensor
    """Whether that is the distance of a value outside: the largest is remembered."""
    weight: float = 1.0
    """What its term is multiplied with in the loss."""


def outlook(value: Tensor, residual: Tensor, slacks: Iterable[Tensor]) -> Outlook:
    """The way to the set and its length; inside it the value itself (or 1 everywhere), and how far the boundary is.

    A quarter of the value's RMS is the least extent.
    """
    size, distance = torch.linalg.vector_norm(value), torch.linalg.vector_norm(residual)
    one = torch.ones_like(value) / max(value.numel(), 1) ** 0.5
    inside = torch.where(size > 0, value / torch.where(size > 0, size, 1.0), one)
    direction = torch.where(distance > 0, residual / torch.where(distance > 0, distance, 1.0), inside)
    rooms = [slack.square().mean().sqrt() for slack in slacks]
    least = value.square().mean().sqrt() / 4
    room = torch.stack([least, *rooms]).amax()
    return Outlook(direction, torch.where(distance > 0, torch.maximum(distance, least), room), distance > 0)


FLAT = 1e-6
"""A gradient this small beside the loss itself says nothing; a constant added to the loss must not look like it."""


class LossSize(NamedTuple):
    """The loss and the norms of its gradient in each leaf."""

    amount: Tensor
    norms: Sequence[Tensor | None]


def measured(
    state: State, loss: Tensor, loss_norm: Tensor, norm: Tensor, ahead: Outlook, rate: float | None
) -> Tensor:
    """(log₂ of the scale, extent, 1), or zeros where that is not finite: ranks add theirs up.

    The scale is ``‖∇f‖ / (w ‖∇⟨u, v⟩‖ V)``, and where the loss happens to be flat at least ``|f| / (10 w V²)``;
    under plain gradient steps of a given rate it is at most what they can follow, ``1 / (2 w rate ‖∇⟨u, v⟩‖²)``.
    """
    largest = torch.maximum(state["extent"], torch.nan_to_num(ahead.extent.float(), posinf=0.0))
    remembered = torch.where(ahead.is_outside, largest, state["extent"])
    extent = torch.where(remembered > 0, remembered, largest)
    least = loss.detach().abs().float() / (10 * ahead.weight * extent.square())
    scale = loss_norm / (ahead.weight * norm * extent)
    scale = torch.where(scale < FLAT * least, least, scale)
    if rate:
        scale = torch.minimum(scale, 1 / (2 * ahead.weight * rate * norm.square()))
    is_valid = scale.isfinite() & (scale > 0)
    log, one = torch.where(is_valid, scale, 1.0).log2(), torch.ones_like(scale)
    return torch.stack([log, remembered, one]) * is_valid


def updated(state: State, found: Tensor) -> State:
    """The state after one more measurement, which counts in full upwards and half downwards."""
    log, extent, count = (found / found[2].clamp_min(1)).to(state["scale"])
    before, is_first, is_valid = state["scale"].log2(), state["probes"] == 0, count > 0
    mean = torch.where(is_first, log, torch.maximum((before + log) / 2, log))
    return {
        # A power of two: multipliers change their unit without rounding, and small changes change nothing.
        "scale": torch.where(is_valid, mean.round().exp2(), state["scale"]),
        "probes": state["probes"] + is_valid,
        "extent": torch.where(is_valid, extent, state["extent"]),
    }
