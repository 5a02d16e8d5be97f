"""Values whose truth has no derivative: a smooth stand-in moves the weights, the truth moves the multiplier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Surrogate", "stack"]


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A smooth value with the true one that it stands for.

    Handed to ``problem.loss``, the term's gradient flows through ``smooth``; multipliers move on ``truth``, and
    the report speaks of it. An entry whose truth is NaN (a rate of a group that the batch does not hold) pulls at
    nothing and moves no multiplier. Surrogates can be added, subtracted, indexed, and multiplied by numbers.

    Args:
        smooth: a tensor with a derivative, such as the mean of a sigmoid.
        truth: the value that has to be in the set, in the same shape: a rate, a count.

    Raises:
        ValueError: the two have different shapes.

    >>> import torch
    >>> score = torch.tensor([0.3, -0.2], requires_grad=True)
    >>> Surrogate(torch.sigmoid(score).mean(), (score > 0).float().mean()).truth
    tensor(0.5000)

    Source: Cotter, Jiang & Sridharan, *Two-player games for efficient non-convex constrained optimization* (2019).
    """

    smooth: Tensor
    truth: Tensor

    def __post_init__(self) -> None:
        for name in ("smooth", "truth"):
            if not isinstance(getattr(self, name), Tensor):
                raise ValueError(
                    f"Surrogate: {name} must be a tensor, got {type(getattr(self, name)).__name__}."
                )
        if self.smooth.shape != self.truth.shape:
            raise ValueError(
                f"Surrogate: smooth and truth must have one shape, got {tuple(self.smooth.shape)} "
                f"and {tuple(self.truth.shape)}."
            )
        object.__setattr__(self, "truth", self.truth.detach().to(self.smooth.dtype))

    def __add__(self, other: Surrogate | Tensor | float) -> Surrogate:
        smooth, truth = _parts(other)
        return Surrogate(self.smooth + smooth, self.truth + truth)

    def __sub__(self, other: Surrogate | Tensor | float) -> Surrogate:
        smooth, truth = _parts(other)
        return Surrogate(self.smooth - smooth, self.truth - truth)

    def __rsub__(self, other: Tensor | float) -> Surrogate:
        return -self + other

    def __mul__(self, factor: Tensor | float) -> Surrogate:
        return Surrogate(self.smooth * factor, self.truth * factor)

    def __truediv__(self, divisor: Tensor | float) -> Surrogate:
        return Surrogate(self.smooth / divisor, self.truth / divisor)

    def __neg__(self) -> Surrogate:
        return Surrogate(-self.smooth, -self.truth)

    def __getitem__(self, index: Any) -> Surrogate:
        return Surrogate(self.smooth[index], self.truth[index])

    __radd__ = __add__
    __rmul__ = __mul__

    def max(self) -> Surrogate:
        """The largest truth, with the smooth part of the entry that has it; entries that are NaN are left out.

        >>> import torch
        >>> Surrogate(torch.tensor([0.6, 0.4, 0.9]), torch.tensor([0.5, 1.0, torch.nan])).max()
        Surrogate(smooth=tensor(0.4000), truth=tensor(1.))
        """
        # Not −∞ in the place of NaN: where nothing is known, the maximum is NaN.
        known = torch.where(self.truth.isnan(), -torch.inf, self.truth)
        largest = torch.where(self.truth.isnan().all(), torch.nan, known.max())
        return Surrogate(_mean_where(self.truth == largest, self.smooth), largest)

    def min(self) -> Surrogate:
        """The smallest truth, with the smooth part of the entry that has it; entries that are NaN are left out.

        >>> import torch
        >>> Surrogate(torch.tensor([0.6, 0.4]), torch.tensor([0.5, 1.0])).min()
        Surrogate(smooth=tensor(0.6000), truth=tensor(0.5000))
        """
        return -(-self).max()


def stack(values: Sequence[Surrogate]) -> Surrogate:
    """Several surrogates of one shape as the entries of one, so that one set speaks of them all.

    Args:
        values: at least one; their shapes are equal.

    Raises:
        ValueError: there is none.
        RuntimeError: their shapes differ.

    >>> import torch
    >>> one = Surrogate(torch.tensor(0.4), torch.tensor(0.5))
    >>> stack([one, 1 - one]).smooth
    tensor([0.4000, 0.6000])
    """
    if not values:
        raise ValueError("stack: expected at least one Surrogate, got none.")
    return Surrogate(torch.stack([v.smooth for v in values]), torch.stack([v.truth for v in values]))


def _parts(other: Surrogate | Tensor | float) -> tuple[Tensor | float, Tensor | float]:
    return (other.smooth, other.truth) if isinstance(other, Surrogate) else (other, other)


def _mean_where(mask: Tensor, value: Tensor) -> Tensor:
    """The mean of the picked entries; NaN, and no gradient, where none is."""
    count = mask.sum()
    mean = torch.where(mask, value, 0.0).sum() / count.clamp_min(1)
    return torch.where(count > 0, mean, torch.nan)
