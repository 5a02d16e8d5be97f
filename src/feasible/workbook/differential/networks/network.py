"""What every network is: a frozen specification; a problem and a seed make it a module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from feasible.workbook.differential.problems.problem import Posed


class Sine(nn.Module):
    """``sin x``."""

    def forward(self, x: Tensor) -> Tensor:
        """Entry by entry."""
        return x.sin()


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
    "sin": Sine,
}
"""Those that can be differentiated twice."""
Precision = Literal["float32", "float64"]
PRECISIONS: dict[Precision, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Network(ABC):
    """A function of ``(x, *inputs)``.

    Args:
        dtype: of parameters and points: ``"float64"`` or ``"float32"``.
    """

    dtype: Precision = "float64"

    def __post_init__(self) -> None:
        if self.dtype not in PRECISIONS:
            raise ValueError(f"dtype must be one of {', '.join(PRECISIONS)}, got {self.dtype!r}.")

    @abstractmethod
    def build(self, posed: Posed) -> nn.Module:
        """The module, with torch's random numbers; what is built into the problem is around it."""

    @property
    def torch_dtype(self) -> torch.dtype:
        """The precision of parameters and points."""
        return PRECISIONS[self.dtype]


def activation(name: str) -> nn.Module:
    """The activation of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(
            f"activation must be one of {known}, which can be differentiated twice; got {name!r}."
        )
    return ACTIVATIONS[name]()
