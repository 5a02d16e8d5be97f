"""Equations written as text: ``"u_xx + u_yy + k**2*u - f"``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor

from feasible.methods.lookup import listing
from feasible.pde.differentiation import Derivatives, Wanted
from feasible.pde.equations.base import Coefficient, Equation
from feasible.pde.equations.parsing import COORDINATES, parse, pythonic

__all__ = ["WrittenEquation", "equation"]

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    name: getattr(torch, name)
    for name in ("sin", "cos", "tan", "exp", "log", "sinh", "cosh", "tanh", "asin", "acos", "atan")
}


def equation(
    text: str | Sequence[str],
    *,
    unknowns: Sequence[str] = ("u",),
    names: Sequence[str] | None = None,
    scale: float | Sequence[float] | None = None,
    **coefficients: Coefficient,
) -> WrittenEquation:
    """An equation, or a system of them, from text.

    ``u_xx`` is a derivative, ``x``, ``y``, ``z``, ``t`` are coordinates, ``sin``, ``cos``, ``exp``, … functions,
    ``pi`` and ``E`` numbers; every other name is a coefficient that is handed in. ``a = b`` means ``a − b``. The text
    is read as a formula by a grammar of its own: nothing in it is ever executed.

    Args:
        text: one equation, or one string for each.
        unknowns: the names of the model's outputs, in order.
        names: the columns of x; ``None``: those of x, y, z, t that occur, in this order.
        scale: what each residual is divided by; ``None``: the largest number among the coefficients of its terms
            in u, and 1 where there is none.
        coefficients: numbers, tensors (parameters too; one number or one for each sample) or functions of
            ``(x, *inputs)``.

    Raises:
        ValueError: the text is no formula, or a name in it is not known; the message says what is closest.
        ImportError: sympy is missing.

    >>> x = torch.rand(5, 2, dtype=torch.float64)
    >>> membrane = equation("u_xx + u_yy + k**2*u - f", k=3.0, f=lambda x: x[:, 0])
    >>> membrane.order, membrane.linear, membrane.names, membrane.scale(x)
    (2, True, ('x', 'y'), 9.0)
    >>> bool(membrane(lambda x: x[:, :1] / 9, x).abs().max() < 1e-15)
    True
    """
    if not isinstance(text, Iterable):
        raise TypeError(f"equation: expected a text, or several, got {type(text).__name__}.")
    texts = (text,) if isinstance(text, str) else tuple(text)
    if not texts:
        raise ValueError("equation: expected at least one equation, got none.")
    parsed = [parse(each, tuple(unknowns), names, tuple(coefficients)) for each in texts]
    factors = (scale,) * len(texts) if scale is None or isinstance(scale, (int, float)) else tuple(scale)
    if len(factors) != len(texts) or any(each is not None and not 0 < each < math.inf for each in factors):
        raise ValueError(
            f"equation: scale must be a positive number, or one for each of {len(texts)} equations, got {scale!r}."
        )
    used = {name for expression in parsed for name in expression.names}
    unused = [name for name in coefficients if name not in used]
    if unused:
        raise ValueError(
            f"equation: {listing(map(repr, unused))} does not occur in {' and '.join(map(repr, texts))}."
        )
    for name, given in coefficients.items():
        if isinstance(given, str):
            raise TypeError(
                f"equation: {name} must be a number, a tensor or a function of x, got the text {given!r}.\n"
                "  Write it into the equation, or hand in a function such as torch.sin."
            )
    if names is None:
        columns = {letter for e in parsed for unknown in e.unknowns for letter in unknown.letters}
        columns |= used & set(COORDINATES)
        names = tuple(letter for letter in COORDINATES if letter in columns)
    return WrittenEquation(texts, parsed, tuple(unknowns), tuple(names), factors, coefficients)


@final
class WrittenEquation(Equation):
    """What ``equation`` makes of its text."""

    def __init__(
        self,
        texts: tuple[str, ...],
        parsed: Sequence[Any],
        unknowns: tuple[str, ...],
        names: tuple[str, ...],
        factors: tuple[float | None, ...],
        coefficients: Mapping[str, Coefficient],
    ) -> None:
        self.texts, self.unknowns, self.names = texts, unknowns, names
        self.coefficients = dict(coefficients)
        self._parsed, self._factors = list(parsed), factors
        self.order = max((len(u.letters) for e in parsed for u in e.unknowns), default=0)  # type: ignore[misc]
        self.linear = all(each.is_linear for each in parsed)  # type: ignore[misc]
        self.outputs = len(unknowns)

    def __repr__(self) -> str:
        return f"equation({', '.join(map(repr, self.texts))}, on {', '.join(self.names)})"

    @property
    def name(self) -> str:
        """The text."""
        return f"equation {' and '.join(map(repr, self.texts))}"

    @cached_property
    def _columns(self) -> list[tuple[int, ...]]:
        found = {u.letters for each in self._parsed for u in each.unknowns}
        return sorted(tuple(sorted(self.names.index(letter) for letter in letters)) for letters in found)

    def wanted(self, dim: int) -> Sequence[Wanted]:
        """The derivatives that occur."""
        if dim != len(self.names):
            raise ValueError(
                f"{self.name}: expected x with the columns {', '.join(self.names)}, got {dim}. "
                "Say which they are with names=."
            )
        return ((), *self._columns)

    def raw(self, u: Derivatives, x: Tensor, *inputs: Any) -> Tensor:
        """What is written, (n, equations)."""
        values = self._values(x, inputs)
        for each in self._parsed:
            for unknown in each.unknowns:
                part = u.partial([self.names.index(letter) for letter in unknown.letters])
                component = self.unknowns.index(unknown.name)
                values[str(unknown)] = part[:, component : component + 1]
        rows = [evaluate(each.expression, values, x) for each in self._parsed]
        return torch.cat([row.expand(len(x), 1) for row in rows], 1)

    def scale(self, x: Tensor, *inputs: Any) -> Tensor | float:
        """What was given, or the largest coefficient of each equation."""
        values = {
            name: value.detach() if isinstance(value, Tensor) else value
            for name, value in self._values(x, inputs).items()
        }
        sizes = [
            self._largest(each, values, x) if factor is None else factor
            for each, factor in zip(self._parsed, self._factors, strict=True)
        ]
        return sizes[0] if len(sizes) == 1 else torch.tensor([sizes], dtype=x.dtype, device=x.device)

    def _values(self, x: Tensor, inputs: Sequence[Any]) -> dict[str, Any]:
        values: dict[str, Any] = {name: x[:, i : i + 1] for i, name in enumerate(self.names)}
        for name, given in self.coefficients.items():
            values[name] = self.coefficient(name, given, x, inputs)
        return values

    def _largest(self, parsed: Any, values: Mapping[str, Any], x: Tensor) -> float:
        """The largest coefficient of the terms in u, among those that are one number everywhere."""
        numbers = {n: v for n, v in values.items() if not isinstance(v, Tensor) or v.dim() == 0}
        sizes = [
            float(torch.as_tensor(evaluate(term, numbers, x)).abs().max())
            for term in parsed.factors
            if all(str(symbol) in numbers for symbol in term.free_symbols)
        ]
        largest = max(sizes, default=1.0)
        return largest if 0 < largest < math.inf else 1.0


def evaluate(expression: Any, values: Mapping[str, Any], like: Tensor) -> Tensor:
    """The value of an expression, term by term, in torch."""
    if expression.is_Symbol:
        return torch.as_tensor(values[str(expression)], dtype=like.dtype, device=like.device)
    if expression.is_number:
        return torch.as_tensor(pythonic(expression), dtype=like.dtype, device=like.device)
    parts = [evaluate(each, values, like) for each in expression.args]
    if expression.is_Add:
        return sum(parts[1:], start=parts[0])
    if expression.is_Mul:
        return math.prod(parts[1:], start=parts[0])
    if expression.is_Pow:
        exponent = expression.args[1]
        return parts[0] ** (pythonic(exponent) if exponent.is_number else parts[1])
    return FUNCTIONS[type(expression).__name__](*parts)
