"""Entries from a list, and whole numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self, cast, final

import torch
from torch import Tensor

from feasible.sets.cells import by_pieces, chosen, cuts_between, rounded_down
from feasible.sets.elementwise import Box, Interval
from feasible.sets.fixed import Frozen
from feasible.sets.precision import normal
from feasible.sets.relaxations import NearestRelaxation
from feasible.sets.rivals import Rivals, rivals_of_numbers, sampled, spacing
from feasible.sets.selection import is_plain, keep_zeros, without_slope
from feasible.sets.set import Set
from feasible.sets.tuples import tuples
from feasible.sets.units import Elementwise

__all__ = ["FiniteSet", "Integers"]

_SHOWN = 16
"""Longer lists of values are shown by their length."""
_LISTED = 256
"""Longer ranges of whole numbers are not listed for every entry."""


class Lattice(Elementwise):
    """Entries from a list of isolated numbers, finite or not."""

    convex = False
    discrete = True
    default_method = "StraightThrough"

    def is_member(self, x: Tensor) -> Tensor:
        """Whether each entry is one of the numbers."""
        return (self.project(x) == x) & x.isfinite()

    def _ends(self) -> tuple[float | None, float | None]:
        """The smallest and the largest number, where they exist."""
        raise NotImplementedError

    @property
    def size(self) -> float:
        """The largest magnitude among the ends, or 1."""
        return max((abs(float(end)) for end in self._ends() if end is not None), default=0.0) or 1.0

    def support(self, y: Tensor) -> Tensor:
        """As that of the range from the smallest number to the largest."""
        return Box(*self._ends()).support(y)

    def lmo(self, gradient: Tensor) -> Tensor:
        """The largest number where the gradient is negative, else the smallest."""
        low, high = self._ends()
        if low is None or high is None:
            raise self._lacks("linear minimisation", "it is unbounded")
        ends = self.project(gradient.new_tensor([low, high]))
        corner = torch.where(gradient < 0, ends[1], ends[0])
        return torch.where(gradient.isnan(), gradient, corner)


@final
@dataclass(frozen=True, eq=False, repr=False)
class FiniteSet(Lattice):
    """Entries from a finite list of numbers.

    ``project(x)`` is ``argmin_p |p − x|`` over the values, entry by entry; half way between two values it
    is the smaller one.

    Args:
        values: numbers in any order, as a sequence or a 1-D tensor; equal ones count once.

    Raises:
        ValueError: there are no values, or one is not finite.

    >>> FiniteSet([-1, 0, 1]).project(torch.tensor([-3.0, 0.5, 0.6]))
    tensor([-1., 0., 1.])
    """

    values: Sequence[float] | Tensor
    table: Tensor | None = field(default=None, init=False, repr=False, compare=False)
    """Once bound: the values as the tensor holds them, and a NaN."""
    cuts: Tensor | None = field(default=None, init=False, repr=False, compare=False)
    """Once bound: the largest number that still belongs to each value, +inf being the last."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _checked_values(self.values))

    @classmethod
    def example(cls) -> Self:
        """−1, 0 and 1."""
        return cls([-1.0, 0.0, 1.0])

    @property
    def numbers(self) -> tuple[float, ...]:
        """The values in ascending order."""
        return cast(tuple[float, ...], self.values)

    def __repr__(self) -> str:
        if len(self.numbers) > _SHOWN:
            return f"FiniteSet(tensor({len(self.numbers)}))"
        shown = [f"{number:g}" if float(f"{number:g}") == number else repr(number) for number in self.numbers]
        return f"FiniteSet([{', '.join(shown)}])"

    def _ends(self) -> tuple[float | None, float | None]:
        return self.numbers[0], self.numbers[-1]

    def bind(self, like: Tensor) -> Self:
        """The values as the dtype of ``like`` holds them; values that become equal there count once.

        Raises:
            ValueError: a value is too large for the dtype.
        """
        self.check_dtype(like.dtype)
        held = torch.tensor(self.numbers, dtype=torch.float64).to(like.dtype)
        if not bool(held.isfinite().all()):
            raise ValueError(
                f"{self!r} does not fit into {like.dtype}: its largest magnitude is {self.size:g}."
            )
        return self._with(values=_checked_values(held)).cast(like)

    def cast(self, like: Tensor) -> Self:
        """The table of values and the cuts between them, on the device and dtype of ``like``."""
        held = torch.tensor(self.numbers, dtype=torch.float64).to(like.dtype)
        table = torch.cat([held, torch.full_like(held[:1], math.nan)])
        return self._with(table=table.to(like.device), cuts=cuts_between(held).to(like.device))

    def _tables(self, x: Tensor) -> tuple[Tensor, Tensor]:
        table, cuts = self.table, self.cuts
        if table is None or cuts is None or table.dtype != x.dtype or table.device != x.device:
            fitting = self.cast(x)
            table, cuts = fitting.table, fitting.cuts
        assert table is not None
        assert cuts is not None
        return table, cuts

    def project(self, x: Tensor) -> Tensor:
        """The nearest value, the smaller of two equally near ones; the derivative is 0."""
        return without_slope(by_pieces(self._nearest, x.detach()), x)

    def residual(self, x: Tensor) -> Tensor:
        """``x − project(x)``: zero exactly where x is in the set."""
        return by_pieces(self._displacement, x) if is_plain(x) else super().residual(x)

    def _displacement(self, x: Tensor) -> Tensor:
        table, cuts = self._tables(x)
        nearest = chosen(x, table[:-1], cuts[:-1])  # a NaN comes from x
        return torch.sub(x, nearest, out=nearest)

    def _nearest(self, x: Tensor) -> Tensor:
        nearest = chosen(x, *self._tables(x))
        return keep_zeros(x, nearest) if 0.0 in self.numbers else nearest

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Every value equally likely."""
        device = None if generator is None else generator.device
        index = torch.randint(len(self.numbers), tuple(shape), generator=generator, device=device)
        return torch.tensor(self.numbers, device=device)[index]

    def rivals(self, x: Tensor) -> Rivals:
        """Among the values, as the dtype of ``x`` holds them."""
        fitting = self if self.table is not None and self.table.dtype == x.dtype else self.bind(x)
        return rivals_of_numbers(x, fitting.project(x), fitting.numbers)

    def spacing(self, shape: Sequence[int]) -> float:
        """From some of the values to all of them."""
        return _spacing(self.numbers)

    def relaxation(self) -> NearestRelaxation:
        """For each entry the mean of the values, the nearer ones counting more."""
        return NearestRelaxation(self, self.numbers)

    def members(self, shape: Sequence[int]) -> Iterator[Tensor]:
        """All of them in lexicographic order, in the dtype that the set is bound to, else in the default one."""
        values = torch.tensor(self.numbers) if self.table is None else self.table[:-1]
        choices = tuples(lambda: range(len(values)), math.prod(shape))
        return (values[torch.tensor(choice, dtype=torch.long)].reshape(tuple(shape)) for choice in choices)

    def count(self, shape: Sequence[int]) -> int:
        """The number of values to the power of the number of entries."""
        return int(len(self.numbers) ** math.prod(shape))


@final
@dataclass(frozen=True, eq=False, repr=False)
class Integers(Lattice):
    """Whole numbers, perhaps in a range.

    ``project(x)`` is ``argmin_p |p − x|`` over the whole numbers in the range, entry by entry; half way between
    two of them it is the smaller one, as for ``FiniteSet``.

    Args:
        lower: the smallest number allowed (rounded up), or ``None``.
        upper: the largest number allowed (rounded down), or ``None``.

    Raises:
        ValueError: a bound is NaN, or there is no whole number between them.

    >>> Integers(upper=2).project(torch.tensor([-1.5, 0.4, 0.6, 7.0]))
    tensor([-2., 0., 1., 2.])
    """

    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        given = f"lower={self.lower!r} and upper={self.upper!r}"
        object.__setattr__(self, "lower", _whole_bound("lower", self.lower, math.ceil, -math.inf))
        object.__setattr__(self, "upper", _whole_bound("upper", self.upper, math.floor, math.inf))
        low, high = self._ends()
        if low is not None and high is not None and low > high:
            raise ValueError(f"Integers is empty: there is no whole number between {given}. Widen the range.")

    def _ends(self) -> tuple[int | None, int | None]:
        return cast("tuple[int | None, int | None]", (self.lower, self.upper))

    def offers(self, capability: str) -> bool:
        """Lists, counts and linear minima need two bounds."""
        if capability in ("members", "count", "lmo"):
            return self.lower is not None and self.upper is not None
        if capability in ("relaxation", "rivals"):
            return self.lower is not None and self.upper is not None and self.upper - self.lower < _LISTED
        return super().offers(capability)

    def bind(self, like: Tensor) -> Self:
        """The set itself.

        Raises:
            ValueError: the dtype of ``like`` has no number in the range.
        """
        self.check_dtype(like.dtype)
        low, high = self._ends_in(like.dtype)
        if (low is not None and high is not None and low > high) or low == math.inf or high == -math.inf:
            raise ValueError(f"{self!r} is empty in {like.dtype}, which holds no whole number of that range.")
        return super().bind(like)

    def _ends_in(self, dtype: torch.dtype) -> tuple[float | None, float | None]:
        """The outermost numbers of the range that the dtype can hold."""
        low, high = self._ends()
        return (
            None if low is None else -rounded_down(-low, dtype),
            None if high is None else rounded_down(high, dtype),
        )

    def project(self, x: Tensor) -> Tensor:
        """The nearest whole number of the range, the smaller of two equally near ones; the derivative is 0."""
        nearest = torch.round(x)
        # This difference is exact, so that ties, which round() sends to even numbers, are recognised.
        tie = (nearest.detach() - x.detach() == 0.5).to(x.dtype)
        nearest = nearest - tie
        low, high = self._ends_in(x.dtype)
        return nearest if low is None and high is None else torch.clamp(nearest, low, high)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Every number of a short range equally likely; from a single bound on, exponentially rarer ones."""
        low, high = self._ends()
        if low is not None and high is not None and high - low < 2**31:
            device = None if generator is None else generator.device
            steps = torch.randint(high - low + 1, tuple(shape), generator=generator, device=device)
            return self.project(low + steps.to(torch.get_default_dtype()))
        away = normal(shape, generator).abs() * 4
        if low is not None:
            return self.project(low + away)
        return self.project(high - away if high is not None else normal(shape, generator) * 4)

    def rivals(self, x: Tensor) -> Rivals:
        """As for a list of values; for ranges of up to 256 numbers."""
        return rivals_of_numbers(x, self.project(x), self._short_list("rivals"))

    def spacing(self, shape: Sequence[int]) -> float:
        """As for a list of values."""
        return _spacing(self._short_list("spacing"))

    def relaxation(self) -> NearestRelaxation:
        """As for a list of values; for ranges of up to 256 numbers."""
        return NearestRelaxation(self, self._short_list("relaxation"))

    def _short_list(self, what: str) -> range:
        low, high = self._finite_ends(what)
        if high - low >= _LISTED:
            raise self._lacks(what, f"it has {high - low + 1} numbers, and the limit is {_LISTED}")
        return range(low, high + 1)

    def members(self, shape: Sequence[int]) -> Iterator[Tensor]:
        """All of them in lexicographic order, where the range is finite."""
        low, high = self._finite_ends("list of members")
        choices = tuples(lambda: range(low, high + 1), math.prod(shape))
        return (
            torch.tensor(choice, dtype=torch.get_default_dtype()).reshape(tuple(shape)) for choice in choices
        )

    def count(self, shape: Sequence[int]) -> int:
        """How many whole numbers the range has, to the power of the number of entries."""
        low, high = self._finite_ends("count of members")
        return int((high - low + 1) ** math.prod(shape))

    def _finite_ends(self, what: str) -> tuple[int, int]:
        low, high = self._ends()
        if low is None or high is None:
            raise self._lacks(what, "it is not finite; give both bounds")
        return low, high


