"""How hard a constraint has to pull: in a few early steps its gradient is compared with that of the loss.

With the norm ratio ``r = ‖∇f‖ / ‖∇⟨u, v⟩‖`` for a unit direction u of the value, and the extent V of what it has to
move, the scale ``s = r / V`` gives penalty times curvature of the constraint the size that the loss has: it makes
a method's own numbers independent of the units of the loss, of the value and of the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from feasible.methods.method import State


def is_measured(step: int) -> bool:
    """Whether gradients are compared at this step: 0, 1, 2, 4, 8, … take one more backward pass for loss and value."""
    return step & (step - 1) == 0


def first_scale(device: torch.device) -> State:
    """A scale of 1, from no measurement."""
    one = torch.ones((), dtype=torch.float32, device=device)
    return {"scale": one, "probes": torch.zeros_like(one), "extent": torch.zeros_like(one)}


@torch.compiler.disable  # type: ignore[untyped-decorator]
def norm_of_gradient(value: Tensor, direction: Tensor | None, leaves: Sequence[Tensor]) -> Tensor:
    """``‖∂⟨direction, value⟩/∂leaves‖``; the graph stays.

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
    norms = [_norm(gradient) for gradient in gradients if gradient is not None]
    if not norms:
        raise RuntimeError("the value does not depend on the weights")
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm


def _norm(gradient: Tensor) -> Tensor:
    dense = gradient.coalesce().values() if gradient.is_sparse else gradient
    norm: Tensor = torch.linalg.vector_norm(dense.float())
    return norm


def direction_and_extent(value: Tensor, residual: Tensor, slacks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Where the set is seen from a value, as a unit vector, and how far it or its boundary is away.

    The way to the set; inside it the value itself, or 1 everywhere. A tenth of the value's RMS is the least extent.
    """
    size, distance = torch.linalg.vector_norm(value), torch.linalg.vector_norm(residual)
    one = torch.ones_like(value) / max(value.numel(), 1) ** 0.5
    inside = torch.where(size > 0, value / torch.where(size > 0, size, 1.0), one)
    direction = torch.where(distance > 0, residual / torch.where(distance > 0, distance, 1.0), inside)
    rooms = [slack.square().mean().sqrt() for slack in slacks]
    least = 0.1 * value.square().mean().sqrt()
    return direction, torch.stack([distance, least, *rooms]).amax()


def measured(state: State, ratio: Tensor, extent: Tensor) -> Tensor:
    """(log₂ of the scale, extent, 1), or zeros where that is not finite: ranks add theirs up."""
    extent = torch.maximum(state["extent"], torch.where(extent.isfinite(), extent.float(), 0.0))
    scale = ratio.float() / extent
    is_valid = scale.isfinite() & (scale > 0)
    log, one = torch.where(is_valid, scale, 1.0).log2(), torch.ones_like(scale)
    return torch.stack([log, extent, one]) * is_valid


def updated(state: State, found: Tensor) -> State:
    """The state after one more measurement, which counts in full upwards and half downwards."""
    log, extent, count = found / found[2].clamp_min(1)
    before, is_first, is_valid = state["scale"].log2(), state["probes"] == 0, count > 0
    mean = torch.where(is_first, log, torch.maximum((before + log) / 2, log))
    return {
        # A power of two: multipliers change their unit without rounding, and small changes change nothing.
        "scale": torch.where(is_valid, mean.round().exp2(), state["scale"]),
        "probes": state["probes"] + is_valid,
        "extent": torch.where(is_valid, extent, state["extent"]),
    }
