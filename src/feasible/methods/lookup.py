"""Weights by their names: what a pattern means, and what to say where it means nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from feasible.methods.slot import Slot


def find_weights(slots: Mapping[str, Slot], pattern: str, caller: str) -> list[Slot]:
    """The weights whose name, or one of their other names, matches the glob.

    Raises:
        ValueError: there are none, or the pattern is no string.
    """
    if not isinstance(pattern, str):
        raise ValueError(
            f'{caller}: expected a weight\'s name as a string such as "head.weight", got {pattern!r}.'
        )
    found = [
        slot
        for slot in slots.values()
        if any(fnmatchcase(known, pattern) for known in (slot.name, *slot.aliases))
    ]
    if not found:
        raise ValueError(
            f"{caller}: {pattern!r} matches no parameter of the model.{closest(pattern, slots)}\n"
            f"  The model has: {listing(slots)}"
        )
    return found


def listing(names: Iterable[str], most: int = 30) -> str:
    """Names in a row, cut where they would fill a screen."""
    names = list(names)
    rest = f", … and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def closest(wanted: str, names: Iterable[str]) -> str:
    """``Closest: …`` where a name resembles the wanted one, or has it in it."""
    names = list(names)
    part = wanted.strip("*")
    found = difflib.get_close_matches(wanted, names, n=1) or [name for name in names if part and part in name]
    return f" Closest: {found[0]!r}." if found else ""
