"""Which method serves which set: read off the code, refused with a sentence, printed for the docs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields

from feasible import methods
from feasible.errors import UnsupportedError
from feasible.methods.method import Method
from feasible.sets import Set


def examples() -> dict[str, Method]:
    """One specification of every method by its public name."""
    found: dict[str, Method] = {}
    for name in methods.__all__:
        member = getattr(methods, name)
        if isinstance(member, type) and issubclass(member, Method) and member is not Method:
            found[name] = _example(member)
    return found


def _example(method: type[Method]) -> Method:
    required = [f.name for f in fields(method) if f.default is MISSING and f.default_factory is MISSING]
    return method(**dict.fromkeys(required, 1.0))


def works_with(set: Set, for_values: bool = False) -> list[str]:
    """Names of the methods that can serve the set."""
    return [
        name
        for name, method in examples().items()
        if method.objection(set) is None and (method.for_values or not for_values)
    ]


def check_pair(method: Method, set: Set, for_values: bool = False) -> None:
    """Raise ``UnsupportedError`` where the method cannot serve the set, naming those that can."""
    objection = method.objection(set)
    if objection is None and for_values and not method.for_values:
        objection = "it moves weights, and a computed value cannot be moved"
    if objection is not None:
        raise UnsupportedError(
            f"{type(method).__name__} does not work with {set!r}: {objection}.\n"
            f"  Works with it: {', '.join(works_with(set, for_values)) or 'none yet'}"
        )


def default_method(set: Set) -> Method:
    """The method that the set names as its own."""
    if set.default_method is None:
        raise ValueError(
            f"{set!r} has no method that is right without a choice; give by=….\n"
            f"  Works with it: {', '.join(works_with(set))}"
        )
    method: Method = getattr(methods, set.default_method)()
    return method


def matrix(sets: Iterable[Set]) -> str:
    """The pairs as a Markdown table: ● works, ○ works as a heuristic (the set is not convex), blank: refused."""
    specifications = examples()
    lines = [
        "| set | " + " | ".join(specifications) + " |",
        "|---|" + "---|" * len(specifications),
    ]
    for set in sets:
        marks = (
            "" if method.objection(set) is not None else "●" if set.convex else "○"
            for method in specifications.values()
        )
        shown = repr(set).replace("|", "\\|")
        lines.append(f"| `{shown}` | " + " | ".join(marks) + " |")
    return "\n".join(lines) + "\n"
