"""What is known about a solution beside its equation: on boundaries, at the start, at single points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from feasible.pde.differentiation import derivatives
from feasible.pde.domains import Domain
from feasible.pde.samplers import grid

__all__ = ["Anchor", "Condition", "Dirichlet", "Initial", "Neumann", "Periodic", "Robin"]

Model = Callable[..., Tensor]
Value = float | Tensor | Callable[..., Tensor | float]
"""A number, a tensor with one entry for each component, or a function of ``(x, *inputs)``."""
POINTS = 33
"""Points along each direction of a part, where none are handed in."""


class Condition(ABC):
    """Rows that are zero where a model satisfies the condition.

    Called with a model, it gives the rows at its own points: an equality constraint for ``problem.require(…, fn=)``,
    ``minimize`` and ``project_parameters``, and rows for ``optim.LevenbergMarquardt``.
    """

    scale: float
    """What the rows are divided by."""

    @property
    @abstractmethod
    def name(self) -> str:
        """For messages and tables."""

    @abstractmethod
    def points(self, like: Tensor | None = None) -> Tensor:
        """Where the rows are taken if nothing else is said, (n, dim)."""

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
            ValueError: points lie elsewhere, or a value has another shape.
        """
        return self.raw(model, x, *inputs) / self.scale

    def __call__(self, model: Model) -> Tensor:
        """The rows at the condition's own points."""
        return self.residual(model, self.points(like_of(model)))


@dataclass(frozen=True, eq=False)
class OnPart(Condition):
    """A condition on one part of the boundary of a domain."""

    domain: Domain
    part: str
    value: Value = 0.0
    component: int | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        self.domain.check_part(self.part)
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"{self.name}: scale must be positive and finite, got {self.scale!r}.")

    @property
    def name(self) -> str:
        """The kind and the part."""
        which = "" if self.component is None else f", component {self.component}"
        return f"{type(self).__name__}({self.part}{which})"

    def points(self, like: Tensor | None = None) -> Tensor:
        """A regular grid on the part."""
        points = grid(self.domain, POINTS, self.part, dtype=None if like is None else like.dtype)
        return points if like is None else points.to(like.device)

    def check(self, x: Tensor) -> None:
        """Raise where points are not on the part.

        Raises:
            ValueError: they are not.
        """
        self.domain.require(x)
        face = self.domain.face(self.part)
        if face is not None:
            off = (x[:, face.axis] - face.value).abs()
            slack = 8 * torch.finfo(x.dtype).eps * max(abs(face.value), self.domain.length)
            if bool((off > slack).any()):
                raise ValueError(
                    f"{self.name}: {int((off > slack).sum())} of {len(x)} points are not on the part {self.part!r}."
                )

    def picked(self, rows: Tensor) -> Tensor:
        """The component that is meant, or all."""
        return rows if self.component is None else rows[:, self.component : self.component + 1]

    def known(self, x: Tensor, *inputs: Any) -> Tensor:
        """The given value, (n, 1) or (n, components)."""
        return known(self.name, self.value, x, inputs)


@final
@dataclass(frozen=True, eq=False)
class Dirichlet(OnPart):
    """``u = g`` on a part of the boundary.

    Args:
        domain: whose boundary it is.
        part: by name.
        value: g: a number, a tensor with one entry for each component, or a function of ``(x, *inputs)``.
        component: the output that is meant; ``None``: all.
        scale: what the rows are divided by.

    Raises:
        ValueError: the domain has no such part, or the scale is not positive.

    >>> from feasible.pde import Interval
    >>> Dirichlet(Interval(0, 1), "right", 3.0)(lambda x: 2 * x)
    tensor([[-1.]])
    """

    def raw(self, model: Model, x: Tensor, *inputs: Any) -> Tensor:
        """``u − g``."""
        self.check(x)
        u = derivatives(model, x, *inputs)
        return self.picked(u.value) - self.known(x, *inputs)


