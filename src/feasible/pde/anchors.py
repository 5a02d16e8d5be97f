"""Values that are known at single points: measured data, or the one value that fixes a constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import torch
from torch import Tensor

from feasible.pde.condition import Condition, Model, Scale, check_scale, picked
from feasible.pde.differentiation import check_points, derivatives
from feasible.pde.domains import Domain
from feasible.pde.inputs import as_inputs, check_rows, equal_rows, matched, taken

__all__ = ["Anchor"]


@final
@dataclass(frozen=True, eq=False)
class Anchor(Condition):
    """``u(x) = y`` at given points: measured data, or the one value that fixes a constant.

    Args:
        x: (n, dim).
        y: (n,) or (n, components).
        component: the output that is meant; ``None``: all.
        scale: what the rows are divided by.
        domain: where the points must lie; ``None``: anywhere (in a ``System``: in its domain).
        inputs: of a model u(x; a, b, …): what it takes beside x, one row for each point.

    Raises:
        TypeError: x is no tensor of floating-point numbers.
        ValueError: shapes do not fit, or a point lies outside.

    >>> Anchor(torch.tensor([[0.5]]), torch.tensor([1.0]))(lambda x: 4 * x)
    tensor([[1.]])
    >>> data = Anchor(torch.tensor([[0.5], [1.0]]), torch.zeros(2), inputs=[torch.tensor([[2.0], [3.0]])])
    >>> data(lambda x, a: a * x)
    tensor([[1.],
            [3.]])
    """

    x: Tensor
    y: Tensor
    component: int | None = None
    scale: Scale = 1.0
    domain: Domain | None = None
    inputs: Sequence[Any] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if not (isinstance(self.x, Tensor) and isinstance(self.y, Tensor)):
            raise TypeError(
                f"Anchor: expected tensors x and y, got {type(self.x).__name__} and {type(self.y).__name__}."
            )
        if self.x.dim() != 2 or self.y.dim() not in (1, 2) or len(self.y) != len(self.x):
            raise ValueError(
                "Anchor: expected x of shape (n, dim) and y of shape (n,) or (n, components), got "
                f"{tuple(self.x.shape)} and {tuple(self.y.shape)}."
            )
        check_points(self.x, "Anchor")
        check_scale("Anchor", self.scale)
        object.__setattr__(self, "inputs", as_inputs("Anchor", self.inputs))
        check_rows(self.name, self.x, self.inputs)
        if self.domain is not None:
            self.domain.require(self.x)

    @property
    def name(self) -> str:
        """The number of points."""
        return f"Anchor({len(self.x)} points)"

    def points(self, like: Tensor | None = None) -> Tensor:
        """Its own."""
        return self.x if like is None else self.x.to(like.device, like.dtype)

    def placed(self, like: Tensor | None, inputs: Sequence[Any] = ()) -> tuple[Tensor, tuple[Any, ...]]:
        """Its own points and inputs.

        Raises:
            ValueError: the system has inputs, and the anchor none.
        """
        if inputs and not self.inputs:
            raise ValueError(
                f"{self.name}: the system has {len(inputs)} inputs; which ones belong to these values? "
                "Use inputs=, one row for each point."
            )
        return self.points(like), matched(self.inputs, like)

    def drawn(
        self, like: Tensor, inputs: Sequence[Any], count: int, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Its own: nothing is known elsewhere."""
        return self.placed(like, inputs)

    def some(self, rows: Tensor) -> Self:
        """Some of its points, with their values and inputs."""
        return replace(self, x=self.x[rows], y=self.y[rows], inputs=taken(self.inputs, rows))

    def alone(self, inputs: Sequence[Any], row: int) -> Self:
        """The points with these inputs."""
        return self.some(equal_rows(self.inputs, inputs, row, len(self.x)))

    def raw(self, model: Model, x: Tensor, *inputs: Any) -> Tensor:
        """``u − y``; x must be the anchor's own.

        Raises:
            ValueError: x are other points, or y has another number of components.
        """
        if len(x) != len(self.x):
            raise ValueError(f"{self.name}: expected its own {len(self.x)} points, got {len(x)}.")
        rows = picked(self.name, derivatives(model, x, *inputs).value, self.component)
        y = self.y.to(rows.device, rows.dtype)
        y = y[:, None] if y.dim() == 1 else y
        if y.shape[1] != rows.shape[1]:
            raise ValueError(
                f"{self.name}: y has {y.shape[1]} components, the model {rows.shape[1]}. Say which is meant with "
                "component=."
            )
        return rows - y
