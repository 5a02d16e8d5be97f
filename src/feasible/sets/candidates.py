"""A tensor that must be one of several given ones."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, cast, final

import torch
from torch import Tensor

from feasible.sets.precision import roundoff, widest
from feasible.sets.relaxations import CandidatesRelaxation
from feasible.sets.rivals import Rivals, sampled, spacing
from feasible.sets.selection import without_slope
from feasible.sets.units import Vectors, keep_members, precise_norm

__all__ = ["Candidates"]

_PIECE = {"cpu": 2**16}
"""Numbers that are compared at a time: as many as a cache holds, on other devices 2²⁴."""


@final
@dataclass(frozen=True, eq=False, repr=False)
class Candidates(Vectors):
    """One of ``n`` given tensors of the weight's whole shape.

    ``project(x)`` is ``argmin_c ½‖c − x‖²`` over the given tensors; of equally near ones the first.

    Args:
        tensors: tensors of one shape, as a sequence or stacked along dimension 0; equal ones count once.

    Raises:
        ValueError: there are none, their shapes differ, or an entry is not finite.

    >>> Candidates([torch.zeros(2), torch.ones(2)]).project(torch.tensor([0.9, 0.3]))
    tensor([1., 1.])
    """

    tensors: Sequence[Tensor] | Tensor

    dim = None
    convex = False
    discrete = True
    exact = True
    default_method = "StraightThrough"
    relaxes_in_place = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", _distinct(_stacked(self.tensors)))

    @classmethod
    def example(cls) -> Self:
        """Two tensors to choose from."""
        return cls([torch.zeros(2), torch.ones(2)])

    @property
    def stack(self) -> Tensor:
        """All candidates along dimension 0."""
        return cast(Tensor, self.tensors)

    @property
    def size(self) -> float:
        """The largest magnitude, or 1."""
        return float(self.stack.abs().max()) or 1.0 if self.stack.numel() else 1.0

    def check_shape(self, shape: torch.Size) -> None:
        """The shape must be the candidates' own."""
        single = self.stack.shape[1:]
        if torch.Size(shape) == single:
            return
        # Equal rows have become one, so that the length is no longer the given one.
        is_split = len(shape) == self.stack.dim() and torch.Size(shape)[1:] == single
        raise ValueError(
            f"{self!r} holds tensors of shape {tuple(single)}, but the tensor has shape {tuple(shape)}."
            + ("\n  A single candidate is wrapped in a list: Candidates([tensor])." if is_split else "")
        )

    def bind(self, like: Tensor) -> Self:
        """The candidates on the device and dtype of ``like``; those that become equal there count once."""
        bound = super().bind(like)
        if like.is_meta or torch.promote_types(like.dtype, self.stack.dtype) == like.dtype:
            return bound
        _check_finite(bound.stack, f"as {like.dtype} holds them")
        return bound._with(tensors=_distinct(bound.stack))

    def project(self, x: Tensor) -> Tensor:
        """The nearest candidate; the derivative is 0."""
        self.check_shape(x.shape)
        entries = x.detach()
        distances = self._per_candidate(entries, _distances)
        least = distances.amin()
        nearest = self._take(_place_of(least, distances), entries)
        nearest = keep_members((entries == nearest).all(), entries, nearest)
        return without_slope(torch.where(least.isnan(), torch.full_like(nearest, math.nan), nearest), x)

    def is_member(self, x: Tensor) -> Tensor:
        """Whether the tensor equals one of the candidates."""
        self.check_shape(x.shape)
        point = x.reshape(-1)
        return torch.stack([(rows.to(x) == point).all(-1).any() for rows in self._pieces()]).any()

    def support(self, y: Tensor) -> Tensor:
        """The largest ``⟨y, c⟩``."""
        return self._per_candidate(y, _products).amax().to(y.dtype)

    def lmo(self, gradient: Tensor) -> Tensor:
        """The candidate with the smallest ``⟨gradient, c⟩``, the first of several."""
        slopes = self._per_candidate(gradient.detach(), _products)
        best = self._take(slopes.argmin(), gradient)
        return torch.where(gradient.isnan().any(), torch.full_like(best, math.nan), best)

    def distances(self, x: Tensor) -> Tensor:
        """The distance of ``x`` to each candidate, in float64 where the device has it."""
        self.check_shape(x.shape)
        return self._per_candidate(x, _distances)

    def rivals(self, x: Tensor) -> Rivals:
        """Among the candidates."""
        point = widest(x.detach())
        distances = self.distances(x.detach()).to(point.dtype)
        place = _place_of(distances.amin(), distances).reshape(1)
        others = distances.index_fill(0, place, 1.0)
        pulls = (2 / others / others).index_fill(0, place, 0.0)
        away = torch.zeros_like(point).reshape(-1)
        for rows, some in zip(pieces := [*self._pieces()], torch.split(pulls, len(pieces[0])), strict=True):
            away += some @ widest(rows)
        nearest = widest(self._take(place, x))
        slopes = pulls.sum() * point - away.reshape(x.shape)
        logs = 2 * others.log().sum()
        return Rivals(point - nearest, len(distances) - 1, logs, slopes)

    def spacing(self, shape: Sequence[int]) -> float:
        """From some of the candidates to all of them."""
        return spacing([self.distances(self.stack[place]) for place in sampled(len(self.stack))])

    def relaxation(self) -> CandidatesRelaxation:
        """Their mean under one softmax over all of them."""
        return CandidatesRelaxation(self)

    def members(self, shape: Sequence[int]) -> Iterator[Tensor]:
        """The candidates, in their order."""
        self.check_shape(torch.Size(shape))
        return (candidate.clone() for candidate in self.stack)

    def count(self, shape: Sequence[int]) -> int:
        """The number of different candidates."""
        self.check_shape(torch.Size(shape))
        return len(self.stack)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Every candidate equally likely."""
        self.check_shape(torch.Size(shape))
        device = None if generator is None else generator.device
        index = torch.randint(len(self.stack), (), generator=generator, device=device)
        return self.stack[index.to(self.stack.device)].to(device=device, dtype=torch.get_default_dtype())

    def _pieces(self) -> Iterator[Tensor]:
        """The candidates as rows, so many at a time that copies of them stay small."""
        rows = self.stack.flatten(1) if self.stack.dim() > 1 else self.stack.unsqueeze(1)
        return iter(torch.split(rows, max(_PIECE.get(rows.device.type, 2**24) // max(rows.shape[1], 1), 1)))

    def _per_candidate(self, x: Tensor, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """A function of candidate rows and x as a vector, for all candidates."""
        return torch.cat([function(rows.to(x), x.reshape(-1)) for rows in self._pieces()])

    def _take(self, index: Tensor, like: Tensor) -> Tensor:
        # index_select reads the index on the device, where indexing would synchronise.
        return self.stack.index_select(0, index.reshape(1)).squeeze(0).to(like)


def _place_of(least: Tensor, distances: Tensor) -> Tensor:
    # Sums in another order differ in their last bits: what is as near up to rounding counts as tied.
    return (distances <= least * (1 + roundoff(distances.dtype))).to(torch.uint8).argmax()


def _distances(rows: Tensor, point: Tensor) -> Tensor:
    displacement = widest(rows) - widest(point)
    if displacement.dtype == rows.dtype:
        return precise_norm(displacement, -1)
    distances: Tensor = torch.linalg.vector_norm(displacement, dim=-1)  # narrower numbers cannot overflow
    return distances


def _products(rows: Tensor, direction: Tensor) -> Tensor:
    return widest(rows) @ widest(direction)


def _stacked(tensors: Sequence[Tensor] | Tensor) -> Tensor:
    if isinstance(tensors, Tensor):
        stack = tensors.detach().clone()
    else:
        entries = _entries(tensors)
        if len({entry.shape for entry in entries}) > 1:
            shapes = ", ".join(sorted({str(tuple(entry.shape)) for entry in entries}))
            raise ValueError(f"Candidates: all tensors must have one shape, got {shapes}.")
        stack = torch.stack(entries) if entries else torch.empty(0)
    if not stack.dim() or stack.is_complex():
        got = f"{stack.dtype} numbers" if stack.dim() else "a single number"
        raise ValueError(f"Candidates: expected tensors of real numbers to choose from, got {got}.")
    if not len(stack):
        raise ValueError("Candidates is empty: give at least one tensor, as in Candidates([first, second]).")
    stack = stack if stack.is_floating_point() else stack.to(torch.get_default_dtype())
    _check_finite(stack, "as given")
    return stack


def _entries(tensors: Sequence[Tensor]) -> list[Tensor]:
    try:
        if isinstance(tensors, str):
            raise TypeError
        return [torch.as_tensor(tensor).detach() for tensor in tensors]
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"Candidates: expected tensors, as in Candidates([first, second]), got {reprlib.repr(tensors)}."
        ) from None


def _check_finite(stack: Tensor, when: str) -> None:
    if not stack.is_meta and not bool(stack.isfinite().all()):
        bad = [index for index, entry in enumerate(stack) if not bool(entry.isfinite().all())]
        raise ValueError(f"Candidates: entries must be finite; number {bad[0]} is not, {when}.")


def _distinct(stack: Tensor) -> Tensor:
    """The first of each group of equal tensors, in their order."""
    if stack.is_meta:
        return stack
    # Adding 0 makes −0 and 0 the same bytes.
    rows = (stack + 0.0).reshape(len(stack), -1).contiguous().cpu().view(torch.uint8).numpy()
    first: dict[bytes, int] = {}
    for index, row in enumerate(rows):
        first.setdefault(row.tobytes(), index)
    return stack if len(first) == len(stack) else stack[list(first.values())]
