"""Networks for solutions that depend on inputs, such as the amplitude, frequency and phase of an oscillation."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from feasible import pde
from feasible.workbook.differential.checks import above_zero, at_least
from feasible.workbook.differential.networks.network import Network, Sine, activation
from feasible.workbook.differential.problems.oscillation import HIGH, LOW
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.errors import InputError

__all__ = ["Oscillator", "Rescaled", "Waves"]

HALVES = tuple((high - low) / 2 for low, high in zip((LOW[0], *LOW[2:]), (HIGH[0], *HIGH[2:]), strict=True))
"""Half the lengths of the intervals of x, f and φ."""
MIDDLE = (LOW[2] + HIGH[2]) / 2
"""Of f; the intervals of x and φ lie around 0."""


@final
@dataclass(frozen=True)
class Rescaled(Network):
    """The study's parametrised network: layers on x, each hidden unit scaled by an affine function of the inputs.

    ``h ← (W h_inputs + b) ⊙ σ(V h + c)``, layer by layer. With five layers of 50 units on three inputs it has 11,351
    parameters.

    Args:
        hidden: widths of the layers.
        activation: σ: ``"silu"`` (Swish) or ``"tanh"`` in the study.

    Source: Jergensen, *Constrained Neural Nets Workbook* (2019); Ha et al., *HyperNetworks* (2017).
    """

    hidden: tuple[int, ...] = (50,) * 5
    activation: str = "silu"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, hidden=1)

    def build(self, posed: Posed) -> nn.Module:
        """With torch's own initialisation."""
        network = RescaledLayers(
            posed.test[0].shape[1], posed.inputs, self.hidden, self.activation, posed.outputs
        )
        return posed.built_in(network.to(self.torch_dtype))


class RescaledLayers(nn.Module):
    """Layers whose units are scaled by functions of further inputs."""

    def __init__(self, dim: int, inputs: int, hidden: tuple[int, ...], name: str, outputs: int) -> None:
        super().__init__()
        widths = [dim, *hidden]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.activation = activation(name)
        self.scales = nn.Linear(inputs, sum(hidden))
        self.readout = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor, inputs: Tensor) -> Tensor:
        """Of (n, d) and (n, p)."""
        scales = self.scales(inputs).split([layer.out_features for layer in self.hidden], 1)
        for layer, scale in zip(self.hidden, scales, strict=True):
            x = scale * self.activation(layer(x))
        value: Tensor = self.readout(x)
        return value


@final
@dataclass(frozen=True)
class Oscillator(Network):
    """``A · N(x, f, φ)``: a perceptron times the first input, to which solutions are proportional.

    N sees x, f and φ brought to [−1, 1].

    Args:
        hidden: widths of N's layers.
        activation: behind each of them.
        first_scale: the first layer, times this: how fast its features vary.
        product: whether N gets ``f x``, too: in this number and φ alone the solution is one sine.
    """

    hidden: tuple[int, ...] = (20, 20, 20)
    activation: str = "tanh"
    first_scale: float = 3.0
    product: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, hidden=1)
        above_zero(self, "first_scale")

    def build(self, posed: Posed) -> nn.Module:
        """With torch's own initialisation, but for the first layer's scale."""
        _check(self, posed)
        widths = [3 + self.product, *self.hidden]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (before, after) in enumerate(itertools.pairwise(widths), start=1):
            layers[f"hidden{number}"] = nn.Linear(before, after)
            layers[f"activation{number}"] = activation(self.activation)
        layers["readout"] = nn.Linear(widths[-1], posed.outputs)
        network = TimesAmplitude(layers, self.product).to(self.torch_dtype)
        with torch.no_grad():
            network.get_parameter("layers.hidden1.weight").mul_(self.first_scale)
            network.get_parameter("layers.hidden1.bias").mul_(self.first_scale)
        return posed.built_in(network)


@final
@dataclass(frozen=True)
class Waves(Network):
    """``A · Σ c sin(w·(x, f, φ) + b)``: random features times the first input; only the ``readout`` c is learned.

    w is drawn uniformly in ±``bandwidths`` and b in ±π. The labels' grid cannot tell all such functions apart; rows of
    the equation between the labels can.

    Args:
        features: how many.
        bandwidths: for x, f and φ; the solution's own are 2π·5, 2π and 1, and these are a fifth wider.

    Source: Rahimi & Recht, *Random features for large-scale kernel machines* (2007).
    """

    features: int = 3000
    bandwidths: tuple[float, ...] = (38.0, 8.0, 1.2)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, features=1)
        above_zero(self, "bandwidths")
        if len(self.bandwidths) != len(HALVES):
            message = f"bandwidths must be three numbers, for x, f and φ; got {len(self.bandwidths)}."
            raise InputError(message, key=("bandwidths",))

    def build(self, posed: Posed) -> nn.Module:
        """Features by torch's random numbers, coefficients 0."""
        _check(self, posed)
        hidden, readout = nn.Linear(3, self.features), nn.Linear(self.features, posed.outputs, bias=False)
        scale = [bandwidth * half for bandwidth, half in zip(self.bandwidths, HALVES, strict=True)]
        pde.init_features_(hidden, ([-1.0] * 3, [1.0] * 3), scale, activation="sin")
        nn.init.zeros_(readout.weight)
        layers = OrderedDict(hidden1=hidden, activation1=Sine(), readout=readout)
        return posed.built_in(TimesAmplitude(layers).to(self.torch_dtype))


class TimesAmplitude(nn.Module):
    """Layers on (x, f, φ), brought to [−1, 1], times A.

    Args:
        layers: by name.
        product: whether the layers get ``f x`` as a fourth number.
    """

    def __init__(self, layers: OrderedDict[str, nn.Module], product: bool = False) -> None:
        super().__init__()
        self.layers, self.product = nn.Sequential(layers), product

    def forward(self, x: Tensor, inputs: Tensor) -> Tensor:
        """Of (n, 1) and the rows (A, f, φ), (n, 3)."""
        amplitude, frequency, phase = inputs[:, :1], inputs[:, 1:2], inputs[:, 2:]
        columns = [x, (frequency - MIDDLE) / HALVES[1], phase / HALVES[2]]
        if self.product:
            columns.append(frequency * x)
        value: Tensor = amplitude * self.layers(torch.cat(columns, 1))
        return value


def _check(network: Network, posed: Posed) -> None:
    if posed.inputs != 3 or posed.test[0].shape[1] != 1:
        raise InputError(
            f"{type(network).__name__} is a function of x and (A, f, φ): it belongs to the equation Oscillation."
        )
