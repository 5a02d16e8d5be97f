"""Which method serves which set: read off the code, refused with a sentence, printed as a table."""

from __future__ import annotations

from collections.abc import Iterable

from feasible import methods
from feasible.errors import UnsupportedError
from feasible.methods.extensions import Listed, exported, foreign_methods, foreign_sets, own_methods, own_sets
from feasible.methods.method import Method
from feasible.sets import Set


def works_with(set: Set, for_values: bool = False) -> list[str]:
    """Names of the methods that can serve the set, those of other packages behind the library's own."""
    return [listed.name for listed in _serving(set, for_values)]


def check_pair(method: Method, set: Set, for_values: bool = False) -> None:
    """Raise ``UnsupportedError`` where the method cannot serve the set, naming those that can."""
    objection = method.objection(set)
    if objection is None and for_values and not method.for_values:
        objection = "it moves weights, and a computed value cannot be moved"
    if objection is not None:
        raise UnsupportedError(
            f"{type(method).__name__} does not work with {set!r}: {objection}.\n"
            f"  {_alternatives(set, for_values)}"
        )


def default_method(set: Set) -> Method:
    """The method that the set names as its own."""
    name = set.default_method
    if name is None:
        raise ValueError(
            f"{set!r} has no method that is right without a choice; give by=….\n  {_alternatives(set)}"
        )
    if name in exported(methods):
        own: Method = getattr(methods, name)()
        return own
    for listed in foreign_methods():
        if listed.name == name:
            return listed.example
    raise ValueError(
        f"{set!r} names {name} as its method, which no installed package publishes; install it, or give by=….\n"
        f"  {_alternatives(set)}"
    )


def matrix(sets: Iterable[Set] | None = None) -> str:
    """Which method serves which set in this installation, as a Markdown table.

    Args:
        sets: the rows; all sets of the library and of installed packages (``feasible.sets`` entry points)
            where they are left out.

    Returns:
        ● works, ○ works as a heuristic (the set is not convex), blank: refused. What another package ships
        is followed by the package's name.

    >>> import feasible as fs
    >>> print(fs.matrix([fs.FiniteSet([0, 1])]))
    | set | AugmentedLagrangian | Barrier | ...
    | `FiniteSet([0, 1])` | ○ |  | ...
    """
    rows = [*own_sets(), *foreign_sets()] if sets is None else [Listed("", set) for set in sets]
    return table(rows, [*own_methods(), *foreign_methods()])


def table(rows: Iterable[Listed[Set]], columns: Iterable[Listed[Method]]) -> str:
    """The Markdown table of these sets and methods."""
    columns = list(columns)
    lines = [_line("set", [column.name + column.origin for column in columns])]
    lines.append("|---|" + "---|" * len(columns))
    for row in rows:
        marks = [_mark(column.example, row.example) for column in columns]
        shown = repr(row.example).replace("|", "\\|")
        lines.append(_line(f"`{shown}`{row.origin}", marks))
    return "\n".join(lines) + "\n"


def _line(head: str, cells: Iterable[str]) -> str:
    return f"| {head} | " + " | ".join(cells) + " |"


def _mark(method: Method, set: Set) -> str:
    if method.objection(set) is not None:
        return ""
    return "●" if set.convex else "○"


def _serving(set: Set, for_values: bool) -> list[Listed[Method]]:
    return [
        listed
        for listed in (*own_methods(), *foreign_methods())
        if listed.example.objection(set) is None and (listed.example.for_values or not for_values)
    ]


def _alternatives(set: Set, for_values: bool = False) -> str:
    found = [listed.name + listed.origin for listed in _serving(set, for_values)]
    return f"Works with it: {', '.join(found) or 'none yet'}"
