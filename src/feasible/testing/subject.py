"""The set under test, what is known about it, and the tensors that it is tried on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from feasible.sets import Set

Made = TypeVar("Made")

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class SetSubject:
    """A set with the shapes to try it in and the claims that its author makes.

    Args:
        set: the set.
        shapes: tensor shapes that it accepts, the most telling one first.
        reference: the nearest point of a float64 tensor by independent means.
        accuracy: relative error of the reference.
        charts: the kinds of chart to try; ``None`` is the default one.
        scales: magnitudes of the inputs, relative to the set's size.
        minus_infinity: whether entries of −inf have a nearest point.
        smooth: whether the projection is differentiable at almost every point.
        affine: whether it is differentiable everywhere, members included.
        compilable: whether it runs under ``torch.compile(fullgraph=True)``.
        mappable: whether it runs under the transforms of ``torch.func``: ``vmap``, ``jacrev``, ``jvp``.
    """

    set: Set
    shapes: Sequence[tuple[int, ...]]
    reference: Callable[[Tensor], Tensor] | None = None
    accuracy: float = 1e-6
    charts: Sequence[str | None] = (None,)
    scales: Sequence[float] = (1e-9, 1.0, 1e9)
    minus_infinity: bool = False
    smooth: bool = True
    affine: bool = False
    compilable: bool = True
    mappable: bool = True
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def generator(self, seed: int = 0) -> torch.Generator:
        """Random numbers that are the same in every run."""
        return torch.Generator().manual_seed(seed)

    def normal(self, shape: Sequence[int], seed: int = 0) -> Tensor:
        """Normal float64 numbers of the set's size."""
        numbers = torch.randn(tuple(shape), generator=self.generator(seed), dtype=torch.float64)
        return numbers * self.size

    @property
    def size(self) -> float:
        """The magnitude of the members; 1 where the only member is 0."""
        return self.set.size or 1.0

    def bound(self, shape: Sequence[int], dtype: torch.dtype = torch.float64) -> Set:
        """The set, bound to a tensor of this shape."""
        return self._once(("bound", *shape, dtype), lambda: self.set.bind(self.normal(shape, 99).to(dtype)))

    def members(self, shape: Sequence[int], dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
        """Random members, and where there is room not only on the boundary."""
        bound = self.bound(shape, dtype)

        def draw() -> Tensor:
            return bound.project(bound.sample(shape, self.generator(seed)).to(dtype))

        return self._once(("members", *shape, dtype, seed), draw)

    def points(self, shape: Sequence[int], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Inputs by name: at several scales, with ties, near members, with extreme entries."""
        return self._once(("points", *shape, dtype), lambda: self._points(shape, dtype))

    def _once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What ``make`` returned the first time: every check sees the same tensors and leaves them as they are."""
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    def _points(self, shape: Sequence[int], dtype: torch.dtype) -> dict[str, Tensor]:
        normal, size = self.normal(shape), self.size
        points = {f"scale {scale:g}": normal * scale for scale in self.scales}
        points |= {
            "ties": (2 * normal / size).round() * size / 2,
            "all equal": torch.full_like(normal, size),
            "all negative": -normal.abs() - size,
            "zeros": torch.zeros_like(normal),
            "one large entry": _with_first(torch.zeros_like(normal), 3 * size),
            "heavy tails": normal * (normal / size).square(),
            "near a member": self.members(shape) + 1e-6 * normal,
            "subnormal": normal / size * torch.finfo(dtype).tiny / 8,
        }
        if max(self.scales) > 1:
            points["1e30"] = normal / size * 1e30
        if self.minus_infinity:
            points["an entry of -inf"] = _with_first(normal, -torch.inf)
        cast = {name: point.to(dtype) for name, point in points.items()}
        return {name: point for name, point in cast.items() if bool(point.isfinite().all()) or "-inf" in name}

    def situations(self, *dtypes: torch.dtype) -> Iterator[Situation]:
        """The bound set with every input, in every shape and in the given dtypes (float64 by default)."""
        for dtype in dtypes or (torch.float64,):
            for shape in self.shapes:
                bound = self.bound(shape, dtype)
                for name, point in self.points(shape, dtype).items():
                    yield Situation(bound, name, point)


@dataclass(frozen=True)
class Situation:
    """A bound set and one input."""

    set: Set
    name: str
    x: Tensor

    def expect(self, condition: object, sentence: str) -> None:
        """Raise an ``AssertionError`` that tells which set failed, at what, and in which words."""
        if not bool(condition):
            where = f"{self.name}, shape {tuple(self.x.shape)}, {str(self.x.dtype).removeprefix('torch.')}"
            raise AssertionError(f"{self.set!r}: {sentence} (input: {where}).")


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors agree bit for bit: the sign of a zero and the kind of a NaN included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    left, right = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(left, right)


def _with_first(x: Tensor, value: float) -> Tensor:
    """The first entry of every vector along every dimension: the entry (0, …, 0) and its diagonal."""
    changed = x.clone()
    index = torch.arange(min(x.shape) if x.dim() > 1 else 1)
    changed[(index,) * x.dim()] = value
    return changed
