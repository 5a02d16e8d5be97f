"""What is wrong with a boundary value problem before any training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import jacfwd

from feasible.pde.anchors import Anchor
from feasible.pde.condition import Condition, OnPart
from feasible.pde.differentiation.forward_mode import load
from feasible.pde.domains import Domain
from feasible.pde.equations import Equation
from feasible.pde.inputs import matched, repeated, row_count
from feasible.pde.samplers import sobol

__all__ = ["Diagnosis"]

Model = Callable[..., Tensor]
Rows = Callable[[Model], list[Tensor]]
FEATURES = {1: 120, 2: 400, 3: 600}
BANDWIDTH = {1: 40.0, 2: 14.0, 3: 8.0}
"""Of the features' frequencies, times the length of the domain."""
POINTS = {1: 400, 2: 800, 3: 1200}
KEPT = 1e-9
"""Singular values of the features that make a basis, over the largest."""
CONSTANT = 1e-6
"""Rows below it count as satisfied by a constant."""
STARTS = (0.0, 1.0, -1.0, 0.1, -0.1, 10.0, -10.0)
SEEN = 1e-2
"""A contradiction is at least this large, in the units of the rows."""
FEW = 3
"""Anchors at more points are data."""


@final
@dataclass(frozen=True)
class Diagnosis:
    """What was found."""

    findings: tuple[str, ...]
    """One sentence each; empty: nothing."""
    constants: tuple[tuple[float, ...], ...] = ()
    """Constants that satisfy all rows, component by component."""
    rank: int | None = None
    """Numerical rank of the rows over the basis; ``None``: a nonlinear equation, and no model to linearise around."""
    size: int | None = None
    """The number of functions in the basis."""
    smallest: float | None = None
    """The smallest residual of a function of size 1 under the homogeneous problem."""

    def __bool__(self) -> bool:
        return bool(self.findings)


@torch.no_grad()
def diagnosis(
    equation: Equation,
    domain: Domain,
    conditions: Sequence[Condition],
    inputs: Sequence[Any],
    tol: float,
    seed: int,
    model: Model | None,
    row: int,
) -> Diagnosis:
    """See ``System.diagnose``."""
    load()
    rows, _, _ = one_problem(equation, domain, conditions, inputs, seed, row)
    constants = solving_constants(rows, equation.outputs, CONSTANT)
    findings = [constant_sentence(values) for values in constants]
    if not equation.linear and model is None:
        return Diagnosis(tuple(findings), tuple(constants))
    basis = Basis(domain, equation.outputs, seed)
    linear = Linear(rows, basis, None if equation.linear else in_double(model))
    names = [condition.name for condition in conditions]
    nulls = linear.null_functions(tol)
    is_resonant = bool(nulls) and bool(conditions) and not unknown_parts(domain, conditions)
    findings += [null_sentence(nulls, linear.smallest, domain, conditions)] if nulls else []
    near = "" if equation.linear else ", linearised around the model"
    known = [0, *(number for number, each in enumerate(conditions, start=1) if not is_data(each))]
    miss, block = linear.contradiction(known)
    if miss > SEEN:
        where = (["the equation", *names])[block]
        findings.append(
            f"the conditions conflict: no smooth function satisfies all rows{near}; {where} is missed by {miss:.2g}."
        )
    elif not is_resonant:  # there, conditions look alike because of the equation: the mend is another one
        findings += [
            f"{names[i]} is redundant: the equation and the other conditions imply it."
            for i in linear.implied(tol, known)
        ]
    if miss <= SEEN and len(known) <= len(conditions):
        miss, _ = linear.contradiction(range(len(linear.blocks)))
        if miss > SEEN:
            findings.append(
                f"the anchors do not fit exactly{near}: at best they miss by {miss:.2g} (root mean square). That is "
                "noise, or an equation that they do not obey. Fit them by minimize(residuals of the anchors, …)."
            )
    return Diagnosis(tuple(findings), tuple(constants), linear.rank(tol), basis.size, linear.smallest)


