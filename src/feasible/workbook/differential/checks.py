"""Arguments of problems, networks and ways that make no sense, told before anything runs."""

from __future__ import annotations

import math
from typing import Any

from feasible.workbook.errors import InputError, closest


def at_least(specification: object, **least: float) -> None:
    """Raise where a number, or one of several, is too small; ``None`` is none.

    Raises:
        InputError: it is; its key is seen from the specification's table.

    >>> from types import SimpleNamespace
    >>> at_least(SimpleNamespace(points=-3), points=1)
    Traceback (most recent call last):
    feasible.workbook.errors.InputError: points must be at least 1, got -3.
    """
    for name, smallest in least.items():
        _check(specification, name, f"at least {smallest:g}", lambda n, least=smallest: n >= least)


def above_zero(specification: object, *names: str) -> None:
    """Raise where a number, or one of several, is not positive; ``None`` is none.

    Raises:
        InputError: it is not.
    """
    for name in names:
        _check(specification, name, "positive", lambda n: n > 0)


def one_of(specification: object, name: str, known: tuple[str, ...]) -> None:
    """Raise where a word is none of those that are known.

    Raises:
        InputError: it is not.
    """
    word = getattr(specification, name)
    if word not in known:
        raise InputError(f'unknown {name} "{word}".{closest(word, known)}', key=(name,))


def _check(specification: object, name: str, wanted: str, holds: Any) -> None:
    given = getattr(specification, name)
    for number in given if isinstance(given, tuple) else (given,):
        if number is not None and not (math.isfinite(number) and holds(number)):
            raise InputError(f"{name} must be {wanted}, got {number}.", key=(name,))
