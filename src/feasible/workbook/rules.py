"""Sets, methods and schedules from TOML: each is found by its public name, its arguments are its fields."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from feasible import methods, schedules, sets
from feasible.methods import Method
from feasible.schedules import Schedule
from feasible.sets import Set
from feasible.workbook.errors import InputError, closest, inside
from feasible.workbook.tables import ConstraintTable, Named, RateTable

T = TypeVar("T")


class Timed(NamedTuple):
    """A method as a TOML file gives it."""

    method: Method
    share: float | None = None
    """Which part of the training its ``steps`` are, where they were given as a share."""


@dataclass(frozen=True)
class Rule:
    """A constraint: the set, and the weights, the computed value or the rate that must be in it."""

    name: str
    set: Set
    weights: str | None = None
    value: str | None = None
    rate: RateTable | None = None
    exclude: tuple[str, ...] = ()
    per: Literal["value", "sample", "index"] = "sample"
    tolerance: float | None = None
    average: float | None = None
    by: Method | None = None
    """How it is enforced; ``None``: it is only measured."""
    share: float | None = None
    """Which part of the training the method's ``steps`` are, where they were given as a share."""

    def method(self, steps: int) -> Method | None:
        """The method for a training of so many steps."""
        if self.by is None or self.share is None:
            return self.by
        own: Any = {"steps": max(1, round(self.share * steps))}
        return dataclasses.replace(self.by, **own)

    @property
    def is_one_value(self) -> bool:
        """Whether it speaks of one value of all rows, an expectation or a rate."""
        return self.rate is not None or self.value == "expectation"


def parse_rule(table: ConstraintTable, by: Timed | None = None) -> Rule:
    """The rule that a ``[[constraints]]`` table describes."""
    with inside("set"):
        bound = parse_set(table.set)
    if table.mask is not None:
        with inside("mask"):
            bound = _masked(bound, table.mask)
    per = table.per if table.value == "prediction" else "value"  # of all rows together
    return Rule(
        table.title,
        bound,
        table.weights,
        table.value,
        table.rate,
        table.exclude,
        per,
        table.tolerance,
        table.average,
        *(by or (None, None)),
    )


def _masked(bound: Set, mask: tuple[Any, ...]) -> Set:
    """The set on the entries that the mask picks."""
    try:
        picked = torch.tensor(mask)
        if picked.dtype is not torch.bool:
            raise ValueError(f"mask must be lists of true and false, got {mask[0]!r} in it.")
        return bound.where(picked)
    except (TypeError, ValueError) as error:
        raise InputError(" ".join(str(error).split())) from error


def parse_set(table: Named) -> Set:
    """A set from its name, or from a table of its name and arguments.

    >>> parse_set({"name": "Box", "lower": -1.0, "upper": 1.0})
    Box(lower=-1, upper=1)
    >>> parse_set("NonNegativ")
    Traceback (most recent call last):
    feasible.workbook.errors.InputError: unknown set "NonNegativ". Closest: "NonNegative".
    """
    return build("set", set_classes(), table)


def parse_method(table: Named) -> Method:
    """A method from its name, or from a table of its name and arguments; a schedule is such a table too.

    >>> parse_method({"name": "Penalty", "weight": {"name": "Constant", "value": 2.0}}).weight
    Constant(value=2.0)
    """
    return build("method", method_classes(), table)


def parse_timed(table: Named) -> Timed:
    """A method, and the share of the training that its steps are, where they are a number between 0 and 1.

    >>> parse_timed({"name": "ProximalAnneal", "steps": 0.75}).share
    0.75
    """
    steps = table.get("steps") if isinstance(table, dict) else None
    if not (isinstance(steps, float) and isinstance(table, dict) and 0 < steps <= 1):
        return Timed(parse_method(table))
    return Timed(parse_method({**table, "steps": 1}), steps)


def set_classes() -> dict[str, type[Set]]:
    """All sets by their public names, without those that are made from other sets."""
    found = _public(sets, Set)  # type: ignore[type-abstract]
    return {name: cls for name, cls in found.items() if not _takes(cls, Set)}


def method_classes() -> dict[str, type[Method]]:
    """All methods by their public names."""
    return _public(methods, Method)


def schedule_classes() -> dict[str, type[Any]]:
    """All schedules by their names."""
    members = {name: getattr(schedules, name) for name in dir(schedules) if not name.startswith("_")}
    return {
        name: member
        for name, member in members.items()
        if isinstance(member, type) and dataclasses.is_dataclass(member)
    }


def classes_of(module: ModuleType) -> dict[str, type[Any]]:
    """What a folder of problems, solvers, networks or ways offers, by its names."""
    return {name: getattr(module, name) for name in module.__all__}


def _public(module: ModuleType, base: type[T]) -> dict[str, type[T]]:
    members = {name: getattr(module, name) for name in module.__all__}
    return {
        name: member
        for name, member in members.items()
        if isinstance(member, type)
        and issubclass(member, base)
        and member is not base
        and not getattr(member, "__abstractmethods__", None)
    }


