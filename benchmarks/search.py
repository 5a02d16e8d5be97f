"""Exhaustive search against the plain loop: a copy of the network and an optimizer for each choice, in turn."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

import feasible as fs

from .timing import Line, against

STEPS = 100
ROWS, COLUMNS, HIDDEN = 3, 4, 16
KINDS: dict[str, dict[str, bool]] = {"": {}, "foreach ": {"foreach": True}, "fused ": {"fused": True}}
GOAL = 1 / 8


def main() -> Iterator[Line]:
    """A line for each batch size and each implementation of Adam, the same on both sides."""
    for samples in (32, 128):
        for kind, options in KINDS.items():
            yield from compare(samples, f"{kind}Adam", partial(torch.optim.Adam, lr=0.01, **options))


def compare(
    samples: int, name: str, optimizer: Callable[[list[Tensor]], torch.optim.Optimizer]
) -> Iterator[Line]:
    """All one-hot-column matrices, each with a network of its own, on a full batch."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(COLUMNS, ROWS, bias=False), nn.Linear(ROWS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1)
    )
    x = torch.randn(samples, COLUMNS)
    y = torch.sin(x[:, :1] + x[:, 1:2]) - x[:, 2:3] * x[:, 3:]
    members = list(fs.OneHot(dim=0).members((ROWS, COLUMNS)))
    found: dict[str, Tensor] = {}

    def search() -> None:
        trained = copy.deepcopy(model)
        fs.exhaustive_search(
            trained,
            {"0.weight": fs.OneHot(dim=0)},
            loss=lambda call, batch: (call(batch[0]) - batch[1]).square().mean(),
            batches=[(x, y)],
            steps=STEPS,
            optimizer=optimizer,
        )
        found["search"] = trained[0].weight.detach()

    def loop() -> None:
        losses = [train(copy.deepcopy(model), member) for member in members]
        found["loop"] = members[losses.index(min(losses))]

    def train(network: nn.Sequential, member: Tensor) -> float:
        network[0].weight.data.copy_(member)
        network[0].weight.requires_grad_(False)
        step = optimizer([parameter for parameter in network.parameters() if parameter.requires_grad])
        for _ in range(STEPS):
            step.zero_grad()
            (network(x) - y).square().mean().backward()
            step.step()
        with torch.no_grad():
            return (network(x) - y).square().mean().item()

    work = f"{len(members)} one-hot 3×4 × {STEPS} steps of {name}, {samples} rows"
    lines = list(against(work, search, {"plain loop": loop}, {"plain loop": GOAL}, rounds=9))
    if not torch.equal(found["search"], found["loop"]):
        raise RuntimeError("the search and the loop found different winners")
    yield from lines
