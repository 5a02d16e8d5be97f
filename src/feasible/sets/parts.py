"""What sets that are made of several others share."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from feasible.sets.set import Set


class OfParts(Set):
    """A set made of parts: it fits, binds and remembers as all of them do."""

    parts: tuple[Set, ...]

    @property
    def separable(self) -> bool:  # type: ignore[override]
        """Only if every part is."""
        return all(part.separable for part in self.parts)

    @property
    def size(self) -> float:
        """The largest of the parts' sizes."""
        return max(part.size for part in self.parts)

    def check_shape(self, shape: torch.Size) -> None:
        """Every part must fit."""
        for part in self.parts:
            part.check_shape(shape)

    def bind(self, like: Tensor) -> Self:
        """Every part bound."""
        return self._with(parts=tuple(part.bind(like) for part in self.parts))

    def cast(self, like: Tensor) -> Self:
        """Every part cast."""
        return self._with(parts=tuple(part.cast(like) for part in self.parts))

    def taken(self) -> dict[str, Tensor]:
        """What the parts took, under their numbers."""
        return {
            f"{number}.{name}": tensor
            for number, part in enumerate(self.parts)
            for name, tensor in part.taken().items()
        }

    def with_taken(self, taken: dict[str, Tensor]) -> Self:
        """Each part with its own tensors."""
        return self._with(
            parts=tuple(
                part.with_taken({name: taken[f"{number}.{name}"] for name in part.taken()})
                for number, part in enumerate(self.parts)
            )
        )