@final
@dataclass(frozen=True, eq=False)
class Neumann(OnPart):
    """``∂u/∂n = g`` on a part of the boundary, n its outward normal; arguments as in ``Dirichlet``.

    Divide by a typical slope (``scale``) to make the rows nondimensional: k for a wave of wave number k.

    >>> from feasible.pde import Interval
    >>> Neumann(Interval(0, 1), "left", 3.0)(lambda x: 2 * x)
    tensor([[-5.]])
    """

    def raw(self, model: Model, x: Tensor, *inputs: Any) -> Tensor:
        """``∂u/∂n − g``."""
        self.check(x)
        return self.picked(self.slope(model, x, *inputs)[1]) - self.known(x, *inputs)

    def slope(self, model: Model, x: Tensor, *inputs: Any) -> tuple[Tensor, Tensor]:
        """The value and the derivative along the normal."""
        return value_and_slope(self.domain, self.part, model, x, *inputs)


def value_and_slope(
    domain: Domain, part: str, model: Model, x: Tensor, *inputs: Any
) -> tuple[Tensor, Tensor]:
    """The value and the slope along the normal on a part, (n, m) each."""
    face = domain.face(part)
    if face is not None:
        u = derivatives(model, x, *inputs, wanted=[(face.axis,)])
        return u.value, face.sign * u.partial((face.axis,))
    u = derivatives(model, x, *inputs, wanted=["gradient"])
    return u.value, (u.gradient * domain.normal(part, x)[:, None]).sum(2)


@final
@dataclass(frozen=True, eq=False)
class Robin(OnPart):
    """``α u + β ∂u/∂n = g`` on a part of the boundary; the other arguments as in ``Dirichlet``.

    Args:
        alpha: α.
        beta: β.

    >>> from feasible.pde import Interval
    >>> Robin(Interval(0, 1), "right", 3.0, alpha=1.0, beta=2.0)(lambda x: 2 * x)
    tensor([[3.]])
    """

    alpha: float = 1.0
    beta: float = 1.0

    def raw(self, model: Model, x: Tensor, *inputs: Any) -> Tensor:
        """``α u + β ∂u/∂n − g``."""
        self.check(x)
        value, slope = value_and_slope(self.domain, self.part, model, x, *inputs)
        return self.picked(self.alpha * value + self.beta * slope) - self.known(x, *inputs)


@final
@dataclass(frozen=True, eq=False)
class Periodic(OnPart):
    """u, and its derivatives across, agree on two opposite faces of a box.

    Args:
        part: one of the faces; the other is the one opposite.
        order: the highest derivative that agrees; row blocks ``u, ∂u, …``, each in units of its length.

    >>> import math
    >>> from feasible.pde import Interval
    >>> rows = Periodic(Interval(0, math.pi), "left")(lambda x: torch.cos(2 * x) + x)
    >>> (rows / math.pi).round(decimals=4)
    tensor([[-1., 0.]])
    """

    order: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.domain.face(self.part) is None or self.part in ("start", "end"):
            raise ValueError(f"Periodic: {self.part!r} of {self.domain} has no part opposite in space.")
        if not 0 <= self.order <= 4:
            raise ValueError(f"Periodic: order must be from 0 to 4, got {self.order!r}.")

    def raw(self, model: Model, x: Tensor, *inputs: Any) -> Tensor:
        """``∂ᵏu(here) − ∂ᵏu(opposite)`` times the length to the k."""
        self.check(x)
        face = self.domain.face(self.part)
        assert face is not None
        low, high = (corner[face.axis] for corner in self.domain.bounds)
        there = x.clone()
        there[:, face.axis] = low if face.sign > 0 else high
        wanted = [(face.axis,) * k for k in range(self.order + 1)]
        here = derivatives(model, x, *inputs, wanted=wanted)
        across = derivatives(model, there, *inputs, wanted=wanted)
        rows = [
            (high - low) ** k * self.picked(here.partial(each) - across.partial(each))
            for k, each in enumerate(wanted)
        ]
        return torch.cat(rows, 1)