def one_problem(
    equation: Equation,
    domain: Domain,
    conditions: Sequence[Condition],
    inputs: Sequence[Any],
    seed: int,
    row: int,
) -> tuple[Rows, Tensor, tuple[Any, ...]]:
    """The rows of the one function that belongs to a row of inputs, in double precision; its points and inputs.

    Raises:
        ValueError: there is no such row.
    """
    count = row_count(inputs)
    if count is not None and not -count <= row < count:
        raise ValueError(f"diagnose: expected a row of inputs from 0 to {count - 1}, got {row!r}.")
    points = sobol(domain, POINTS[min(domain.dim, 3)], seed=seed, dtype=torch.float64)
    given = repeated(matched(inputs, points), row, len(points))
    alone = [condition.alone(inputs, row) if inputs else condition for condition in conditions]
    placed = [each.placed(points) for each in alone]

    def rows(model: Model) -> list[Tensor]:
        found = [equation(model, points, *given).reshape(-1)]
        for condition, (x, own) in zip(alone, placed, strict=True):
            found.append(condition.residual(model, x, *own).reshape(-1))
        return found

    return rows, points, given


def in_double(model: Any) -> Any:
    """The model, a module as a copy in double precision, on the CPU, without random layers."""
    return copy.deepcopy(model).double().cpu().eval() if isinstance(model, nn.Module) else model


def solving_constants(rows: Rows, outputs: int, tol: float) -> list[tuple[float, ...]]:
    """Constants that satisfy all rows, found by Newton's method from several starts."""

    def residual(values: Tensor) -> Tensor:
        return torch.cat(rows(lambda x, *inputs: values.expand(len(x), outputs)))

    found: list[Tensor] = []
    for start in STARTS:
        values = torch.full((outputs,), start, dtype=torch.float64)
        for _ in range(30):
            slopes = jacfwd(residual)(values)
            step = torch.linalg.lstsq(slopes, residual(values), driver="gelsd").solution
            if not bool(step.isfinite().all()):
                break
            values = values - step
            if float(step.abs().max()) <= 1e-12 * (1 + float(values.abs().max())):
                break
        size = residual(values).abs().max()
        is_new = all(float((values - other).abs().max()) > 1e-4 for other in found)
        if bool(size <= tol) and is_new:
            found.append(values)
    return [tuple(round(float(value), 9) + 0.0 for value in values) for values in found]


def constant_sentence(values: tuple[float, ...]) -> str:
    """What a constant solution means."""
    return (
        f"the constant u ≡ {shown(values)} satisfies the equation and all conditions: training tends to find it. "
        "Add initial or boundary values, or anchors, that it violates."
    )


def shown(values: tuple[float, ...]) -> str:
    """A constant, component by component."""
    text = ", ".join(f"{value:g}" for value in values)
    return text if len(values) == 1 else f"({text})"


def unknown_parts(domain: Domain, conditions: Sequence[Condition]) -> list[str]:
    """Parts of the boundary at which nothing is known, though something could be."""
    known = {condition.part for condition in conditions if isinstance(condition, OnPart)}
    return [part for part in domain.parts if part not in known and part != "end"]


def is_data(condition: Condition) -> bool:
    """Whether these are measurements, which noise keeps from fitting, rather than points that fix a constant."""
    return isinstance(condition, Anchor) and len(condition.x) > FEW


def null_sentence(count: int, smallest: float, domain: Domain, conditions: Sequence[Condition]) -> str:
    """What functions mean that no row sees."""
    open_parts = unknown_parts(domain, conditions)
    what = (
        f"{count} function{'s' if count > 1 else ''} (to {smallest:.1g})" if count < 20 else "many functions"
    )
    if open_parts or not conditions:
        return (
            f"the problem does not determine u: {what} may be added to any solution. "
            f"Nothing is known at {', '.join(open_parts) or 'the boundary'}."
        )
    return (
        f"the problem is resonant: {what} satisfy the equation and the conditions without their right sides, so that "
        "a solution is not unique, or there is none. "
        "Put a slope in the place of a value, or a value in the place of a slope; or anchor u inside."
    )


