"""What an equation is: rows that are zero where a function solves it, in units in which they are of order one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor

from feasible.pde.differentiation import Derivatives, Wanted, check_points, derivatives
from feasible.pde.inputs import check_rows

__all__ = ["Coefficient", "Equation"]

Coefficient = float | Tensor | Callable[..., Tensor | float]
"""A number, a tensor (a parameter too; one number or one for each sample), or a function of ``(x, *inputs)``."""


class Equation(ABC):
    """A differential equation ``F(x, u, ∂u, …) = 0`` for a function u with ``outputs`` components.

    Coefficients may be learned: parameters get gradients through the residual, and the scale, which they enter
    detached, cannot be used to make the residual small.
    """

    order: ClassVar[int]
    """The highest derivative."""
    linear: ClassVar[bool]
    """Whether the residual is affine in u."""
    outputs: int = 1
    """The components of u."""

    @abstractmethod
    def wanted(self, dim: int) -> Sequence[Wanted]:
        """The derivatives that the residual uses, on d coordinates.

        Raises:
            ValueError: the equation has no meaning on so many coordinates.
        """

    @abstractmethod
    def raw(self, u: Derivatives, x: Tensor, *inputs: Any) -> Tensor:
        """The rows as they are written, (n, equations)."""

    @abstractmethod
    def scale(self, x: Tensor, *inputs: Any) -> Tensor | float:
        """What the rows are divided by: a number, or (n, 1) or (n, equations); never a function of u."""

    def residual(self, u: Derivatives, x: Tensor | None = None, *inputs: Any) -> Tensor:
        """The rows, nondimensional, (n, equations).

        Args:
            u: what is put into the equation.
            x: where, (n, d); ``None``: where u was taken.
            inputs: what coefficients depend on beside x.

        Raises:
            ValueError: u has another number of components, or a coefficient another number of samples.
        """
        x = u.x if x is None else x
        u.prepare(*self.wanted(u.dim))
        if u.value.shape[1] != self.outputs:
            raise ValueError(
                f"{self.name}: expected a model with {self.outputs} outputs, got {u.value.shape[1]}."
            )
        return self.raw(u, x, *inputs) / self.scale(x, *inputs)

    def __call__(self, model: Callable[..., Tensor], x: Tensor, *inputs: Any) -> Tensor:
        """The residual of a model, (n, equations), from one pass.

        Raises:
            ValueError: inputs are not one row for each point.
        """
        check_points(x, self.name)
        check_rows(self.name, x, inputs)
        u = derivatives(model, x, *inputs, wanted=self.wanted(x.shape[1]))
        return self.residual(u, x, *inputs)

    @property
    def name(self) -> str:
        """For messages."""
        return type(self).__name__

    def coefficient(self, name: str, given: Coefficient, x: Tensor, inputs: Sequence[Any]) -> Tensor | float:
        """A coefficient at these points, a number or (n, 1).

        Raises:
            ValueError: it has another shape.
        """
        value = given(x, *inputs) if callable(given) and not isinstance(given, Tensor) else given
        if not isinstance(value, Tensor):
            return float(value)
        value = value.to(x.device)
        if value.dim() == 0 or value.shape == (1,):
            return value.reshape(())
        if value.shape in ((len(x),), (len(x), 1)):
            return value.reshape(-1, 1)
        raise ValueError(
            f"{self.name}: {name} must be one number or one for each of the {len(x)} samples, got the shape "
            f"{tuple(value.shape)}.\n  At other points use a function of (x, *inputs)."
        )


def magnitude(value: Tensor | float) -> Tensor | float:
    """The size of a coefficient, without its graph."""
    return value.detach().abs() if isinstance(value, Tensor) else abs(value)


def at_least_one(value: Tensor | float) -> Tensor | float:
    """The size of a coefficient beside a term whose coefficient is 1."""
    size = magnitude(value)
    return size.clamp_min(1) if isinstance(size, Tensor) else max(size, 1.0)


def space_and_time(name: str, dim: int) -> range:
    """The columns of space, where the last one is time.

    Raises:
        ValueError: there is no column for space.
    """
    if dim < 2:
        raise ValueError(
            f"{name}: expected x with columns for space and, last, time; got {dim}. Use torch.cat([x, t], 1)."
        )
    return range(dim - 1)


def check_positive(name: str, what: str, value: Any) -> None:
    """Raise where a coefficient that is a number is not positive and finite.

    Raises:
        ValueError: it is not.
        TypeError: it is neither a number, a tensor nor a function.
    """
    if isinstance(value, Tensor) and not value.requires_grad:  # what is learned may pass through anything
        if not bool((value.isfinite() & (value > 0)).all()):
            raise ValueError(f"{name}: {what} must be positive and finite, got a tensor with other entries.")
        return
    if isinstance(value, Tensor) or callable(value):
        return
    if not isinstance(value, (int, float)):
        raise TypeError(
            f"{name}: {what} must be a number, a tensor or a function of x, got {type(value).__name__}."
        )
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}: {what} must be positive and finite, got {value!r}.")
