"""What every condition has: rows at points, with inputs, over a scale; and where those on boundaries take them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from feasible.pde.domains import Domain
from feasible.pde.inputs import (
    as_inputs,
    check_rows,
    dtype_of_inputs,
    equal_rows,
    matched,
    repeated,
    row_count,
    taken,
)
from feasible.pde.samplers import grid, sobol
from feasible.pde.values import Value, is_by_row, known

Model = Callable[..., Tensor]
Scale = float | Callable[..., Tensor | float]
POINTS = 33
"""Points along each direction of a part, where none are handed in."""


class Condition(ABC):
    """Rows that are zero where a model satisfies the condition.

    Called with a model, it gives the rows at its own points: an equality constraint for ``problem.require(…, fn=)``,
    ``minimize`` and ``project_parameters``, and rows for ``optim.LevenbergMarquardt``.
    """

    scale: Scale
    """What the rows are divided by."""
    inputs: Sequence[Any]
    """What the model takes beside x at the condition's own points, one row for each; empty: nothing, or in a
    ``System`` what the system says."""

    @property
    @abstractmethod
    def name(self) -> str:
        """For messages and tables."""

    @abstractmethod
    def points(self, like: Tensor | None = None) -> Tensor:
        """Where the rows are taken if nothing else is said, (n, dim)."""

    @abstractmethod
    def placed(self, like: Tensor | None, inputs: Sequence[Any] = ()) -> tuple[Tensor, tuple[Any, ...]]:
        """The points of the rows with their inputs.

        Args:
            like: a tensor whose dtype and device they have.
            inputs: for a condition that has none of its own.

        Raises:
            ValueError: inputs and points do not fit.
        """

    @abstractmethod
    def drawn(
        self, like: Tensor, inputs: Sequence[Any], count: int, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Random points of the same part, and random rows of its own inputs, or of these if it has none."""

    @abstractmethod
    def some(self, rows: Tensor) -> Self:
        """The condition on some of its points, by their numbers: of values that were given row by row, these."""

    @abstractmethod
    def alone(self, inputs: Sequence[Any], row: int) -> Self:
        """The condition on the one function that belongs to a row of inputs."""

    @abstractmethod
    def raw(self, model: Model, x: Tensor, *inputs: Any) -> Tensor:
        """The rows as they are written, (n, components)."""

    def residual(self, model: Model, x: Tensor, *inputs: Any) -> Tensor:
        """The rows at these points, over the scale; (n, components).

        Args:
            model: of ``(x, *inputs)``.
            x: points of the part, (n, dim).
            inputs: one row for each point.

        Raises:
            ValueError: points lie elsewhere, or a value or an input has another shape.
        """
        check_rows(self.name, x, inputs)
        rows = self.raw(model, x, *inputs)
        if not callable(self.scale):
            return rows / self.scale
        return rows / known(f"{self.name}, scale", self.scale, x, inputs, rows.shape[1])

    def __call__(self, model: Model) -> Tensor:
        """The rows at the condition's own points."""
        x, inputs = self.placed(like_of(model))
        return self.residual(model, x, *inputs)


