"""Where a key of a TOML file stands, so that a mistake can be named with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from feasible.workbook.errors import InputError, Key

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"^\s*(\[\[?)\s*({_DOTTED})\s*\]")
_ASSIGNMENT = re.compile(rf"^\s*({_DOTTED})\s*=\s*(.*)$")


@dataclass(frozen=True)
class Origin:
    """A TOML file's name and text, and the keys that the command line has overridden."""

    file: str
    text: str = ""
    overrides: Mapping[Key, str] = field(default_factory=dict)

    def place(self, key: Key) -> tuple[str, int | None]:
        """The file (or option) and the line of the key, or of the nearest table that holds it."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.overrides:
                return f"--set {self.overrides[key[:length]]}", None
        lines = dict(reversed(list(_keys(self.text))))
        for length in range(len(key), 0, -1):
            if key[:length] in lines:
                return self.file, lines[key[:length]]
        return self.file, None

    @contextmanager
    def placing(self, *prefix: str | int) -> Iterator[None]:
        """Give every ``InputError`` of this block, whose key is seen from ``prefix``, its file and line."""
        try:
            yield
        except InputError as error:
            if error.file is not None:
                raise
            raise InputError(
                error.message, *self.place(prefix + error.key), key=prefix + error.key
            ) from error


def _keys(text: str) -> Iterator[tuple[Key, int]]:
    """All keys of a TOML text with their lines, tables included; multi-line strings are passed over."""
    table: Key = ()
    counts: dict[Key, int] = {}
    closing: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if closing is not None:
            closing = None if closing in line else closing
            continue
        if header := _HEADER.match(line):
            table = _resolve(_parts(header[2]), counts, is_array=header[1] == "[[")
            yield from _prefixes(table, 0, number)
        elif assignment := _ASSIGNMENT.match(line):
            yield from _prefixes(table + _parts(assignment[1]), len(table), number)
            opening = re.match(r'"""|' + "'''", assignment[2])
            if opening and opening[0] not in assignment[2][3:]:
                closing = opening[0]


def _prefixes(key: Key, start: int, number: int) -> Iterator[tuple[Key, int]]:
    for length in range(start + 1, len(key) + 1):
        yield key[:length], number


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))


def _resolve(parts: tuple[str, ...], counts: dict[Key, int], is_array: bool) -> Key:
    """The table's key with the index of every array of tables on its way."""
    key: Key = ()
    for part in parts[:-1]:
        key = (*key, part)
        if key in counts:
            key = (*key, counts[key])
    key = (*key, parts[-1])
    if is_array:
        counts[key] = counts.get(key, -1) + 1
        key = (*key, counts[key])
    return key
