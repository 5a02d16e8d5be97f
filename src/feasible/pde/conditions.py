"""What is known about a solution on the boundary of its domain, and at the start."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from feasible.pde.condition import Condition, Model, OnPart
from feasible.pde.differentiation import derivatives
from feasible.pde.domains import Domain

__all__ = ["Condition", "Dirichlet", "Initial", "Neumann", "Periodic", "Robin"]


@final
@dataclass(frozen=True, eq=False)
class Dirichlet(OnPart):
    """``u = g`` on a part of the boundary.

    Args:
        domain: whose boundary it is.
        part: by name.
        value: g: a number, a tensor with one entry for each component or one row for each point, or a function of
            ``(x, *inputs)``.
        component: the output that is meant; ``None``: all.
        scale: what the rows are divided by: a number, or a function of ``(x, *inputs)``, (n, 1).
        at: points of the part, (n, dim); ``None``: a regular grid, and with inputs a Sobol point for each row.
        inputs: of a model u(x; a, b, …): what it takes beside x, (n, …) each. In a ``System`` with inputs a condition
            without any holds for those of the system.

    Raises:
        ValueError: the domain has no such part, points are not on it, the scale is not positive, or rows do not fit.

    >>> from feasible.pde import Interval
    >>> Dirichlet(Interval(0, 1), "right", 3.0)(lambda x: 2 * x)
    tensor([[-1.]])
    >>> a = torch.tensor([[1.0], [2.0]])
    >>> Dirichlet(Interval(0, 1), "right", lambda x, a: a, inputs=[a])(lambda x, a: 2 * a * x)
    tensor([[1.],
            [2.]])
    """

    def raw(self, model: Model, x: Tensor, *inputs: Any) -> Tensor:
        """``u − g``."""
        self.check(x)
        u = derivatives(model, x, *inputs)
        return self.off(self.picked(u.value), x, inputs)


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
        return self.off(self.picked(self.slope(model, x, *inputs)[1]), x, inputs)

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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.alpha) and math.isfinite(self.beta)) or self.alpha == self.beta == 0:
            raise ValueError(
                f"{self.name}: alpha and beta must be finite and not both 0, got {self.alpha!r} and {self.beta!r}."
            )

    def raw(self, model: Model, x: Tensor, *inputs: Any) -> Tensor:
        """``α u + β ∂u/∂n − g``."""
        self.check(x)
        value, slope = value_and_slope(self.domain, self.part, model, x, *inputs)
        return self.off(self.picked(self.alpha * value + self.beta * slope), x, inputs)


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
        if isinstance(self.value, Tensor) or callable(self.value) or self.value != 0:
            raise ValueError(
                f"Periodic: the faces differ by nothing, so there is no value; got {self.value!r}. Use order= by name."
            )
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
        return self.off(self.picked(u.partial((u.dim - 1,) * self.order)), x, inputs)
