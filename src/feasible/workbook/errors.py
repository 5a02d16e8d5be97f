"""The one error that a user of the workbook can cause: bad input, with the place where it stands."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Key = tuple[str | int, ...]
"""Where a value stands in a TOML file: ``("constraints", 0, "set", "lower")``."""


class InputError(ValueError):
    """Bad input in one clear sentence, and where it stands.

    Args:
        message: what was expected, what came, what would mend it.
        file: the file, or the command line option, that holds the mistake.
        line: its line in the file, counted from 1.
        key: the key within the file; ``inside`` and ``Origin.placing`` turn it into a file and a line.

    >>> print(InputError('column "prise" is not in sales.csv.', "own.toml", 7))
    own.toml, line 7: column "prise" is not in sales.csv.
    """

    def __init__(
        self, message: str, file: str | None = None, line: int | None = None, *, key: Key = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.key = key

    def __str__(self) -> str:
        if self.file is None:
            return self.message
        place = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{place}: {self.message}"


@contextmanager
def inside(*prefix: str | int) -> Iterator[None]:
    """Keys of the block's ``InputError`` are seen from the table that holds ``prefix``."""
    try:
        yield
    except InputError as error:
        if error.file is not None:
            raise
        raise InputError(error.message, key=prefix + error.key) from error


def closest(word: Any, known: Iterable[str]) -> str:
    """``' Closest: "price".'`` where a known word is near, else all known words.

    >>> closest("prise", ["price", "rooms"])
    ' Closest: "price".'
    """
    known = [str(name) for name in known]
    near = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    if not near:
        folded = {name.casefold(): name for name in known}
        near = [
            folded[name] for name in difflib.get_close_matches(str(word).casefold(), folded, n=1, cutoff=0.6)
        ]
    if near:
        return f' Closest: "{near[0]}".'
    shown = ", ".join(known[:12]) + (f", … ({len(known)} in all)" if len(known) > 12 else "")
    return f" Known: {shown}." if known else ""
