"""Models, data and the plain loop that a search is compared with."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import feasible as fs

Factory = Callable[[list[Tensor]], torch.optim.Optimizer]


def squares(call: Callable[..., Tensor], batch: Any) -> Tensor:
    """Mean squared error of a model that takes the batch's first tensor."""
    x, y = batch
    return (call(x) - y).square().mean()


def absolutes(call: Callable[..., Tensor], batch: Any) -> Tensor:
    """Mean absolute error, and a term that calls the model again."""
    x, y = batch
    return (call(x) - y).abs().mean() + 0.1 * call(-x).square().mean()


def entropy(call: Callable[..., Tensor], batch: Any) -> Tensor:
    """Cross-entropy of two classes: whether the target is positive."""
    x, y = batch
    return functional.cross_entropy(call(x), (y[:, 0] > 0).long())


def data(inputs: int = 4, samples: int = 24, dtype: torch.dtype = torch.float64, parts: int = 1) -> list[Any]:
    """Batches of (x, y): y is a smooth function of a one-hot mixture of x."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(samples, inputs, generator=generator, dtype=torch.float64)
    y = torch.sin(x[:, :1] + x[:, 1:2]) - 0.5 * x[:, -1:]
    return list(zip(x.to(dtype).chunk(parts), y.to(dtype).chunk(parts)))


def loop(
    model: nn.Module,
    choices: Mapping[str, fs.sets.Set],
    loss: Callable[..., Tensor],
    batches: Sequence[Any],
    steps: int,
    optimizer: Factory,
) -> tuple[list[Tensor], list[nn.Module]]:
    """What anybody would write: a copy of the model and a fresh optimizer for each choice, one after the other."""
    names = list(choices)
    shapes = {name: model.get_parameter(name).shape for name in names}
    losses, models = [], []
    for members in itertools.product(*(choices[name].members(shapes[name]) for name in names)):
        net = copy.deepcopy(model)
        for name, member in zip(names, members):
            weight = net.get_parameter(name)
            weight.data.copy_(member)
            weight.requires_grad_(False)
        made = optimizer([parameter for parameter in net.parameters() if parameter.requires_grad])
        for step in range(steps):
            made.zero_grad()
            loss(net, batches[step % len(batches)]).backward()
            made.step()
        net.eval()
        with torch.no_grad():
            losses.append(torch.stack([loss(net, batch) for batch in batches]).mean())
        models.append(net)
    return losses, models


class Shared(nn.Module):
    """A weight that is used twice, and a bias that takes no gradients."""

    def __init__(self, inputs: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, inputs)
        self.second = nn.Linear(inputs, inputs)
        self.second.weight = self.first.weight
        self.head = nn.Linear(inputs, 1)
        self.head.bias.requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Replacing(nn.Module):
    """Buffers of its own: one replaced at each call in training, one written to, a counter, and a constant."""

    def __init__(self, inputs: int = 4) -> None:
        super().__init__()
        self.mix = nn.Linear(inputs, 3, bias=False)
        self.head = nn.Linear(3, 1)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("seen", torch.zeros(3))
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("scale", torch.full((1,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.mix(x)
        if self.training:
            with torch.no_grad():
                self.mean = 0.9 * self.mean + 0.1 * hidden.mean(0)
                self.seen += hidden.abs().sum(0)
                self.calls += 1
        return self.head(torch.tanh(hidden - self.mean)) * self.scale


class Recurrent(nn.Module):
    """Attention, an embedding of positions, and a layer norm."""

    def __init__(self, inputs: int = 4) -> None:
        super().__init__()
        self.mix = nn.Linear(inputs, 4, bias=False)
        self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.mix(x).unsqueeze(1)).squeeze(1))


def mlp(inputs: int = 4) -> nn.Module:
    """The network of the yardstick: a chosen matrix, then 3-16-1."""
    return nn.Sequential(nn.Linear(inputs, 3, bias=False), nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))


def normed(inputs: int = 4) -> nn.Module:
    """With batch norm, one of which counts its batches."""
    return nn.Sequential(
        nn.Linear(inputs, 3),
        nn.BatchNorm1d(3),
        nn.Tanh(),
        nn.Linear(3, 5),
        nn.BatchNorm1d(5, momentum=None),
        nn.Linear(5, 1),
    )


def convolution(inputs: int = 4) -> nn.Module:
    """A chosen kernel, ReLU, two classes."""
    return nn.Sequential(
        nn.Unflatten(1, (1, inputs)),
        nn.Conv1d(1, 2, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.LayerNorm(2 * (inputs - 1)),
        nn.Linear(2 * (inputs - 1), 2),
    )


SIGNS = fs.FiniteSet([-1, 1])
ONE_HOT = {"0.weight": fs.OneHot(dim=0)}


def search(model, choices=ONE_HOT, loss=squares, batches=None, steps=20, **options):
    batches = data() if batches is None else batches
    return fs.exhaustive_search(model, choices, loss=loss, batches=batches, steps=steps, **options)


def network(make=mlp, dtype=torch.float64):
    torch.manual_seed(3)
    return make().to(dtype)


def parametrized():
    model = mlp()
    nn.utils.parametrizations.orthogonal(model[0])
    return model
