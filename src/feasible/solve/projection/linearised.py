"""Constraint rows and outputs as affine functions of the parameters near a point."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from feasible.optim.least_squares import Products, flat_vjp
from feasible.optim.per_sample import NotPerSampleError, PerSample
from feasible.optim.residuals import batched_jacobian
from feasible.solve.projection.weights import Weights

LOOP = 4
"""Up to this many rows one backward each is faster than a batched one."""


class Differentiation:
    """The Jacobian of a flat function of the parameters, in the form that is cheapest for it.

    Rows that depend on a sample each come from one backward pass, others from batched vector–Jacobian products, and
    where torch cannot batch these, one by one.

    Args:
        function: computes a flat tensor from the present parameters.
        weights: the parameters.
    """

    def __init__(self, function: Callable[[], Tensor], weights: Weights) -> None:
        self.function, self.weights = function, weights
        self._per_sample: PerSample | None = PerSample(weights.leaves)

    @torch.no_grad()
    def matrix(self) -> tuple[Tensor, Tensor]:
        """The value and the Jacobian (rows, parameters) in float64."""
        with torch.enable_grad():
            rows = self.function()
        if not rows.requires_grad or not len(rows):
            return rows.detach().double(), torch.zeros(
                len(rows), self.weights.count, dtype=torch.float64, device=rows.device
            )
        if self._per_sample is not None and len(rows) > LOOP:
            try:
                value, jacobian = self._per_sample.jacobian(self.function, self._product)
                return value.double(), jacobian.double()
            except NotPerSampleError:
                self._per_sample = None
        return rows.detach().double(), self._plain(rows)

    def _product(self, c: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.function()
        return rows.detach(), flat_vjp(rows, self.weights.leaves, c)

    def _plain(self, rows: Tensor) -> Tensor:
        if len(rows) > LOOP:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # torch warns where it would only loop in a slower way
                    return batched_jacobian(rows, self.weights.leaves).double()
            except (RuntimeError, UserWarning):
                pass  # some operation of the model cannot be batched; the loop below is the same mathematics
        one = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
        return torch.stack([flat_vjp(rows, self.weights.leaves, unit).double() for unit in one])

    def products(self, tolerance: float, rounds: int) -> Products:
        """The Jacobian by its products alone."""
        with torch.enable_grad():
            return Products(lambda: (self.function(), None), self.weights.leaves, tolerance, rounds)
