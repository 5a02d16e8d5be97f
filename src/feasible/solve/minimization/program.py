"""The problem as solvers see it: one vector of unknowns under bounds and rows, evaluated in one forward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.sets import Set
from feasible.solve.minimization.derivatives import Derivatives, Matrix
from feasible.solve.minimization.result import Status
from feasible.solve.minimization.rows import Rows, bounds_of, rows_of
from feasible.solve.minimization.unknowns import Unknowns, Vector


@dataclass
class Requirement:
    """One constraint: a set, and the function whose value has to be in it (``None``: a part of x itself)."""

    position: int
    set: Set
    function: Callable[[Any], Tensor] | None = None
    place: int = 0
    bounds: tuple[Vector, Vector] | None = None
    rows: list[Rows] | None = None
    span: slice = field(default_factory=lambda: slice(0, 0))
    """Where its rows are among all rows."""

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"constraint {self.position} ({self.set!r})"


class Point:
    """A place with what has been evaluated there."""

    def __init__(self, x: Vector, fun: float, rows: Vector, graph: tuple[Any, ...]) -> None:
        self.x = x
        self.fun = fun
        self.rows = rows
        self.graph: tuple[Any, ...] | None = graph
        self.gradient: Vector = np.empty(0)
        self.jacobian: Matrix = np.empty((0, 0))

    @property
    def is_finite(self) -> bool:
        """Whether everything has a value here."""
        return math.isfinite(self.fun) and bool(np.isfinite(self.rows).all())

    @property
    def has_derivatives(self) -> bool:
        """Whether gradient and Jacobian are finite."""
        return math.isfinite(float(self.gradient.sum()) + float(self.jacobian.sum()))


class Program:
    """``minimise f(x)`` subject to ``lower ≤ x ≤ upper`` and ``low ≤ rows(x) ≤ high``.

    Args:
        fun: the objective, of what ``unknowns.form`` gives; or a vector r, where that is ``½‖r‖²``.
        unknowns: what is sought.
        constraints: sets on x and pairs, as in ``minimize``.
        is_least_squares: whether fun gives r; ``None``: where its first value is not one number.

    Raises:
        ValueError, TypeError: something does not fit; the message says what.
    """

    def __init__(
        self,
        fun: Callable[..., Tensor],
        unknowns: Unknowns,
        constraints: Iterable[object],
        is_least_squares: bool | None = False,
    ) -> None:
        self.unknowns = unknowns
        self.is_least_squares = is_least_squares
        self.size: int | None = None
        """How many numbers fun gives."""
        self.fun = _callable_on(fun, unknowns, "fun")
        self.evaluations = 0
        self.differentiations = 0
        self.derivatives = Derivatives(unknowns)
        self.not_finite = ""
        self.requirements = [
            self._requirement(index, item) for index, item in enumerate(_listed(constraints))
        ]
        self.lower = np.full(unknowns.count, -np.inf)
        self.upper = np.full(unknowns.count, np.inf)
        self._check_start()

    # -- reading the constraints -------------------------------------------------------------------

    def _requirement(self, position: int, item: object) -> Requirement:
        if isinstance(item, Set):
            if not self.unknowns.is_tensor:
                shown = "name" if self.unknowns.module is not None else "position"
                raise ValueError(
                    f"minimize: constraint {position} is a set by itself, but x0 has several tensors.\n"
                    f"  Write ({shown}, {item!r}), or (function, {item!r})."
                )
            return Requirement(position, item)
        if not (isinstance(item, Sequence) and len(item) == 2 and isinstance(item[1], Set)):
            mend = " Write (it, fs.Equal(0.0)) for rows that should be zero." if callable(item) else ""
            raise TypeError(
                f"minimize: constraint {position} must be a set on x or a pair (function, set), got {item!r}.{mend}"
            )
        if callable(item[0]):
            function = _callable_on(item[0], self.unknowns, f"the function of constraint {position}")
            return Requirement(position, item[1], function)
        return Requirement(position, item[1], None, self.unknowns.place(item[0]))

    def _check_start(self) -> None:
        """Evaluate once at the start: shapes, values and derivatives have to make sense there."""
        leaves = self.unknowns.leaves(self.unknowns.start)
        with torch.enable_grad():
            self.values = self.values_of(leaves)
            objective = self.objective_at(leaves)
        _check_finite("fun", objective)
        _check_differentiable("fun", objective, leaves)
        for requirement, value in zip(self.requirements, self.values, strict=True):
            if requirement.function is not None:
                what = f"the function of constraint {requirement.position}"
                _check_finite(what, value)
                _check_differentiable(what, value, leaves)
            self._bind(requirement, value.detach().to("cpu", torch.float64))
        gradient = self.derivatives.gradient(objective, leaves)
        if not np.isfinite(gradient).all():
            entry = int(np.flatnonzero(~np.isfinite(gradient))[0])
            raise ValueError(
                f"minimize: the gradient of fun is {gradient[entry]} at x0 (entry {entry} of all unknowns). "
                "Start where it has derivatives."
            )

    def _bind(self, requirement: Requirement, value: Tensor) -> None:
        set = requirement.set
        if set.discrete or not (set.convex or rows_of(set, value)):
            raise UnsupportedError(
                f"minimize: {set!r} (constraint {requirement.position}) is a choice, not a surface to move along.\n"
                "  Use feasible.exhaustive_search, or train with by=fs.ProximalAnneal(…) and problem.polish(…)."
            )
        try:
            requirement.set = set.bind(value)
        except ValueError as error:
            raise ValueError(f"minimize: constraint {requirement.position}: {error}") from None
        bounds = bounds_of(requirement.set, value)
        if requirement.function is None and bounds is not None:
            lower, upper = (bound.reshape(-1).numpy() for bound in bounds)
            requirement.bounds = lower, upper
            at = self.unknowns.slices[requirement.place]
            self.lower[at] = np.maximum(self.lower[at], lower)
            self.upper[at] = np.minimum(self.upper[at], upper)
            crossed = self.lower[at] > self.upper[at]
            if crossed.any():
                raise ValueError(
                    f"minimize: the bounds on {self.unknowns.names[requirement.place]} leave no value for entry "
                    f"{int(np.flatnonzero(crossed)[0])}. Loosen one of them."
                )

    # -- rows --------------------------------------------------------------------------------------

    def describe(self) -> None:
        """Write every set as rows, for methods that linearise."""
        start = 0
        low, high = [], []
        for requirement, value in zip(self.requirements, self.values, strict=True):
            if requirement.bounds is None:
                requirement.rows = rows_of(requirement.set, value.detach().to("cpu", torch.float64))
            for row in requirement.rows or ():
                low.append(row.lower.double().numpy())
                high.append(row.upper.double().numpy())
            end = sum(len(part) for part in low)
            requirement.span = slice(start, end)
            start = end
        self.low, self.high = (np.concatenate(side) if side else np.empty(0) for side in (low, high))

    def row_values(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The rows of the constraints' values, flat, a tensor for each description."""
        return [
            row.function(value).reshape(-1)
            for requirement, value in zip(self.requirements, values, strict=True)
            for row in requirement.rows or ()
        ]

    def share(self, requirement: Requirement, left: Vector) -> Tensor:
        """What the bounds of one set have to do with the multipliers of all bounds; the first one takes it."""
        at = self.unknowns.slices[requirement.place]
        lower, upper = requirement.bounds or (self.lower[at], self.upper[at])
        pull = left[at]
        is_mine = np.where(pull < 0, lower == self.lower[at], upper == self.upper[at])
        taken = np.where(is_mine, pull, 0.0)
        left[at] = pull - taken
        return torch.from_numpy(taken).reshape(self.unknowns.tensors[requirement.place].shape)

    # -- evaluation --------------------------------------------------------------------------------

    def objective_at(self, leaves: Sequence[Tensor]) -> Tensor:
        """The objective as a scalar; whatever else comes is refused."""
        numbers = self.residual_at(leaves)
        return 0.5 * (numbers * numbers).sum() if self.is_least_squares else numbers.reshape(())

    def residual_at(self, leaves: Sequence[Tensor]) -> Tensor:
        """What fun gives, flat."""
        numbers = self.fun(self.unknowns.form(leaves))
        self.evaluations += 1
        if not isinstance(numbers, Tensor):
            raise TypeError(
                f"minimize: fun must return a tensor with one number, got {type(numbers).__name__}."
            )
        if self.size is None:
            self._check_size(numbers)
        elif numbers.numel() != self.size:
            raise ValueError(f"minimize: fun gave {self.size} numbers at x0, and {numbers.numel()} later on.")
        if not numbers.is_floating_point():
            raise TypeError(f"minimize: fun must return a real floating-point number, got {numbers.dtype}.")
        return numbers.reshape(-1)

    def _check_size(self, numbers: Tensor) -> None:
        """Whether fun gives what the method is for: one number, or a residual vector."""
        shape, count = tuple(numbers.shape), numbers.numel()
        if self.is_least_squares is None:
            self.is_least_squares = count > 1
        if self.is_least_squares and (count == 0 or not shape):
            got = "one without a dimension, as a sum of squares is" if count else f"a tensor of shape {shape}"
            raise ValueError(
                f"minimize: method 'gauss-newton' needs the residuals r themselves, a vector, got {got}.\n"
                "  Return r, not ½‖r‖²; for an objective that is one number leave the method to 'auto'."
            )
        if not self.is_least_squares and count != 1:
            raise ValueError(
                f"minimize: fun must return one number, got a tensor of shape {shape}.\n"
                "  Reduce it, as in .sum() or .mean(), or minimise ½‖fun‖² by method='gauss-newton'; a vector of "
                "constraints goes into constraints=."
            )
        self.size = count

    def values_of(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """The value of each constraint."""
        form, values = self.unknowns.form(leaves), []
        for requirement in self.requirements:
            if requirement.function is None:
                values.append(leaves[requirement.place])
                continue
            value = requirement.function(form)
            if not isinstance(value, Tensor) or not value.is_floating_point():
                got = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(
                    f"minimize: the function of constraint {requirement.position} must return a floating-point "
                    f"tensor, got {got}."
                )
            values.append(value)
        return values

    def values_at(self, x: Vector) -> list[Tensor]:
        """The value of each constraint at x."""
        with torch.enable_grad():  # a function may differentiate by its inputs
            return [value.detach() for value in self.values_of(self.unknowns.leaves(x))]

    def evaluate_objective(self, x: Vector) -> Point:
        """The objective alone, for methods that keep x in its sets themselves."""
        x = self.unknowns.rounded(x)
        leaves = self.unknowns.leaves(x)
        with torch.enable_grad():
            objective = self.objective_at(leaves)
        return self._noted(Point(x, objective.item(), np.empty(0), (leaves, objective, [])))

    def evaluate(self, x: Vector) -> Point:
        """Objective and rows at x, in one forward; ``differentiate`` has to follow before the next one."""
        x = self.unknowns.rounded(x)
        leaves = self.unknowns.leaves(x)
        with torch.enable_grad():
            objective = self.objective_at(leaves)
            rows = self.row_values(self.values_of(leaves))
        return self._noted(Point(x, objective.item(), _numbers(rows), (leaves, objective, rows)))

    def _noted(self, point: Point) -> Point:
        """Remember where something has no value."""
        if math.isfinite(point.fun) and point.is_finite:
            return point
        if not math.isfinite(point.fun):
            self.not_finite = f"fun is {point.fun}"
        else:
            row = int(np.flatnonzero(~np.isfinite(point.rows))[0])
            position = next(item.position for item in self.requirements if item.span.stop > row)
            self.not_finite = f"the function of constraint {position} is {point.rows[row]}"
        return point

    def trouble(self, status: Status) -> str:
        """What had no value on the way, where that may be why a run failed."""
        if status.is_success or not self.not_finite:
            return ""
        return f"On the way {self.not_finite}: bounds that keep x away from there would help."

    def differentiate(self, point: Point) -> Point:
        """Add gradient and Jacobian to the point that was evaluated last, and drop its graph."""
        if point.graph is None:
            return point
        leaves, objective, rows = point.graph
        point.graph = None
        self.differentiations += 1
        point.gradient = self.derivatives.gradient(objective, leaves)
        point.jacobian = self.derivatives.jacobian(rows, leaves)
        if not point.has_derivatives:
            what = (
                "the gradient of fun"
                if not np.isfinite(point.gradient).all()
                else "the gradient of a constraint"
            )
            self.not_finite = f"{what} is not finite"
        return point


def _numbers(rows: Sequence[Tensor]) -> Vector:
    if not rows:
        return np.empty(0)
    joined = torch.cat([row.detach() for row in rows]) if len(rows) > 1 else rows[0].detach()
    return np.array(joined.to("cpu", torch.float64).numpy())


def _listed(constraints: object) -> list[object]:
    """The constraints as a list, where a single one was handed in bare, too."""
    if isinstance(constraints, Set):
        return [constraints]
    if (
        isinstance(constraints, tuple)
        and len(constraints) == 2
        and not isinstance(constraints[0], (Set, tuple, list))
    ):
        return [constraints]
    if not isinstance(constraints, Iterable):
        raise TypeError(f"minimize: constraints must be a list of sets and pairs, got {constraints!r}.")
    return list(constraints)


def _callable_on(function: object, unknowns: Unknowns, what: str) -> Callable[[Any], Any]:
    """The function of one argument; a module's may take none."""
    if not callable(function):
        raise TypeError(f"minimize: {what} must be a function, got {type(function).__name__}.")
    called: Callable[..., Any] = function
    if unknowns.module is None:
        return called
    try:
        signature(called).bind(unknowns.module)
    except TypeError:
        return lambda form: called()
    except ValueError:  # a built-in without a signature
        return called
    return called


def _check_finite(what: str, value: Tensor) -> None:
    bad = ~value.detach().isfinite()
    if bool(bad.any()):
        where = tuple(bad.nonzero()[0].tolist())
        at = f" at {list(where)}" if where else ""
        raise ValueError(
            f"minimize: {what} is {value.detach()[where].item()}{at} at x0. Start where everything has a value."
        )


def _check_differentiable(what: str, value: Tensor, leaves: Sequence[Tensor]) -> None:
    # A value that needs gradients may be a function of other tensors than these.
    depends = value.requires_grad and any(
        part is not None
        for part in torch.autograd.grad(value.sum(), leaves, retain_graph=True, allow_unused=True)
    )
    if not depends:
        raise ValueError(
            f"minimize: {what} has no gradient: it does not depend on x by operations that torch differentiates.\n"
            "  Look for .item(), .detach(), .data, NumPy, torch.no_grad or torch.tensor(...) inside it."
        )
