"""Three losses of a linear layer, each with the bias that minimises it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Loss = Literal["squared", "l1", "hinge"]


def check_loss(loss: object) -> None:
    """Raise ``ValueError`` unless there is an exact solver for it."""
    if isinstance(loss, str) and loss in get_args(Loss):
        return
    raise ValueError(
        f'loss must be "squared", "l1" or "hinge", got {loss!r}.\n'
        "  For a model trained with another one, such as cross-entropy, give the real-valued model's own outputs as "
        'targets, with loss="squared".'
    )


@dataclass(frozen=True)
class Fit:
    """``min Σ loss(A W + c, B)`` over W (d, m); c is kept or, where ``is_free``, found with W."""

    A: Array
    B: Array
    loss: Loss
    is_free: bool
    kept: Array
    """The kept bias (m,); zeros where it is free."""

    def column(self, number: int) -> Fit:
        """One output alone."""
        return replace(self, B=self.B[:, [number]], kept=self.kept[[number]])

    def bias(self, W: Array) -> Array | None:
        """The best free bias for W, if it is free."""
        return best_bias(self.A @ W, self.B, self.loss) if self.is_free else None

    def values(self, W: Array) -> Array:
        """The loss of each of several W (…, d, m), with the best bias if it is free."""
        predictions = self.A @ W + self.kept
        if self.is_free:
            predictions = predictions + best_bias(predictions, self.B, self.loss)[..., None, :]
        return total(predictions, self.B, self.loss)


def total(predictions: Array, targets: Array, loss: Loss) -> Array:
    """The sum over the last two dimensions: ``Σ(p − b)²``, ``Σ|p − b|`` or ``Σ max(0, 1 − b p)``."""
    if loss == "hinge":
        each = np.maximum(1 - targets * predictions, 0)
    else:
        each = np.abs(predictions - targets) if loss == "l1" else np.square(predictions - targets)
    result: Array = each.sum((-2, -1))
    return result


def best_bias(predictions: Array, targets: Array, loss: Loss) -> Array:
    """``argmin_c total(predictions + c)``, a number for each output: the mean, a median, or its like for hinges.

    The hinge loss of targets ±1 has the slope −(number of positive samples) far on the left, and every sample
    adds 1 at ``c = b − p``: the smallest of these points from which on the slope is ≥ 0 is best.
    """
    shifts = targets - predictions
    if loss == "squared":
        mean: Array = shifts.mean(-2)
        return mean
    rows = shifts.shape[-2]
    place = (targets > 0).sum(-2) if loss == "hinge" else np.full(shifts.shape[-1], (rows + 1) // 2)
    index = np.broadcast_to(np.maximum(place, 1) - 1, shifts.shape[:-2] + shifts.shape[-1:])[..., None, :]
    chosen: Array = np.take_along_axis(np.sort(shifts, axis=-2), index, axis=-2)[..., 0, :]
    return chosen