class Basis:
    """Smooth functions, orthonormal on the domain: random waves, with those left out that the others make up."""

    def __init__(self, domain: Domain, outputs: int, seed: int) -> None:
        dim = min(domain.dim, 3)
        generator = torch.Generator().manual_seed(seed)
        count = FEATURES[dim]
        low, high = (torch.tensor(corner, dtype=torch.float64) for corner in domain.bounds)
        band = 2 * torch.rand(domain.dim, count, generator=generator, dtype=torch.float64) - 1
        self.waves = BANDWIDTH[dim] * band / (high - low)[:, None]
        self.shifts = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
        self.low, self.outputs = low, outputs
        inside = sobol(domain, 4 * count, seed=seed + 1, dtype=torch.float64)
        values = self.features(inside) / math.sqrt(len(inside))
        _, sizes, directions = torch.linalg.svd(values, full_matrices=False)
        kept = sizes > KEPT * sizes[0]
        self.mix = directions[kept].T / sizes[kept]
        self.size = outputs * self.mix.shape[1]

    def features(self, x: Any) -> Any:
        """All waves, (n, count)."""
        return torch.cos((x - self.low) @ self.waves + self.shifts)

    def model(self, coefficients: Tensor) -> Model:
        """The function with these coefficients, (size,)."""
        mixed = self.mix @ coefficients.reshape(self.outputs, -1).T
        return lambda x, *inputs: self.features(x) @ mixed


class Linear:
    """The rows of a problem over a basis, ``R c + r₀``, and its singular values.

    Args:
        rows: of the problem.
        basis: the functions.
        around: what a nonlinear problem is linearised around; ``None``: 0.
    """

    def __init__(self, rows: Rows, basis: Basis, around: Model | None = None) -> None:
        start = torch.zeros(basis.size, dtype=torch.float64)

        def weighed(coefficients: Tensor) -> tuple[Tensor, ...]:
            blocks = rows(moved(around, basis.model(coefficients)))
            return tuple(block / math.sqrt(max(len(block), 1)) for block in blocks)

        self.right = [block * math.sqrt(max(len(block), 1)) for block in weighed(start)]
        self.blocks = list(jacfwd(weighed)(start))
        self.sizes: Tensor = torch.linalg.svdvals(torch.cat(self.blocks))
        self.count: int = basis.size
        # Over a function of size 1 a nondimensional equation gives rows of size 1.
        self.smallest = float(self.sizes[-1]) if len(self.sizes) == basis.size else 0.0

    def rank(self, tol: float) -> int:
        """Directions that some row sees."""
        return int((self.sizes > tol).sum())

    def null_functions(self, tol: float) -> int:
        """Directions that none sees."""
        return self.count - self.rank(tol)

    def implied(self, tol: float, chosen: Sequence[int]) -> list[int]:
        """Conditions among the chosen blocks without which their rank is the same."""
        whole = self._rank(tol, chosen)
        without = [[other for other in chosen if other != number] for number in chosen[1:]]
        ranks = [self._rank(tol, others) for others in without]
        return [number - 1 for number, rank in zip(chosen[1:], ranks, strict=True) if rank >= whole]

    def _rank(self, tol: float, chosen: Sequence[int]) -> int:
        return int((torch.linalg.svdvals(torch.cat([self.blocks[number] for number in chosen])) > tol).sum())

    def contradiction(self, chosen: Sequence[int]) -> tuple[float, int]:
        """The largest of the chosen blocks that least squares cannot make zero, and its number."""
        lengths = [len(self.blocks[number]) for number in chosen]
        right = torch.cat([self.right[n] / math.sqrt(max(len(self.right[n]), 1)) for n in chosen])
        matrix = torch.cat([self.blocks[number] for number in chosen])
        solved = torch.linalg.lstsq(matrix, -right[:, None], rcond=1e-10, driver="gelsd").solution[:, 0]
        rest = torch.split(matrix @ solved + right, lengths)
        misses = [float(torch.linalg.vector_norm(each)) for each in rest]
        largest = max(misses)
        return largest, chosen[misses.index(largest)]


def moved(around: Model | None, step: Model) -> Model:
    """A function, and a step away from it."""
    if around is None:
        return step

    def sum_of_both(x: Tensor, *inputs: Any) -> Tensor:
        value = around(x, *inputs)
        return (value if value.ndim == 2 else value.unsqueeze(1)) + step(x)

    return sum_of_both
