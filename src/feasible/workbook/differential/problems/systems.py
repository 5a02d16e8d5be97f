"""The rows of a ``pde.System``, block by block."""

from __future__ import annotations

import torch
from torch import Tensor

from feasible import pde
from feasible.workbook.differential.rows import Columns, Model, Rows

HELD_OUT = 1000


def rows_of_system(
    system: pde.System, seed: int, held_out: int = HELD_OUT, unit: float = 1.0
) -> tuple[list[Rows], Rows]:
    """Its equation and conditions, and the equation at random points that are not trained on.

    Args:
        system: without further inputs.
        seed: of the points that are held out.
        held_out: how many of them.
        unit: what the equation's rows are divided by, where its terms are not of order one.
    """
    like = system.points

    def residual(model: Model, x: Tensor) -> Tensor:
        return system.equation(model, x) / unit

    def draw(count: int, generator: torch.Generator) -> Columns:
        return (pde.uniform(system.domain, count, generator=generator, dtype=like.dtype),)

    inside = Rows("equation", "equation", residual, (like,), draw)
    conditions = [
        Rows(condition.name, "condition", condition.residual, (condition.points(like),))
        for condition in system.conditions
    ]
    generator = torch.Generator().manual_seed(1_000_003 + seed)
    return [inside, *conditions], inside.redrawn(generator, held_out)


def grid_of(domain: pde.Domain, *nodes: Tensor) -> Tensor:
    """All combinations of nodes along the axes, the last one fastest, (n, dim)."""
    points = torch.cartesian_prod(*nodes) if len(nodes) > 1 else nodes[0][:, None]
    return domain.require(points)
