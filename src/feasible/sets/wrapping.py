"""What sets that are made of one other set share."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from feasible.sets.set import Set


class Wrapping(Set):
    """A set that applies another one to a part or to a view of the tensor: what it is, it has from there."""

    inner: Set

    @property
    def convex(self) -> bool:  # type: ignore[override]
        """As the inner set."""
        return self.inner.convex

    @property
    def discrete(self) -> bool:  # type: ignore[override]
        """As the inner set."""
        return self.inner.discrete

    @property
    def default_method(self) -> str | None:  # type: ignore[override]
        """As the inner set."""
        return self.inner.default_method

    @property
    def needs_tangent(self) -> bool:
        """As the inner set."""
        return self.inner.needs_tangent

    @property
    def separable(self) -> bool:  # type: ignore[override]
        """As the inner set."""
        return self.inner.separable

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """As the inner set."""
        return self.inner.exact

    @property
    def unit(self) -> str:
        """As the inner set."""
        return self.inner.unit

    @property
    def size(self) -> float:
        """As the inner set."""
        return self.inner.size

    @property
    def relaxes_in_place(self) -> bool:
        """Whether coordinates of the inner relaxation have the weight's shape: all but those of candidates."""
        return getattr(self.inner, "relaxes_in_place", True)

    def tolerance(self, dtype: torch.dtype) -> float:
        """As the inner set."""
        return self.inner.tolerance(dtype)

    def taken(self) -> dict[str, Tensor]:
        """As the inner set."""
        return self.inner.taken()

    def with_taken(self, taken: dict[str, Tensor]) -> Self:
        """As the inner set."""
        return self._with(inner=self.inner.with_taken(taken))


def operand(set: Set) -> str:
    """A set as it is written before a dot."""
    shown = repr(set)
    return f"({shown})" if " & " in shown or " | " in shown else shown
