"""Sets with a single member: fixed values, the value at the moment of binding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, final

import torch
from torch import Tensor

from feasible.sets.bounds import check_broadcast, checked_bound, exactly
from feasible.sets.precision import normal
from feasible.sets.units import Elementwise

__all__ = ["Equal", "Frozen"]


class Fixed(Elementwise):
    """Entries that have one value each."""

    def _value(self) -> float | Tensor:
        raise NotImplementedError

    def check_shape(self, shape: torch.Size) -> None:
        """A tensor value must broadcast to the shape without changing it."""
        check_broadcast(f"{type(self).__name__}: value", self._value(), shape)

    def project(self, x: Tensor) -> Tensor:
        """The value, whatever x is; NaN stays NaN."""
        value = exactly(self._value()).to(x)
        return torch.where(x.isnan(), x, torch.where(x == value, x.detach(), value))

    def project_all_(self, tensors: Sequence[Tensor]) -> None:
        """Copy the value: what has drifted to NaN comes back too."""
        for tensor in tensors:
            value = self._value()
            if isinstance(value, Tensor):
                tensor.copy_(value)
            else:
                tensor.fill_(value)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """The only member."""
        self.check_shape(torch.Size(shape))
        return self.project(torch.zeros(tuple(shape)))

    def support(self, y: Tensor) -> Tensor:
        """``value · y``."""
        return exactly(self._value()).to(y) * y

    def lmo(self, gradient: Tensor) -> Tensor:
        """The only member."""
        return self.project(gradient)

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """0: there is nowhere to go."""
        return torch.zeros_like(direction)


@final
@dataclass(frozen=True, eq=False, repr=False)
class Equal(Fixed):
    """Entries equal to a value.

    ``project(x)`` is the value.

    Args:
        value: a finite number or a tensor that broadcasts to the weight.

    Raises:
        ValueError: the value is not finite.

    >>> Equal(2.0).project(torch.tensor([-3.0, 0.5]))
    tensor([2., 2.])
    """

    value: float | Tensor = 0.0

    def __post_init__(self) -> None:
        value = checked_bound("value", self.value)
        if value is None or not bool(exactly(value).isfinite().all()):
            raise ValueError(f"Equal: value must be finite, got {self.value!r}.")
        object.__setattr__(self, "value", value)

    def _value(self) -> float | Tensor:
        return self.value


@final
@dataclass(frozen=True, eq=False, repr=False)
class Frozen(Fixed):
    """Entries that stay as they were when the set was bound to a tensor.

    ``Frozen().bind(x)`` holds a copy of x; ``project`` returns it. A checkpoint's value wins over it.

    >>> Frozen().bind(torch.tensor([1.0, 2.0])).project(torch.zeros(2))
    tensor([1., 2.])
    """

    value: Tensor | None = None

    def __post_init__(self) -> None:
        if self.value is not None:
            object.__setattr__(self, "value", self.value.detach().clone())

    def bind(self, like: Tensor) -> Self:
        """Take the present value of ``like``; a value taken before is kept."""
        self.check_dtype(like.dtype)
        if self.value is None:
            return replace(self, value=like)
        self.check_shape(like.shape)
        return self.cast(like)

    def taken(self) -> dict[str, Tensor]:
        """The value."""
        return {} if self.value is None else {"value": self.value}

    def with_taken(self, taken: dict[str, Tensor]) -> Self:
        """The checkpoint's value."""
        return replace(self, value=taken["value"])

    def check_shape(self, shape: torch.Size) -> None:
        """Any shape fits until a value has been taken."""
        if self.value is not None:
            super().check_shape(shape)

    def project(self, x: Tensor) -> Tensor:
        """The value taken when the set was bound; x itself before that."""
        return x.clone() if self.value is None else super().project(x)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """The frozen value; anything before one has been taken."""
        if self.value is None:
            return normal(shape, generator)
        return super().sample(shape, generator)

    def _value(self) -> float | Tensor:
        if self.value is None:
            raise ValueError("Frozen() has no value yet: call bind(tensor), or give it to problem.constrain.")
        return self.value
