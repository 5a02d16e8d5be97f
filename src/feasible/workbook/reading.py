"""Raw TOML from a file, with the keys that the command line overrides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from feasible.workbook.errors import InputError, Key, closest
from feasible.workbook.origin import Origin


def read_toml(path: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], Origin]:
    """The raw tables of a TOML file with the overrides applied, and where each key stands.

    Args:
        path: the file.
        overrides: ``"dotted.key=value"``, the values as TOML writes them; a text needs no quotes.

    Raises:
        InputError: the file cannot be read, or is not TOML, or an override does not fit it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = closest(path.name, [found.name for found in path.parent.glob("*.toml")])
        raise InputError("the file does not exist." + near, str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise InputError(f"the file cannot be read: {reason}.", str(path)) from None
    try:
        raw = tomlkit.parse(text).unwrap()
    except TOMLKitError as error:
        reason = re.sub(r" at line \d+ col \d+$", "", str(error))
        raise InputError(f"this is not TOML: {reason}.", str(path), getattr(error, "line", None)) from None
    keys = {_apply(raw, override): override for override in overrides}
    return raw, Origin(str(path), text, keys)


def _apply(raw: dict[str, Any], override: str) -> Key:
    """Set one dotted key; returns it."""
    dotted, equals, text = override.partition("=")
    parts = [part.strip() for part in dotted.split(".")]
    if not equals or not all(parts):
        raise InputError(f'"{override}" is not of the form key=value, such as budget.epochs=10.', "--set")
    place = f"--set {override}"
    key: Key = ()
    table: Any = raw
    for part in parts[:-1]:
        step = _step(table, part, place)
        table = table.setdefault(step, {}) if isinstance(table, dict) else table[step]
        key = (*key, step)
    last = _step(table, parts[-1], place)
    table[last] = _value(text.strip())
    return (*key, last)


def _step(table: Any, part: str, place: str) -> str | int:
    """The key of a table as it is written, the index of an array of tables as a number."""
    if isinstance(table, dict):
        return part
    if not isinstance(table, list):
        raise InputError(f'"{part}" would stand inside a value, which is not a table.', place)
    if not (part.isdecimal() and int(part) < len(table)):
        raise InputError(f'"{part}" is not one of the indices 0 to {len(table) - 1}.', place)
    return int(part)


def _value(text: str) -> Any:
    try:
        return tomlkit.value(text).unwrap()
    except (TOMLKitError, ValueError):
        return text
