"""Sets and methods are values: equal by content, printable, copyable, unchangeable."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any


def expect_a_value(thing: Any) -> None:
    """Copies are equal with equal hashes, other things are not; the fields cannot be changed."""
    copies: dict[str, Callable[[], Any]] = {
        "a deep copy": lambda: copy.deepcopy(thing),
        "a copy": lambda: copy.copy(thing),
        "what comes back from a pickle": lambda: pickle.loads(pickle.dumps(thing)),
        "dataclasses.replace": lambda: dataclasses.replace(thing),
    }
    for how, make in copies.items():
        twin = _attempt(thing, how, make)
        if not _attempt(thing, f"a comparison with {how}", partial(_alike, twin, thing)):
            raise AssertionError(f"{thing!r}: {how} is not equal to it.")
        if repr(twin) != repr(thing):
            raise AssertionError(f"{thing!r}: {how} prints as {twin!r}.")
    if thing == object() or thing == type(thing).__name__:
        raise AssertionError(f"{thing!r} is equal to something of another kind.")
    for field in dataclasses.fields(thing):
        try:
            setattr(thing, field.name, None)
        except dataclasses.FrozenInstanceError:
            continue
        raise AssertionError(f"{thing!r}: its field {field.name} can be changed.")


def expect_repr_makes_it(thing: Any, names: Mapping[str, Any]) -> None:
    """``repr`` names the class, and makes an equal thing where no tensor or function is in it."""
    shown = repr(thing)
    if not shown or "object at 0x" in shown:
        raise AssertionError(f"A {type(thing).__name__} prints as {shown!r}.")
    if "tensor(" in shown or "<" in shown:
        return
    made = _attempt(
        thing, "what its repr makes", lambda: eval(shown, {**names, type(thing).__name__: type(thing)})
    )
    if made != thing:
        raise AssertionError(f"{shown} makes something else, {made!r}.")


def _alike(twin: Any, thing: Any) -> bool:
    return bool(twin == thing and hash(twin) == hash(thing)) and not bool(twin != thing)


def _attempt(thing: Any, what: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:
        raise AssertionError(f"{thing!r}: {what} cannot be had: {error}") from error