def build(kind: str, classes: Mapping[str, type[T]], table: Named) -> T:
    """The instance of one of these classes that the table names; the keys of its mistakes are seen from the table.

    Raises:
        InputError: there is no such class, or its arguments are wrong.
    """
    arguments = {"name": table} if isinstance(table, str) else dict(table)
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f'a {kind} needs a name: "{next(iter(classes))}", or {{ name = "…", … }}.')
    if name not in classes:
        raise InputError(f'unknown {kind} "{name}".{closest(name, classes)}', key=("name",))
    cls = classes[name]
    _check_names(cls, arguments)
    hints = _hints(cls)
    values = {
        key: _of_the_same_kind(kind, classes, key, value)
        if _is_of_these(hints.get(key), classes)
        else _argument(key, value, hints.get(key))
        for key, value in arguments.items()
    }
    _check_kinds(values, hints)
    try:
        return cls(**values)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        message = " ".join(str(error).split())
        raise InputError(message if name in message else f"{name}: {message}") from error


def _is_of_these(hint: Any, classes: Mapping[str, type[Any]]) -> bool:
    """Whether an argument is of the type that all these classes are, as a way that contains another way."""
    parts = [part for part in _parts(hint) if part is not object]
    return any(all(part in cls.__mro__ for cls in classes.values()) for part in parts)


def _of_the_same_kind(kind: str, classes: Mapping[str, type[T]], name: str, value: Any) -> T:
    with inside(name):
        if not isinstance(value, str | dict):
            raise InputError(f'{name} must be the name of a {kind}, or {{ name = "…", … }}, got {value!r}.')
        return build(kind, classes, value)


def _check_names(cls: type[Any], arguments: Mapping[str, Any]) -> None:
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key in arguments:
        if key not in fields:
            known = closest(key, fields) or " It has none."
            raise InputError(f'{cls.__name__} has no argument "{key}".{known}', key=(key,))
    for key, field in fields.items():
        has_default = (
            field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        )
        if key not in arguments and not has_default:
            raise InputError(f'{cls.__name__} needs the argument "{key}".')


def _argument(name: str, value: Any, hint: Any) -> Any:
    """A TOML value as the argument's type wants it: tables are schedules or sets, lists are tensors.

    TOML has no ``None``: ``dim = "all"`` says that the whole tensor is one vector.
    """
    if name == "dim" and value == "all":
        return None
    if Method in _parts(hint):
        with inside(name):
            return parse_method(value)
    if isinstance(value, dict):
        with inside(name):
            return _nested(value, hint)
    if isinstance(value, list):
        if Tensor not in _parts(hint):
            return tuple(value)
        try:
            return torch.tensor(value, dtype=torch.get_default_dtype())
        except (TypeError, ValueError):
            raise InputError(f"{name} must be a list of numbers, got {value!r}.", key=(name,)) from None
    return value


def _check_kinds(values: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Arguments that are plain numbers, texts or lists of them are so.

    Raises:
        InputError: one is not; its key is seen from the table.
    """
    for key, value in values.items():
        wanted = _wanted(value, hints.get(key))
        if wanted is not None:
            got = list(value) if isinstance(value, tuple) else value
            raise InputError(f"{key} must be {wanted}, got {got!r}.", key=(key,))


KINDS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    bool: ("true or false", "true and false"),
}
"""What one and several are called."""


def _wanted(value: Any, hint: Any) -> str | None:
    """What a value should have been; ``None``: it is that, or its type is not a plain one."""
    if hint in KINDS:
        kinds = int | float if hint is float else hint
        fits = isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))
        return None if fits else KINDS[hint][0]
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and parts[1:] == (...,) and parts[0] in KINDS:
        fits = isinstance(value, tuple) and all(_wanted(item, parts[0]) is None for item in value)
        return None if fits else f"a list of {KINDS[parts[0]][1]}"
    if typing.get_origin(hint) in (typing.Union, UnionType):
        wanted = [_wanted(value, part) for part in parts if part is not type(None)]
        is_accepted = None in wanted or (value is None and type(None) in parts)
        return None if is_accepted else " or ".join(word for word in wanted if word)
    return None


def _nested(table: dict[str, Any], hint: Any) -> Set | Schedule:
    if Set in _parts(hint):
        return parse_set(table)
    schedule: Schedule = build("schedule", schedule_classes(), table)
    return schedule


def _takes(cls: type[Any], kind: type[Any]) -> bool:
    return any(kind in _parts(hint) for hint in _hints(cls).values())


def _hints(cls: type[Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError:
        return {}


def _parts(hint: Any) -> list[Any]:
    """The types of a union, of a tuple's items, …"""
    parts = [part for argument in typing.get_args(hint) for part in _parts(argument)]
    return [hint, *parts]
