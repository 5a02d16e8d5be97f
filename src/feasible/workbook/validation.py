"""From raw TOML to a table, or one clear sentence about the first mistake in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from feasible.workbook.errors import InputError, Key, closest

T = TypeVar("T", bound=BaseModel)


def validate(model: type[T], raw: Mapping[str, Any]) -> T:
    """A table from raw TOML; the first mistake as an ``InputError`` with its key.

    >>> from feasible.workbook.tables import BudgetTable
    >>> validate(BudgetTable, {"epochs": 0})
    Traceback (most recent call last):
    feasible.workbook.errors.InputError: epochs must be at least 1, got 0.
    """
    try:
        return model.model_validate(dict(raw))
    except ValidationError as error:
        raise _first_mistake(error.errors(), raw, model) from None


_EXPECTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "finite_number": "a finite number",
}


def _first_mistake(
    errors: Sequence[ErrorDetails], raw: Mapping[str, Any], model: type[BaseModel]
) -> InputError:
    first = max(errors, key=lambda error: _telling(raw, error))
    key = _walk(raw, first["loc"], first["type"])
    name = _dotted(key)
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, key[:-1])
        return InputError(f'unknown key "{key[-1]}".{closest(key[-1], known)}', key=key)
    if first["type"] == "missing":
        return InputError(f'the key "{name}" is missing.', key=key)
    if first["type"] in ("one_target", "complement", "activations", "search"):
        return InputError(f"{first['msg']}.", key=key)
    same = [error for error in errors if _walk(raw, error["loc"], error["type"]) == key]
    expected = " or ".join(dict.fromkeys(_expectation(error) for error in same))
    hint = ""
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        hint = closest(first["input"], re.findall(r"'([^']*)'", first["ctx"]["expected"]))
        hint = hint if hint.startswith(" Closest") else ""
    return InputError(f"{name} must be {expected}, got {_shown(first['input'])}.{hint}", key=key)


def _telling(raw: Mapping[str, Any], error: ErrorDetails) -> tuple[int, bool]:
    """Deeper mistakes say more, and an unknown key may explain a missing one."""
    return len(_walk(raw, error["loc"], error["type"])), error["type"] == "extra_forbidden"


def _expectation(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    bounds = {"greater_than_equal": ("at least", "ge"), "greater_than": ("greater than", "gt")}
    bounds |= {"less_than_equal": ("at most", "le"), "less_than": ("less than", "lt")}
    if error["type"] in bounds:
        words, bound = bounds[error["type"]]
        return f"{words} {context[bound]:g}"
    if error["type"] == "literal_error":
        return str(context["expected"]).replace("'", '"')
    if error["type"] == "too_short":
        return "a list that is not empty"
    return _EXPECTED.get(error["type"], error["msg"])


def _walk(raw: Any, location: Key, kind: str) -> Key:
    """The part of pydantic's location that are keys of the file, without its names of union branches."""
    key: Key = ()
    for index, part in enumerate(location):
        is_last = index == len(location) - 1
        if _holds(raw, part):
            raw = raw[part]
        elif not (is_last and kind in ("missing", "extra_forbidden")):
            continue
        key = (*key, part)
    return key


def _holds(raw: Any, part: str | int) -> bool:
    if isinstance(raw, Mapping):
        return part in raw
    return isinstance(part, int) and isinstance(raw, (list, tuple)) and part < len(raw)


def _known_keys(model: type[BaseModel], key: Key) -> list[str]:
    """The keys of the table that stands at ``key`` below a table of this model."""
    for part in key:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        nested = next(iter(_models_in(field.annotation)), None) if field is not None else None
        if nested is not None:
            model = nested
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _models_in(part)]


def _dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)


def _shown(value: Any) -> str:
    if isinstance(value, (str, bool)):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)