@final
@dataclass(frozen=True, eq=False)
class Initial(OnPart):
    """``u = g``, or ``∂u/∂t = g``, at the start of a time cylinder; at the left end of an interval that is time.

    Args:
        domain: a time cylinder or an interval.
        part: ``"start"``; ``"left"`` for an interval.
        value: g.
        order: 0: u; 1: its derivative by time.

    >>> from feasible.pde import Interval
    >>> Initial(Interval(0, 1), "left", 3.0, order=1)(lambda t: 2 * t)
    tensor([[-1.]])
    """

    order: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.part == "start" or (self.domain.dim == 1 and self.part == "left")):
            raise ValueError(
                f'Initial: expected the part "start" of a TimeCylinder, or "left" of an Interval; got {self.part!r}.'
            )
        if self.order not in (0, 1):
            raise ValueError(f"Initial: order must be 0 or 1, got {self.order!r}.")

    @property
    def name(self) -> str:
        """The kind, the part and the order."""
        which = "" if self.component is None else f", component {self.component}"
        return f"Initial({self.part}, order {self.order}{which})"

    def raw(self, model: Model, x: Tensor, *inputs: Any) -> Tensor:
        """``∂ᵏu/∂tᵏ − g``."""
        self.check(x)
        u = derivatives(model, x, *inputs)
        return self.picked(u.partial((u.dim - 1,) * self.order)) - self.known(x, *inputs)


@final
@dataclass(frozen=True, eq=False)
class Anchor(Condition):
    """``u(x) = y`` at given points: measured data, or the one value that fixes a constant.

    Args:
        x: (n, dim).
        y: (n,) or (n, components).
        component: the output that is meant; ``None``: all.
        scale: what the rows are divided by.
        domain: where the points must lie; ``None``: anywhere.

    Raises:
        ValueError: shapes do not fit, or a point lies outside.

    >>> Anchor(torch.tensor([[0.5]]), torch.tensor([1.0]))(lambda x: 4 * x)
    tensor([[1.]])
    """

    x: Tensor
    y: Tensor
    component: int | None = None
    scale: float = 1.0
    domain: Domain | None = None

    def __post_init__(self) -> None:
        if self.x.dim() != 2 or self.y.dim() not in (1, 2) or len(self.y) != len(self.x):
            raise ValueError(
                "Anchor: expected x of shape (n, dim) and y of shape (n,) or (n, components), got "
                f"{tuple(self.x.shape)} and {tuple(self.y.shape)}."
            )
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"Anchor: scale must be positive and finite, got {self.scale!r}.")
        if self.domain is not None:
            self.domain.require(self.x)

    @property
    def name(self) -> str:
        """The number of points."""
        return f"Anchor({len(self.x)} points)"

    def points(self, like: Tensor | None = None) -> Tensor:
        """Its own."""
        return self.x if like is None else self.x.to(like.device, like.dtype)

    def raw(self, model: Model, x: Tensor, *inputs: Any) -> Tensor:
        """``u − y``; x must be the anchor's own."""
        if len(x) != len(self.x):
            raise ValueError(f"Anchor: expected its own {len(self.x)} points, got {len(x)}.")
        rows = derivatives(model, x, *inputs).value
        rows = rows if self.component is None else rows[:, self.component : self.component + 1]
        y = self.y.to(rows.device, rows.dtype)
        return rows - (y[:, None] if y.dim() == 1 else y)


def known(name: str, value: Value, x: Tensor, inputs: tuple[Any, ...]) -> Tensor:
    """A given value at these points, (n, 1), (1, m) or (n, m).

    Raises:
        ValueError: it has another shape.
    """
    given = value(x, *inputs) if callable(value) and not isinstance(value, Tensor) else value
    if not isinstance(given, Tensor):
        return torch.as_tensor(given, dtype=x.dtype, device=x.device).reshape(1, -1)
    given = given.to(x.device, x.dtype)
    if callable(value) and given.dim() == 1 and len(given) == len(x):
        return given[:, None]
    if given.dim() <= 1:
        return given.reshape(1, -1)
    if given.dim() == 2 and len(given) in (1, len(x)):
        return given
    raise ValueError(
        f"{name}: the value must be a number, one for each component, or (n,) or (n, components) for {len(x)} points; "
        f"got the shape {tuple(given.shape)}."
    )


def like_of(model: object) -> Tensor | None:
    """A tensor with the dtype and device of a module."""
    if not isinstance(model, torch.nn.Module):
        return None
    return next((p for p in model.parameters() if p.is_floating_point()), None)
