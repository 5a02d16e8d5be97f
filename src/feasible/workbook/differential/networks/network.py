"""What every network is: a frozen specification; a problem and a seed make it a module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from feasible.workbook.differential.checks import one_of
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.errors import InputError


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
PIECEWISE = ("relu", "leaky_relu", "identity", "hardtanh")
"""Those that consist of straight pieces."""
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
        one_of(self, "dtype", tuple(PRECISIONS))

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
        InputError: there is none, or its second derivative does not tell anything.
    """
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        why = f" The second derivative of {name} is 0 wherever there is one." if name in PIECEWISE else ""
        raise InputError(
            f"activation must be one of {known}, which can be differentiated twice; got {name!r}.{why}",
            key=("activation",),
        )
    return ACTIVATIONS[name]()
