"""The study's own projection: Adam on the mean squared residual."""

from __future__ import annotations

import torch
from torch import nn

from feasible.solve.projection.search import Point, Search

WATCH = 10
"""Steps between looks at the residual."""


def adam(search: Search, most: int, rate: float) -> tuple[Point, int]:
    """Adam on the mean of the squared residuals, until all are within the tolerance or the steps are used up.

    Returns:
        The point with the smallest residual among those looked at, and the number of steps.

    Source: Kingma & Ba, *Adam: a method for stochastic optimization* (2015).
    """
    latent = [nn.Parameter(leaf.detach().clone()) for leaf in search.weights.leaves]
    optimizer = torch.optim.Adam(latent, lr=rate)
    best, steps = search.start, 0
    while steps < most and not search.is_feasible(best):
        search.differentiations += 1
        gradients = torch.autograd.grad(search.mean_square(), search.weights.leaves, allow_unused=True)
        for weight, gradient in zip(latent, gradients, strict=True):
            weight.grad = gradient
        optimizer.step()
        steps += 1
        x = search.weights.flat(latent)
        search.weights.write(x)
        if steps % WATCH == 0 or steps == most:
            here = search.evaluate(x)
            best = here if here.values.norm < best.values.norm else best
    return best, steps