@dataclass(frozen=True, eq=False)
class OnPart(Condition):
    """A condition on one part of the boundary of a domain."""

    domain: Domain
    part: str
    value: Value = 0.0
    component: int | None = None
    scale: Scale = 1.0
    at: Tensor | None = field(default=None, kw_only=True)
    inputs: Sequence[Any] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        self.domain.check_part(self.part)
        check_scale(self.name, self.scale)
        object.__setattr__(self, "inputs", as_inputs(self.name, self.inputs))
        if self.at is not None:
            self.check(self.at)
            check_rows(self.name, self.at, self.inputs)
        count = row_count(self.inputs) if self.at is None else len(self.at)
        if isinstance(self.value, Tensor) and self.value.dim() == 1 and len(self.value) == count:
            object.__setattr__(self, "value", self.value[:, None])

    def by_rows(self, inputs: Sequence[Any], columns: int) -> Self:
        """The condition with a value (n,) as one row for each of the points that it has with these inputs.

        Args:
            inputs: of the system.
            columns: the components that a value of so many entries would be meant for instead.
        """
        value = self.value
        if not isinstance(value, Tensor) or value.dim() != 1 or len(value) in (1, columns):
            return self
        return (
            replace(self, value=value[:, None]) if len(value) == len(self.placed(None, inputs)[0]) else self
        )

    @property
    def name(self) -> str:
        """The kind and the part."""
        which = "" if self.component is None else f", component {self.component}"
        return f"{type(self).__name__}({self.part}{which})"

    def points(self, like: Tensor | None = None) -> Tensor:
        """Its own, or a regular grid on the part."""
        if self.at is not None:
            return self.at if like is None else self.at.to(like.device, like.dtype)
        points = grid(self.domain, POINTS, self.part, dtype=None if like is None else like.dtype)
        return points if like is None else points.to(like.device)

    def placed(self, like: Tensor | None, inputs: Sequence[Any] = ()) -> tuple[Tensor, tuple[Any, ...]]:
        """Its own points or, for each row of inputs, one Sobol point of the part."""
        given = matched(self.inputs or inputs, like)
        count = row_count(given)
        if count is None or self.at is not None:
            x = self.points(like)
            check_rows(self.name, x, given)
            return x, given
        dtype = dtype_of_inputs(given) if like is None else like.dtype
        if self.domain.dim == 1:
            x = self.domain.part_from_unit(self.part, torch.empty(count, 0, dtype=dtype))
        else:
            x = sobol(self.domain, count, self.part, dtype=dtype)
        return x if like is None else x.to(like.device), given

    def drawn(
        self, like: Tensor, inputs: Sequence[Any], count: int, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Points of even density; of values that were given row by row, the rows that were given."""
        if isinstance(self.value, Tensor) and is_by_row(self.value):
            return self.placed(like, inputs)
        unit = torch.rand(count, self.domain.dim - 1, generator=generator, dtype=like.dtype)
        given = matched(self.inputs or inputs, like)
        rows = torch.randint(row_count(given) or 1, (count,), generator=generator)
        return self.domain.part_from_unit(self.part, unit).to(like.device), taken(given, rows)

    def some(self, rows: Tensor) -> Self:
        """Functions and numbers hold at all points alike."""
        if isinstance(self.value, Tensor) and is_by_row(self.value):
            return replace(self, value=self.value[rows], at=None, inputs=())
        return self

    def alone(self, inputs: Sequence[Any], row: int) -> Self:
        """All of its points with the same inputs; of values that were given row by row, those with these inputs."""
        if isinstance(self.value, Tensor) and is_by_row(self.value):
            x, given = self.placed(None, inputs)
            same = equal_rows(given, inputs, row, len(x))
            return replace(self, value=self.value[same], at=x[same], inputs=taken(given, same))
        x = replace(self, at=None, inputs=()).points()
        return replace(self, at=x, inputs=repeated(inputs, row, len(x)))

    def check(self, x: Tensor) -> None:
        """Raise where points are not on the part.

        Raises:
            ValueError: they are not.
        """
        off = self.domain.distance_to(self.part, self.domain.require(x))
        slack = self.domain.slack(x.dtype)
        if bool((off > slack).any()):
            raise ValueError(
                f"{self.name}: {int((off > slack).sum())} of {len(x)} points are not on the part {self.part!r}."
            )

    def picked(self, rows: Tensor) -> Tensor:
        """The component that is meant, or all.

        Raises:
            ValueError: the model has no such component.
        """
        return picked(self.name, rows, self.component)

    def off(self, rows: Tensor, x: Tensor, inputs: Sequence[Any]) -> Tensor:
        """What was computed minus the given value, (n, components)."""
        return rows - known(self.name, self.value, x, inputs, rows.shape[1])


def picked(name: str, rows: Tensor, component: int | None) -> Tensor:
    """One column, or all.

    Raises:
        ValueError: there is no such column.
    """
    if component is None:
        return rows
    if not 0 <= component < rows.shape[1]:
        raise ValueError(f"{name}: the model has {rows.shape[1]} components, 0 to {rows.shape[1] - 1}.")
    return rows[:, component : component + 1]


def check_scale(name: str, scale: Scale) -> None:
    """Raise where a scale that is a number is not positive and finite.

    Raises:
        ValueError: it is not.
    """
    if not callable(scale) and not 0 < scale < math.inf:
        raise ValueError(f"{name}: scale must be positive and finite, got {scale!r}.")


def like_of(model: object) -> Tensor | None:
    """A tensor with the dtype and device of a module."""
    if not isinstance(model, torch.nn.Module):
        return None
    return next((p for p in model.parameters() if p.is_floating_point()), None)
