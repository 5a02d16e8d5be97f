"""What every set is: a small immutable object of pure functions on tensors."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from feasible.errors import UnsupportedError
from feasible.sets.precision import normal, roundoff, widest

if TYPE_CHECKING:
    from feasible.sets.algebra import Flatten
    from feasible.sets.rivals import Rivals

OPTIONAL = (
    "slack",
    "barrier",
    "interior",
    "chart",
    "support",
    "lmo",
    "tangent",
    "members",
    "count",
    "relaxation",
    "rivals",
)
"""What a set offers only where the mathematics has it; ``Set.offers`` tells."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Set(ABC):
    """A set of admissible values; a subclass needs ``project`` and says what one unit of it is.

    A *unit* is what the set speaks of: one entry, one vector, one matrix or the whole tensor.
    ``norm`` measures a displacement per unit and ``spread`` writes one value per unit back to all
    its entries; every other dimension is a batch.
    """

    convex: ClassVar[bool] = True
    """Whether the projection is unique and non-expansive."""
    discrete: ClassVar[bool] = False
    """Whether the set has finitely or countably many members in every bounded region."""
    separable: ClassVar[bool] = False
    """Whether each entry is constrained by itself."""
    exact: ClassVar[bool] = False
    """Whether projected values are in the set without any rounding."""
    default_method: ClassVar[str | None] = "Project"
    """The method that ``constrain`` takes where none is given; ``None``: the user has to choose."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """What one bool of ``contains`` speaks of: ``"entry"``, ``"vector along -1"``, …"""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Nearest point of the set: ``argmin_p ½‖p − x‖²`` subject to p in the set; a member keeps its bits."""

    @abstractmethod
    def norm(self, displacement: Tensor) -> Tensor:
        """Euclidean norm of a displacement, one value per unit."""

    @abstractmethod
    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        """One value per unit, expanded to the shape of ``x``."""

    @abstractmethod
    def sum_units(self, entries: Tensor) -> Tensor:
        """Entrywise values added up, one sum per unit."""

    # -- what follows from the projection ---------------------------------------------------------

    def residual(self, x: Tensor) -> Tensor:
        """``x − project(x)``: zero exactly where x is in the set."""
        return x - self.project(x)

    def distance(self, x: Tensor) -> Tensor:
        """Euclidean distance to the set, one value per unit."""
        return self.norm(self.residual(x))

    def contains(self, x: Tensor, tol: float | None = None) -> Tensor:
        """Whether each unit is within ``tol`` of the set; by default within what rounding explains."""
        if tol is None:
            return self.is_member(x)
        return self.distance(x) <= tol

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each unit is in the set up to the rounding of its own arithmetic."""
        return self.distance(x) == 0

    def tolerance(self, dtype: torch.dtype) -> float:
        """Distance that ``contains`` allows by default to a value of the set's own size."""
        return 0.0 if self.exact else roundoff(dtype) * self.size

    @property
    def size(self) -> float:
        """Typical magnitude of the members, the unit of ``tolerance``."""
        return 1.0

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Random members in a tensor of ``shape``, in the default dtype."""
        self.check_shape(torch.Size(shape))
        return self.project(normal(shape, generator) * self.size)

    def project_all_(self, tensors: Sequence[Tensor]) -> None:
        """Project several tensors of one dtype in place; overridden where one fused call beats a loop."""
        for tensor in tensors:
            tensor.copy_(self.project(tensor))

    @property
    def needs_tangent(self) -> bool:
        """Whether an optimizer with a step size per entry must be shown gradients along the set.

        Convex sets that couple their entries, and smooth surfaces; on a discrete set the mapping would be 0.
        """
        return self.convex and not self.separable

    def reduce_gradients_(self, points: Sequence[Tensor], gradients: Sequence[Tensor], t: float) -> None:
        """Replace gradients, in place, by the gradient mappings ``(x − P(x − t g)) / t`` at members x.

        For a convex set the mapping is zero exactly where x is stationary; where there is room it is g.
        The small difference of two points is taken in float64, where it keeps its digits. The weights
        share one dtype and device.
        """
        for x, g in zip(points, gradients, strict=True):
            exact = widest(x)
            wide = self.cast(exact)
            nearest = wide.project(exact)
            g.copy_((nearest - wide.project(nearest - t * widest(g))) / t)

    # -- example -----------------------------------------------------------------------------------

    @classmethod
    def example(cls) -> Set:
        """A set of this kind for tables of what there is: 1 for every number that it needs."""
        return cls(**dict.fromkeys(needed_fields(cls), 1))

    # -- binding -----------------------------------------------------------------------------------

    def bind(self, like: Tensor) -> Self:
        """The same set with its tensors on the device and dtype of ``like``; checks that it fits.

        Raises:
            ValueError: the set cannot hold a tensor of this shape or dtype, or is empty there.
        """
        self.check_dtype(like.dtype)
        self.check_shape(like.shape)
        return self.cast(like)

    def cast(self, like: Tensor) -> Self:
        """The same set with its tensors on the device and dtype of ``like``; nothing is checked again."""
        return self._with(
            **{
                field.name: getattr(self, field.name).to(like)
                for field in dataclasses.fields(self)
                if isinstance(getattr(self, field.name), Tensor)
                and getattr(self, field.name).is_floating_point()
            }
        )

    def _with(self, **changes: Any) -> Self:
        """A copy with other values in some fields, which are known to be right."""
        if not changes:
            return self
        twin = object.__new__(type(self))
        for field in dataclasses.fields(self):
            object.__setattr__(twin, field.name, changes.get(field.name, getattr(self, field.name)))
        return twin

    def taken(self) -> dict[str, Tensor]:
        """Tensors that the set took from the weight when it was bound; a checkpoint keeps them."""
        return {}

    def with_taken(self, taken: dict[str, Tensor]) -> Self:
        """The same set with the tensors of a checkpoint in the place of its own."""
        return self

    def check_shape(self, shape: torch.Size) -> None:
        """Raise ``ValueError`` where a tensor of this shape cannot be in the set."""

    def check_dtype(self, dtype: torch.dtype) -> None:
        """Raise ``ValueError`` for integers, bools and complex numbers: between them nothing is nearest."""
        if not dtype.is_floating_point:
            raise ValueError(
                f"{self!r} needs real floating-point numbers, but the tensor has dtype {dtype}.\n"
                "  Convert it first: x.float(), or torch.view_as_real(x) for complex numbers."
            )

    # -- what only some sets have ------------------------------------------------------------------

    def offers(self, capability: str) -> bool:
        """Whether the set has one of the optional functions (``"chart"``, ``"barrier"``, …)."""
        return getattr(type(self), capability) is not getattr(Set, capability)

    def slack(self, x: Tensor) -> tuple[Tensor, ...]:
        """Concave functions that are all ≥ 0 exactly in the set and > 0 in its interior."""
        raise self._lacks("slack functions", "they need a set described by inequalities")

    def barrier(self, x: Tensor) -> Tensor:
        """``−Σ log slack(x)`` per unit: finite in the interior, +inf from the boundary on."""
        raise self._lacks("barrier", "it needs an interior")

    def interior(self, x: Tensor, margin: float) -> Tensor:
        """Nearest point whose slack is at least ``margin`` (or the centre, where none is)."""
        raise self._lacks("interior", "no point has room in every direction")

    def chart(self, kind: str | None = None) -> nn.Module:
        """A module whose ``forward`` maps free coordinates onto the set, with a ``right_inverse``."""
        raise self._lacks("chart", "no smooth coordinates are known for it")

    def support(self, y: Tensor) -> Tensor:
        """Support function ``σ(y) = max ⟨y, s⟩`` over members s, per unit; +inf outside its domain."""
        raise self._lacks("support function", "none is known in closed form")

    def lmo(self, gradient: Tensor) -> Tensor:
        """Linear minimisation: ``argmin_s ⟨gradient, s⟩`` over members s."""
        raise self._lacks("linear minimisation", "the set is unbounded or no closed form is known")

    def tangent(self, x: Tensor, direction: Tensor) -> Tensor:
        """``direction`` projected onto the tangent cone at the member ``x``."""
        raise self._lacks("tangent cone", "no closed form is known")

    def members(self, shape: Sequence[int]) -> Iterator[Tensor]:
        """All members of the given shape, one after the other."""
        raise self._lacks("list of members", "it is not finite")

    def count(self, shape: Sequence[int]) -> int:
        """How many members a tensor of this shape has."""
        raise self._lacks("count of members", "it is not finite")

    def relaxation(self) -> nn.Module:
        """A chart of means of members, of which one remains as its temperature falls (``Relaxation``)."""
        raise self._lacks("relaxation", "its members cannot be scored one by one")

    def rivals(self, x: Tensor) -> Rivals:
        """The nearest member of each unit of ``x``, and the sums over all others that a product of distances needs."""
        raise self._lacks("rivals", "its units have no list of members")

    def spacing(self, shape: Sequence[int]) -> float:
        """A typical distance between the members of one unit; it goes with ``rivals``."""
        raise self._lacks("spacing", "its units have no list of members")

    def _lacks(self, what: str, why: str) -> UnsupportedError:
        available = [name for name in ("project", *OPTIONAL) if name == "project" or self.offers(name)]
        return UnsupportedError(f"{self!r} has no {what}: {why}.\n  It has: {', '.join(available)}")

    # -- algebra -----------------------------------------------------------------------------------

    def __and__(self, other: Set) -> Set:
        """Intersection: a closed form where one is known, else Dykstra's iteration."""
        from feasible.sets.intersection import intersect

        return intersect(self, other)

    def __or__(self, other: Set) -> Set:
        """Union: the nearer of the two, unit by unit."""
        from feasible.sets.union import unite

        return unite(self, other)

    def where(self, mask: Tensor) -> Set:
        """The same constraint on the entries that ``mask`` picks only; the others are free.

        Sets of vectors and matrices need a mask that picks the same entries of each of them.
        """
        from feasible.sets.picked import pick

        return pick(self, mask)

    def flatten(self, start_dim: int = 0) -> Flatten:
        """The same constraint on ``x.flatten(start_dim)``: a convolution kernel as one row a filter."""
        from feasible.sets.algebra import Flatten

        return Flatten(self, start_dim)

    # -- identity by content -----------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return bool(contents(self) == contents(other))

    def __hash__(self) -> int:
        return hash(contents(self))

    def __repr__(self) -> str:
        shown = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not field.default and not (
                isinstance(value, (int, float, str)) and value == field.default
            ):
                shown.append(f"{field.name}={short(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"


def needed_fields(kind: type[Any]) -> list[str]:
    """Names of the arguments that a dataclass cannot be made without."""
    missing = dataclasses.MISSING
    return [
        field.name
        for field in dataclasses.fields(kind)
        if field.init and field.default is missing and field.default_factory is missing
    ]


def contents(value: Any) -> Any:
    """A hashable picture of a set or of one of its fields, tensors by dtype, shape and numbers."""
    if isinstance(value, Set):
        fields = tuple(contents(getattr(value, field.name)) for field in dataclasses.fields(value))
        return (type(value).__qualname__, *fields)
    if isinstance(value, Tensor):
        if value.is_meta:
            return (str(value.dtype), tuple(value.shape), "meta")
        numbers = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return (str(value.dtype), tuple(value.shape), hashlib.sha256(numbers).hexdigest())
    if isinstance(value, tuple):
        return tuple(contents(item) for item in value)
    return value


def short(value: Any) -> str:
    """A field as it is shown in messages: tensors by their shape."""
    if isinstance(value, Tensor):
        has_number = value.dim() == 0 and not value.is_meta
        return f"{value.item():g}" if has_number else "tensor(" + "×".join(map(str, value.shape)) + ")"
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return repr(value)
