"""The conformance suite for sets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from inspect import isfunction
from types import ModuleType
from typing import Any

from feasible.sets import Set
from feasible.testing import charts, cones, derivatives, identity, interiors, measures, projections, tracing
from feasible.testing.subject import SetSubject

Check = Callable[[SetSubject], None]


def checks_of(*modules: ModuleType) -> dict[str, Callable[[Any], None]]:
    """The public functions that the modules define themselves, in their order."""
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if not name.startswith("_") and isfunction(value) and value.__module__ == module.__name__
    }


SET_CHECKS: dict[str, Check] = checks_of(
    projections, measures, identity, derivatives, tracing, interiors, cones, charts
)
"""Every check by its name; each takes a ``SetSubject`` and raises an ``AssertionError`` with a sentence."""


def check_set(
    set: Set, shapes: Sequence[tuple[int, ...]], *, skip: Collection[str] = (), **claims: Any
) -> None:
    """Run everything that a set must satisfy.

    Args:
        set: the set.
        shapes: tensor shapes that it accepts, the most telling one first.
        skip: names of checks (keys of ``SET_CHECKS``) that do not apply.
        **claims: what else is known, see ``SetSubject``: ``reference``, ``charts``, ``affine``, …

    Raises:
        AssertionError: the set breaks a rule; the message says which, at what input.
        ValueError: ``skip`` names no check.

    >>> from feasible import Box
    >>> check_set(Box(-1, 1), [(3,)], skip=["compiled_projection_agrees"])
    """
    unknown = [name for name in skip if name not in SET_CHECKS]
    if unknown:
        raise ValueError(f"check_set: skip names no check: {unknown}. There are: {', '.join(SET_CHECKS)}.")
    subject = SetSubject(set, tuple(tuple(shape) for shape in shapes), **claims)
    for name, check in SET_CHECKS.items():
        if name not in skip:
            check(subject)
