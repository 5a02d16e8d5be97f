"""From text to a sympy expression, by a whitelist: the text's syntax tree is walked, never executed."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from feasible.methods.lookup import closest, listing

COORDINATES = ("x", "y", "z", "t")
NUMBERS = {"pi": math.pi, "E": math.e}
KNOWN = ("sin", "cos", "tan", "exp", "log", "sqrt", "sinh", "cosh", "tanh", "asin", "acos", "atan")
LONGEST, HIGHEST_POWER, HIGHEST_ORDER = 2000, 16, 8


class Unknown(NamedTuple):
    """A component of u, and by which coordinates it is differentiated."""

    name: str
    letters: str

    def __str__(self) -> str:
        return f"{self.name}_{self.letters}" if self.letters else self.name


@dataclass(frozen=True)
class Parsed:
    """An expression and what occurs in it."""

    expression: Any
    unknowns: tuple[Unknown, ...]
    names: frozenset[str]
    """Coefficients and coordinates."""
    is_linear: bool
    factors: tuple[Any, ...]
    """What the derivatives of u are multiplied by."""


def sympy() -> Any:
    """The package.

    Raises:
        ImportError: it is missing; the message says how to get it.
    """
    try:
        import sympy
    except ImportError as error:
        raise ImportError('equation: needs sympy. Install it with: pip install "feasible[pde]"') from error
    return sympy


def parse(
    text: str, unknowns: tuple[str, ...], names: Sequence[str] | None, coefficients: tuple[str, ...]
) -> Parsed:
    """Read one equation.

    Raises:
        ValueError: it is no formula, or holds a name that is not known.
    """
    algebra = sympy()
    check_names(unknowns, names, coefficients)
    reader = Reader(text, algebra, unknowns, tuple(names) if names is not None else COORDINATES, coefficients)
    expression = reader.read()
    jets = {algebra.Symbol(str(unknown)): unknown for unknown in reader.unknowns}
    if not jets:
        raise ValueError(f"equation: {text!r} holds no unknown; the unknowns are {listing(unknowns)}.")
    slopes = [algebra.diff(expression, symbol) for symbol in jets]
    return Parsed(
        expression=expression,
        unknowns=tuple(sorted(reader.unknowns)),
        names=frozenset(reader.names),
        is_linear=not any(slope.free_symbols & jets.keys() for slope in slopes),
        factors=tuple(slope for slope in slopes if not slope.free_symbols & jets.keys()),
    )


def check_names(
    unknowns: tuple[str, ...], names: Sequence[str] | None, coefficients: tuple[str, ...]
) -> None:
    """Raise where a name means two things.

    Raises:
        ValueError: it does, or is no name.
    """
    columns = COORDINATES if names is None else tuple(names)
    taken: dict[str, str] = {}
    groups = {"an unknown": unknowns, "a coefficient": coefficients, "a column of x": columns}
    groups["a function"] = (*KNOWN, *NUMBERS)
    for kind, group in groups.items():
        for name in group:
            if not isinstance(name, str) or not name.isidentifier() or ("_" in name and kind == "an unknown"):
                raise ValueError(f"equation: {name!r} cannot be the name of {kind}.")
            if name in taken:
                raise ValueError(f"equation: {name!r} is the name of {taken[name]} and of {kind}.")
            taken[name] = kind
    if any(len(name) != 1 for name in columns):
        raise ValueError(f"equation: columns of x have names of one letter, got {', '.join(columns)}.")


class Reader:
    """Walks the syntax tree of one equation."""

    def __init__(
        self,
        text: str,
        algebra: Any,
        unknowns: tuple[str, ...],
        columns: tuple[str, ...],
        coefficients: tuple[str, ...],
    ) -> None:
        self.text, self.algebra = text, algebra
        self.components, self.columns, self.coefficients = unknowns, columns, coefficients
        self.unknowns: set[Unknown] = set()
        self.names: set[str] = set()

    def read(self) -> Any:
        """The whole text."""
        if not isinstance(self.text, str) or len(self.text) > LONGEST:
            raise ValueError(f"equation: expected a string of at most {LONGEST} characters.")
        sides = self.text.split("=")
        if len(sides) > 2:
            raise ValueError(f"equation: {self.text!r} has more than one “=”.")
        left, *right = (self.side(side) for side in sides)
        return left - right[0] if right else left

    def side(self, text: str) -> Any:
        """One side of it."""
        try:
            tree = ast.parse(text.strip(), mode="eval")
            return self.walk(tree.body)
        except (SyntaxError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else f"{error}" or "it is nested too deeply"
            raise ValueError(
                f"equation: {self.text!r} is no formula: {reason}.\n"
                "  Write out products and powers, 2*u and k**2*u, and derivatives as u_xx."
            ) from None
        except (OverflowError, ZeroDivisionError) as error:
            raise ValueError(f"equation: a number in {self.text!r} cannot be computed: {error}.") from None

    def walk(self, node: ast.AST) -> Any:
        """One node."""
        match node:
            case ast.Constant(value=value) if type(value) in (int, float):
                return self.algebra.Integer(value) if type(value) is int else self.algebra.Float(value)
            case ast.Name(id=name):
                return self.name(name)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                inner = self.walk(operand)
                return -inner if isinstance(sign, ast.USub) else inner
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self.power(self.walk(left), self.walk(right))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return OPERATORS[type(op)](self.walk(left), self.walk(right))
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in KNOWN:
                return getattr(self.algebra, name)(self.walk(argument))
            case ast.Call(func=ast.Name(id=name)):
                known = f"The functions are {', '.join(KNOWN)}, of one argument each."
                raise ValueError(
                    f"equation: {name}(…) in {self.text!r} is not known.{closest(name, KNOWN)}\n  {known}"
                )
        raise ValueError(
            f"equation: {ast.unparse(node)!r} in {self.text!r} is not part of a formula.\n"
            "  Use numbers, names, + − * / **, parentheses, functions such as sin(x) and derivatives such as u_xx."
        )

    def power(self, base: Any, exponent: Any) -> Any:
        """Powers, of a size that can be computed."""
        if exponent.is_number and not abs(exponent) <= HIGHEST_POWER:
            raise ValueError(f"equation: the power {exponent} in {self.text!r} is beyond {HIGHEST_POWER}.")
        if base.is_number and exponent.is_number:
            value = float(base) ** float(exponent)
            if isinstance(value, complex):
                raise ValueError(f"equation: {base}**{exponent} in {self.text!r} is not real.")
            return self.algebra.Float(value)
        return base**exponent

    def name(self, name: str) -> Any:
        """A number, a coordinate, a coefficient, or the unknown with its derivatives."""
        if name in NUMBERS:
            return self.algebra.Float(NUMBERS[name])
        if name in self.coefficients or name in self.columns:
            self.names.add(name)
            return self.algebra.Symbol(name)
        component, _, letters = name.partition("_")
        is_unknown = component in self.components and all(letter in self.columns for letter in letters)
        if not is_unknown or ("_" in name and not letters) or len(letters) > HIGHEST_ORDER:
            raise ValueError(self.unknown(name))
        unknown = Unknown(component, "".join(sorted(letters, key=self.columns.index)))
        self.unknowns.add(unknown)
        return self.algebra.Symbol(str(unknown))

    def unknown(self, name: str) -> str:
        """The sentence about a name that means nothing."""
        derivatives = [f"{u}_{a}" for u in self.components for a in self.columns]
        second = [slope + a for slope in derivatives for a in self.columns]
        every = (*self.components, *derivatives, *second)
        mend = "" if "_" in name else f"\n  A coefficient is handed in: equation(…, {name}=2.0)."
        known = (*every, *self.coefficients, *self.columns, *NUMBERS, *KNOWN)
        return (
            f"equation: {name!r} in {self.text!r} is not known.{closest(name, known)}\n"
            f"  Unknowns: {', '.join(self.components)}, with derivatives such as {derivatives[0]}; columns of x: "
            f"{', '.join(self.columns)}; coefficients handed in: {', '.join(self.coefficients) or 'none'}."
            f"{mend}"
        )


OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: divided(a, b),
}


def divided(a: Any, b: Any) -> Any:
    """A quotient.

    Raises:
        ZeroDivisionError: b is the number 0.
    """
    if b.is_zero:
        raise ZeroDivisionError("division by zero")
    return a / b


def pythonic(number: Any) -> int | float:
    """A number of sympy's as Python's."""
    return int(number) if number.is_Integer else float(number)
