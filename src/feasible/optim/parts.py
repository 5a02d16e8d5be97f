"""A Jacobian by its products, some rows at a time: for residuals whose graph does not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from feasible.optim.least_squares import Products, flat_vjp


class ProductsOfParts(Products):
    """``Products`` of a residual in parts, each of which is computed anew for every product.

    Memory holds the graph of one part; a product costs the evaluation of all parts besides what it costs anyway.

    Args:
        parts: each computes some rows, flat, with their graph.
        rows: all of them at the present weights, without a graph.
        scale: a factor for each row; ``None``: 1.
        parameters: the weights.
        tolerance: of a solution, relative to the gradient.
        rounds: the most rounds a solution takes.
    """

    power_rounds = 3

    def __init__(
        self,
        parts: Sequence[Callable[[], Tensor]],
        rows: Tensor,
        scale: Tensor | None,
        parameters: Sequence[Tensor],
        tolerance: float,
        rounds: int,
    ) -> None:
        self._parts, self.rows, self.scale = list(parts), rows, scale
        super().__init__(lambda: (rows, scale), parameters, tolerance, rounds)

    def _differentiate(self) -> None:
        """There is no graph to be kept."""

    def times(self, v: Tensor) -> Tensor:
        """``J v``."""
        product = torch.cat([self._alone(part).times(v) for part in self._parts])
        return product if self.scale is None else product * self.scale

    def _alone(self, part: Callable[[], Tensor]) -> Products:
        return Products(lambda: (part(), None), self.parameters, self.tolerance, self.most)

    def transposed(self, w: Tensor) -> Tensor:
        """``Jᵀ w``."""
        scaled = (w if self.scale is None else w * self.scale).to(self.rows.dtype)
        product, start, depends = w.new_zeros(self.columns), 0, False
        for part in self._parts:
            with torch.enable_grad():
                rows = part()
            own = scaled[start : start + len(rows)]
            start += len(rows)
            if rows.requires_grad:
                depends = True
                product += flat_vjp(rows, self.parameters, own.to(rows.dtype))
        if not depends:
            raise ValueError(
                "The residual does not depend on the parameters.\n"
                "  Compute it from them in the closures, without detach() and no_grad()."
            )
        return product
