"""A Laplacian in the plane of a 3 × 150 tanh network, forward and backward, against nested ``autograd.grad``.

Two peers: the careful form takes the gradient once and differentiates each of its entries; the usual form, each second
derivative by itself, takes it once for each. The note says what each keeps for the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from feasible import pde

from .timing import Line, against

POINTS = (100, 1000, 4000)
GOAL = 0.5
Laplacian = Callable[[nn.Module, Tensor], Tensor]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    widths = (2, 150, 150, 150)
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(150, 1))


def by_jets(model: nn.Module, x: Tensor) -> Tensor:
    return pde.derivatives(model, x, wanted=["laplacian"]).laplacian


def gradient_once(model: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    return torch.stack([second(slope[:, i], x)[:, i : i + 1] for i in range(x.shape[1])]).sum(0)


def each_by_itself(model: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    value = model(x)
    parts = [second(second(value, x)[:, i], x)[:, i : i + 1] for i in range(x.shape[1])]
    return torch.stack(parts).sum(0)


def second(value: Tensor, x: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    return slope


def trained(laplacian: Laplacian, model: nn.Module, x: Tensor) -> None:
    model.zero_grad()
    laplacian(model, x).square().mean().backward()


def kept(laplacian: Laplacian, model: nn.Module, x: Tensor) -> float:
    """MiB that the backward pass keeps, each tensor once."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = laplacian(model, x)
    del result
    return sum(sizes.values()) / 2**20


def main() -> Iterator[Line]:
    """Lines for small and large batches."""
    model = network()
    peers = {"autograd.grad, gradient once": gradient_once, "autograd.grad, each by itself": each_by_itself}
    for count in POINTS:
        x = torch.rand(count, 2, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(by_jets(model, x), gradient_once(model, x), atol=1e-5, rtol=1e-4)
        memory = ", ".join(f"{kept(form, model, x):.1f}" for form in (by_jets, *peers.values()))
        yield from against(
            f"Laplacian, {count:,} points, 3 × 150, and its gradient",
            partial(trained, by_jets, model, x),
            {name: partial(trained, form, model, x) for name, form in peers.items()},
            goals=dict.fromkeys(peers, GOAL),
            rounds=15,
            note=f"kept MiB: {memory}",
        )
