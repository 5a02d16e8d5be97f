"""A multilayer perceptron on coordinates and inputs side by side."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from feasible.workbook.differential.checks import above_zero, at_least
from feasible.workbook.differential.networks.network import Network, activation
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.errors import InputError

__all__ = ["Perceptron"]


@final
@dataclass(frozen=True)
class Perceptron(Network):
    """Layers ``hidden1``, ``hidden2``, … and ``readout``.

    Args:
        hidden: their widths.
        activation: behind each hidden layer: ``"tanh"``, ``"silu"``, ``"softplus"``, ``"gelu"`` or ``"sin"``.
        first_scale: the first layer's weights, times this: how fast its features vary.

    Raises:
        InputError: there is no hidden layer, a number is not positive, or the activation cannot be differentiated
            twice.
    """

    hidden: tuple[int, ...] = (32, 32)
    activation: str = "tanh"
    first_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.hidden:
            message = "hidden must name at least one layer: a network without one is an affine function."
            raise InputError(message, key=("hidden",))
        at_least(self, hidden=1)
        above_zero(self, "first_scale")
        activation(self.activation)

    def build(self, posed: Posed) -> nn.Module:
        """With torch's own initialisation, but for the first layer's scale."""
        dim = posed.test[0].shape[1]
        widths = [dim + posed.inputs, *self.hidden]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (before, after) in enumerate(itertools.pairwise(widths), start=1):
            layers[f"hidden{number}"] = nn.Linear(before, after)
            layers[f"activation{number}"] = activation(self.activation)
        layers["readout"] = nn.Linear(widths[-1], posed.outputs)
        network = SideBySide(layers).to(self.torch_dtype)
        with torch.no_grad():
            network.get_parameter("hidden1.weight").mul_(self.first_scale)
        return posed.built_in(network)


class SideBySide(nn.Sequential):
    """Layers over all arguments, concatenated."""

    def forward(self, *columns: Tensor) -> Tensor:
        """Of (n, d) and further (n, p)."""
        value = torch.cat(columns, 1)
        for layer in self:
            value = layer(value)
        return value