def _spacing(numbers: Sequence[float]) -> float:
    values = torch.tensor(numbers, dtype=torch.float64)
    return spacing([(values - values[place]).abs() for place in sampled(len(values))])


def common_values(first: Set, second: Set) -> Set | None:
    """``first & second`` where one is a list of values or whole numbers: the values that are in both.

    ``None`` where no closed form is known.

    Raises:
        ValueError: no value is in both.
    """
    for one, other in ((first, second), (second, first)):
        if isinstance(one, FiniteSet) and _is_same_everywhere(other):
            values = torch.tensor(one.numbers, dtype=torch.float64)
            inside = values[other.is_member(values)]
            if not len(inside):
                raise ValueError(f"{first!r} & {second!r} is empty: no value is in both.")
            return FiniteSet(inside)
        if (
            isinstance(one, Integers)
            and _is_same_everywhere(other)
            and isinstance(other, Integers | Interval)
        ):
            lower, upper = other._ends() if isinstance(other, Integers) else other.bounds
            return Integers(
                _tighter(max, one.lower, cast("float | None", lower)),
                _tighter(min, one.upper, cast("float | None", upper)),
            )
    return None


def _is_same_everywhere(set: Set) -> bool:
    """Whether a set treats all entries alike."""
    own = isinstance(set, FiniteSet)
    return (
        isinstance(set, Elementwise)
        and not isinstance(set, Frozen)
        and (own or not any(isinstance(getattr(set, item.name), Tensor) for item in fields(set)))
    )


def _tighter(choose: Any, a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else choose(a, b)


def _checked_values(values: Sequence[float] | Tensor) -> tuple[float, ...]:
    try:
        if isinstance(values, Tensor) and values.is_complex():
            raise TypeError
        entries = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"FiniteSet: values must be a list of numbers, got {values!r}.") from None
    if entries.dim() != 1 or not len(entries):
        raise ValueError(
            f"FiniteSet: values must be a list of at least one number, got shape {tuple(entries.shape)}.\n"
            "  For whole tensors to choose from use Candidates."
        )
    if not bool(entries.isfinite().all()):
        raise ValueError(f"FiniteSet: values must be finite, got {entries[~entries.isfinite()][0].item()}.")
    return tuple((torch.unique(entries) + 0.0).tolist())


def _whole_bound(name: str, bound: float | None, round_inwards: Any, free: float) -> int | None:
    if bound is None or bound == free:
        return None
    try:
        return int(round_inwards(bound))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"Integers: {name} must be a number or None, got {bound!r}.") from None
