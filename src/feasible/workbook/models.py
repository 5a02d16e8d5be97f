"""The networks of the workbook: multilayer perceptrons whose layers have names to point at."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from feasible.workbook.data import Dataset
from feasible.workbook.tables import ModelTable


class Exp(nn.Module):
    """``exp(x)``: positive outputs."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it entry by entry."""
        return x.exp()


class Square(nn.Module):
    """``x²``: non-negative outputs."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it entry by entry."""
        return x.square()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "identity": nn.Identity,
}

RANGES: dict[str, tuple[float, float]] = {
    "relu": (0.0, math.inf),
    "tanh": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "softplus": (0.0, math.inf),
    "elu": (-1.0, math.inf),
    "silu": (-0.2785, math.inf),
    "identity": (-math.inf, math.inf),
}
"""What an activation can return, whatever it is given."""

OUTPUTS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "exp": Exp,
    "softplus": nn.Softplus,
    "relu": nn.ReLU,
    "square": Square,
    "sigmoid": nn.Sigmoid,
}


def build_model(model: ModelTable, dataset: Dataset, seed: int = 0) -> nn.Sequential:
    """The network for these data: ``hidden1``, ``hidden2``, …, ``head``; the same seed, the same weights.

    >>> from feasible.workbook.data import load_data
    >>> from feasible.workbook.tables import DataTable
    >>> network = build_model(ModelTable(hidden=(8,)), load_data(DataTable(source="wine")))
    >>> [name for name, _ in network.named_parameters()]
    ['hidden1.weight', 'hidden1.bias', 'head.weight', 'head.bias']
    """
    widths = [len(dataset.features), *model.hidden]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for index, (inputs, outputs) in enumerate(itertools.pairwise(widths), start=1):
            layers[f"hidden{index}"] = nn.Linear(inputs, outputs, bias=model.bias)
            layers[f"activation{index}"] = ACTIVATIONS[model.activations[index - 1]]()
        layers["head"] = nn.Linear(widths[-1], dataset.outputs, bias=model.bias)
        layers["output"] = OUTPUTS[model.output]()
    return nn.Sequential(layers)


def output_range(model: ModelTable, network: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Bounds of every output over all inputs whatsoever, by interval arithmetic through the last layer.

    A bound that does not exist is infinite. ``exp`` outputs are ≥ 0 for every input; so is a plain
    ``nn.Linear`` with weights and bias ≥ 0 behind a ReLU.
    """
    head = network.get_submodule("head")
    assert isinstance(head, nn.Linear)
    weight = head.weight.detach()
    low, high = RANGES[model.activations[-1]] if model.hidden else (-torch.inf, torch.inf)
    bias = torch.zeros(()) if head.bias is None else head.bias.detach()
    lowest = _bound_sum(weight.clamp_min(0), low) + _bound_sum(weight.clamp_max(0), high) + bias
    highest = _bound_sum(weight.clamp_min(0), high) + _bound_sum(weight.clamp_max(0), low) + bias
    output = OUTPUTS[model.output]()
    if model.output == "square":
        least = torch.where((lowest < 0) & (highest > 0), torch.zeros_like(lowest), lowest.abs())
        return torch.minimum(least, highest.abs()).square(), torch.maximum(
            lowest.abs(), highest.abs()
        ).square()
    return output(lowest), output(highest)


def _bound_sum(weights: Tensor, bound: float) -> Tensor:
    """``Σ w · bound`` over the inputs, where 0 · ∞ is 0."""
    return torch.where(weights == 0, torch.zeros_like(weights), weights * bound).sum(1)
