"""Sets and methods of other packages: found by their entry points, imported when they are first asked for."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypeVar

from feasible import methods, sets
from feasible.methods.method import Method
from feasible.sets import Set

Kind = TypeVar("Kind", Set, Method)

SETS = "feasible.sets"
"""The group of entry points that are sets, classes of sets, or functions that return one."""
METHODS = "feasible.methods"
"""The same for methods."""


class Listed(NamedTuple, Generic[Kind]):
    """One example of a set or method under its name, and the package that ships it."""

    name: str
    example: Kind
    package: str = ""
    """Empty for what the library itself ships."""

    @property
    def origin(self) -> str:
        """`` (package)`` behind a name, where it is not the library itself."""
        return f" ({self.package})" if self.package else ""


def exported(module: ModuleType) -> list[str]:
    """The public names of a package that puts its ``__all__`` together when it is imported."""
    return list(module.__all__)


def own_sets() -> list[Listed[Set]]:
    """Every set of the library once."""
    return [
        Listed(name, getattr(sets, name).example()) for name in sorted(exported(sets)) if name != Set.__name__
    ]


def own_methods() -> list[Listed[Method]]:
    """Every method of the library once."""
    return [Listed(name, getattr(methods, name).example()) for name in exported(methods) if name != "Method"]


@cache
def foreign_sets() -> list[Listed[Set]]:
    """The sets that installed packages publish in the group ``feasible.sets``."""
    return list(_published(SETS, Set, exported(sets)))  # type: ignore[type-abstract]


@cache
def foreign_methods() -> list[Listed[Method]]:
    """The methods that installed packages publish in the group ``feasible.methods``."""
    return list(_published(METHODS, Method, exported(methods)))


def _published(group: str, kind: type[Kind], own: Collection[str]) -> Iterator[Listed[Kind]]:
    taken = dict.fromkeys(own, "feasible")
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, _package(entry))):
        package = _package(entry)
        try:
            if entry.name in taken:
                raise ValueError(f"the name is taken by {taken[entry.name]}")
            example = _example(entry.load(), kind)
            repr(example)
        except Exception as error:
            warnings.warn(
                f"{package}: its entry point {entry.name} = {entry.value} in the group {group} is left out: "
                f"{type(error).__name__}: {error}.\n  Mend, update or uninstall {package}.",
                RuntimeWarning,
                stacklevel=2,
            )
            continue
        taken[entry.name] = package
        yield Listed(entry.name, example, package)


def _package(entry: EntryPoint) -> str:
    """The distribution that the entry point came with."""
    return entry.dist.name if entry.dist is not None else entry.module


def _example(loaded: Any, kind: type[Kind]) -> Kind:
    """What an entry point stands for: an instance as it is, of a class its example, else what it returns."""
    if isinstance(loaded, kind):
        return loaded
    made = loaded.example() if isinstance(loaded, type) and issubclass(loaded, kind) else loaded()
    if not isinstance(made, kind):
        raise TypeError(f"expected a {kind.__name__}, got {made!r}")
    return made
