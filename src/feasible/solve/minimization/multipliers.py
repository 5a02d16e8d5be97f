"""Multipliers of rows, told as multipliers of the constraints' values."""

from __future__ import annotations

import torch
from torch import Tensor

from feasible.solve.minimization.program import Program
from feasible.solve.minimization.unknowns import Vector


def shaped_multipliers(program: Program, x: Vector, rows: Vector, pull: Vector) -> list[Tensor]:
    """Multipliers of rows and bounds, as one tensor in the shape of each constraint's value."""
    values = program.values_at(x)
    left = pull.copy()
    shaped = []
    for requirement, value in zip(program.requirements, values, strict=True):
        if requirement.bounds is not None:
            shaped.append(program.share(requirement, left))
            continue
        precise = value.to("cpu", torch.float64).requires_grad_()
        with torch.enable_grad():
            described = [row.function(precise).reshape(-1) for row in requirement.rows or ()]
            joined = torch.cat(described) if described else precise.reshape(-1)[:0]
        weights = torch.from_numpy(rows[requirement.span].copy())
        if not described or not weights.any():
            shaped.append(torch.zeros_like(precise))
            continue
        (multiplier,) = torch.autograd.grad(joined, precise, weights)
        shaped.append(multiplier)
    return shaped
