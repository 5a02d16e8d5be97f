"""The conformance suite for methods."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from feasible.methods.method import Method
from feasible.sets import Set
from feasible.testing import lifecycles, specifications, terms, trainings
from feasible.testing.check_set import checks_of
from feasible.testing.trial import EXAMPLE_SETS, MethodSubject

Check = Callable[[MethodSubject], None]

METHOD_CHECKS: dict[str, Check] = checks_of(specifications, terms, trainings, lifecycles)
"""Every check by its name; each takes a ``MethodSubject`` and raises an ``AssertionError`` with a sentence."""


def check_method(
    method: Method, sets: Sequence[Set] = EXAMPLE_SETS, *, skip: Collection[str] = (), **claims: Any
) -> None:
    """Run everything that a method must satisfy, mostly in small trainings.

    Args:
        method: the method.
        sets: sets that hold tensors of shape (2, 3). What the method serves is tried, and the others must
            be refused.
        skip: names of checks (keys of ``METHOD_CHECKS``) that do not apply.
        **claims: what else is known, see ``MethodSubject``: ``smooth``, ``holds``, ``solves``, …

    Raises:
        AssertionError: the method breaks a rule; the message says which, on what set.
        ValueError: ``skip`` names no check.

    >>> from feasible import Box, Penalty, Simplex
    >>> check_method(Penalty(2.0), [Box(-1, 1), Simplex()])
    """
    unknown = [name for name in skip if name not in METHOD_CHECKS]
    if unknown:
        raise ValueError(
            f"check_method: skip names no check: {unknown}. There are: {', '.join(METHOD_CHECKS)}."
        )
    subject = MethodSubject(method, tuple(sets), **claims)
    for name, check in METHOD_CHECKS.items():
        if name not in skip:
            check(subject)
