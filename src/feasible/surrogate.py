"""Values whose truth has no derivative: a smooth stand-in moves the weights, the truth moves the multiplier."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Surrogate"]


@dataclass(frozen=True)
class Surrogate:
    """A smooth value with the true one that it stands for.

    Handed to ``problem.loss``, the term's gradient flows through ``smooth``; multipliers move on ``truth``, and
    the report speaks of it.

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
