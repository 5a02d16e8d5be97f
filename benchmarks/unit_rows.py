"""Training steps on weights with rows of length 1: an attached Adam against optimizers on manifolds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

import feasible as fs

from . import peers
from .timing import Line, Run, against

COUNT, SIZE = 100, 100


def main() -> Iterator[Line]:
    """Lines of ratios of a step; the time of handing in fresh gradients is taken from both sides."""
    torch.manual_seed(0)
    starts = list(fs.Sphere().project(torch.randn(COUNT, SIZE, SIZE)))
    gradients = list(torch.randn(COUNT, SIZE, SIZE))
    weights = copies(starts)
    problem = fs.Problem(weights)
    problem.constrain("*", fs.Sphere())
    ours = problem.attach(torch.optim.Adam(weights, lr=1e-3, fused=True))
    plain = copies(starts)
    geoopt = peers.load("geoopt")
    others = {
        "geoopt's Adam": peers.using(
            geoopt, lambda geoopt: on_manifold(geoopt, "RiemannianAdam", starts, gradients)
        ),
        "geoopt's SGD": peers.using(
            geoopt, lambda geoopt: on_manifold(geoopt, "RiemannianSGD", starts, gradients)
        ),
        "Adam alone": step(torch.optim.Adam(plain, lr=1e-3, fused=True), plain, gradients),
        "Adam, then a loop by hand": by_hand(starts, gradients),
    }
    hand_in = copies(starts)
    yield from against(
        f"Sphere, step of {COUNT} weights of {SIZE}×{SIZE}",
        step(ours, weights, gradients),
        others,
        {"geoopt's Adam": 0.2},
        base=step(None, hand_in, gradients),
    )


def copies(starts: Sequence[Tensor]) -> list[Tensor]:
    """Weights of their own, with room for gradients."""
    weights = [start.clone().requires_grad_() for start in starts]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    return weights


def step(optimizer, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> Run:
    """Fresh gradients and a step."""

    def run() -> None:
        torch._foreach_copy_([weight.grad for weight in weights], gradients)
        if optimizer is not None:
            optimizer.step()

    return run


def on_manifold(geoopt, name: str, starts: Sequence[Tensor], gradients: Sequence[Tensor]) -> Run:
    """The same with geoopt's parameters on its sphere."""
    weights = [geoopt.ManifoldParameter(start.clone(), manifold=geoopt.Sphere()) for start in starts]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    return step(getattr(geoopt.optim, name)(weights, lr=1e-3), weights, gradients)


def by_hand(starts: Sequence[Tensor], gradients: Sequence[Tensor]) -> Run:
    """Adam with the Euclidean gradient, then rows over their norms: cheap, but it ends elsewhere."""
    weights = copies(starts)
    plain = step(torch.optim.Adam(weights, lr=1e-3, fused=True), weights, gradients)

    def run() -> None:
        plain()
        with torch.no_grad():
            for weight in weights:
                weight.div_(weight.norm(dim=-1, keepdim=True))

    return run
