"""Residuals and rows of constraints with their Jacobians, stacked to the squares of an augmented Lagrangian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from feasible.optim.least_squares import Dense, flat_vjp
from feasible.optim.per_sample import NotPerSampleError, PerSample
from feasible.optim.region import Region
from feasible.optim.residuals import Residual
from feasible.optim.vector import Vector
from feasible.sets import Box
from feasible.solve.minimization.derivatives import LOOP, Derivatives
from feasible.solve.minimization.program import Program


class Here(NamedTuple):
    """A point, linearised."""

    x: Tensor
    residual: Tensor
    slopes: Tensor
    """Of the residual, (residuals, unknowns)."""
    rows: Tensor
    jacobian: Tensor
    """Of the rows, (rows, unknowns)."""

    @property
    def fun(self) -> float:
        """``½‖r‖²``."""
        return 0.5 * float(self.residual @ self.residual)

    @property
    def is_finite(self) -> bool:
        """Whether all of it has a value."""
        sums = torch.stack([part.sum() for part in self])
        return bool(sums.isfinite().all())


class Linear(NamedTuple):
    """The least squares ``½‖J s + r‖²`` of an augmented Lagrangian at a point."""

    r: Tensor
    system: Dense
    gradient: Tensor
    """``Jᵀ r``, which is ``∇f + Σ Aᵀλ⁺``."""
    multipliers: Tensor
    """``λ⁺``."""
    gaps: Tensor
    """``(λ⁺ − λ)/ρ``: what violation and complementarity are off."""


class Differentiated:
    """A flat function of the unknowns: layer by layer where each sample belongs to a row, else row by row.

    Args:
        function: computes a flat tensor from the leaves as they are.
        leaves: the unknowns.
        derivatives: what differentiates by rows.
    """

    def __init__(
        self, function: Callable[[], Tensor], leaves: Sequence[Tensor], derivatives: Derivatives
    ) -> None:
        self.function, self.leaves, self.derivatives = function, leaves, derivatives
        self._per_sample: PerSample | None = PerSample(leaves)

    def at(self) -> tuple[Tensor, Tensor]:
        """Value and Jacobian in float64."""
        with torch.enable_grad():
            rows = self.function()
        if self._per_sample is not None and len(rows) > LOOP:
            try:
                value, jacobian = self._per_sample.jacobian(self.function, self._product)
                return value.to(torch.float64, copy=True), jacobian.double()
            except NotPerSampleError:
                self._per_sample = None
        with torch.enable_grad():
            matrix = torch.from_numpy(self.derivatives.jacobian([rows], self.leaves))
        # A copy: what a function returns may be its argument, which moves.
        return rows.detach().to(torch.float64, copy=True), matrix.to(rows.device, torch.float64)

    def _product(self, c: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.function()
        return rows.detach(), flat_vjp(rows, self.leaves, c)


class Squares(Residual):
    """``r`` and ``√ρ (v + λ/ρ − P(v + λ/ρ))`` for the rows v of the constraints: half their squares are ``L_ρ``.

    Args:
        program: the problem; its residual and its rows.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        unknowns = program.unknowns
        given = unknowns.parameters or [tensor.clone().requires_grad_() for tensor in unknowns.tensors]
        self.leaves = list(given)
        self.vector = Vector(self.leaves)
        self.vector.dtype = torch.float64
        self.vector.is_rounded = any(leaf.dtype != torch.float64 for leaf in self.leaves)
        device = self.leaves[0].device
        super().__init__(self._numbers, None, device)
        self.region = self._region()
        self.low, self.high = (torch.from_numpy(side).to(device) for side in (program.low, program.high))
        self.is_equation = self.low == self.high
        self.multipliers = torch.zeros_like(self.low)
        self.penalties = torch.ones_like(self.low)
        self._residual = Differentiated(self._numbers, self.leaves, program.derivatives)
        self._rows = Differentiated(self._heights, self.leaves, program.derivatives)

    def _region(self) -> Region:
        """The bounds."""
        lower, upper = (torch.from_numpy(side) for side in (self.program.lower, self.program.upper))
        sets: list[Box | None] = []
        for leaf, at in zip(self.leaves, self.program.unknowns.slices, strict=True):
            sides = [side[at].reshape(leaf.shape).to(leaf.device) for side in (lower, upper)]
            is_bounded = any(bool(side.isfinite().any()) for side in sides)
            sets.append(Box(*sides) if is_bounded else None)
        return Region(self.leaves, sets, torch.float64)

    # -- values ------------------------------------------------------------------------------------

    def _numbers(self) -> Tensor:
        return self.program.residual_at(self.leaves)

    def _heights(self) -> Tensor:
        rows = self.program.row_values(self.program.values_of(self.leaves))
        return torch.cat([row.to(self.low) for row in rows]) if rows else torch.zeros_like(self.low)

    def at(self, dtype: torch.dtype) -> Tensor:
        """The numbers that are squared, at the leaves as they are."""
        with torch.enable_grad():  # a function may differentiate by its inputs
            residual, rows = self._numbers().detach().to(dtype), self._heights().detach().to(dtype)
        for what, values in (("fun", residual), ("a constraint", rows)):
            if not bool(values.isfinite().all()):
                self.program.not_finite = f"{what} is not finite"
        return torch.cat([residual, self.penalties.sqrt() * self.excess(rows)])

    def excess(self, rows: Tensor) -> Tensor:
        """``v + λ/ρ − P(v + λ/ρ)``."""
        shifted = rows + self.multipliers / self.penalties
        return shifted - self.nearest(shifted)

    def nearest(self, rows: Tensor) -> Tensor:
        """The rows, between their bounds."""
        return torch.where(self.is_equation, self.low, rows.clamp(self.low, self.high))

    # -- derivatives -------------------------------------------------------------------------------

    def linearise(self) -> Here:
        """Residual and rows at the leaves as they are."""
        known = self.program.evaluations  # the point is no new one
        self.program.differentiations += 1
        here = Here(self.vector.read(), *self._residual.at(), *self._rows.at())
        self.program.evaluations = known
        return here

    def at_multipliers(self, here: Here) -> Linear:
        """The squares of these multipliers and penalties at a point."""
        excess = self.excess(here.rows)
        moves = self.is_equation | (excess != 0)
        root = self.penalties.sqrt()
        r = torch.cat([here.residual, root * excess])
        system = Dense(torch.cat([here.slopes, (root * moves)[:, None] * here.jacobian]))
        gaps = excess - self.multipliers / self.penalties
        return Linear(r, system, system.transposed(r), self.penalties * excess, gaps)
