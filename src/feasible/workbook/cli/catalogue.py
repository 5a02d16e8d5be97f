"""What there is to choose from: experiments, sets, methods, and what solves differential equations."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from feasible.workbook.configuration import list_experiments
from feasible.workbook.differential import networks, problems, ways
from feasible.workbook.rules import classes_of, method_classes, set_classes


@dataclass(frozen=True)
class Entry:
    """One thing by its name, in one line."""

    name: str
    description: str


def catalogue(what: str) -> list[Entry]:
    """The experiments that are shipped, or what a TOML file can name: sets, methods, equations, networks, ways."""
    if what == "experiments":
        return [Entry(experiment.name, _first_sentence(experiment)) for experiment in list_experiments()]
    if what in ("sets", "methods"):
        return _classes(set_classes() if what == "sets" else method_classes())
    module = {"equations": problems, "networks": networks, "ways": ways}[what]
    return _classes(classes_of(module))


def _first_sentence(experiment: Any) -> str:
    """The beginning of the description, or the title."""
    sentence = " ".join(str(experiment.description).split()).partition(". ")[0].rstrip(".")
    return f"{sentence}." if sentence else str(experiment.title)


def _classes(classes: Mapping[str, type[Any]]) -> list[Entry]:
    return [Entry(_signature(name, cls), _first_line(cls)) for name, cls in sorted(classes.items())]


def _signature(name: str, cls: type[Any]) -> str:
    """The name with the arguments that have no default."""
    needed = [
        field.name
        for field in fields(cls)
        if field.init and field.default is MISSING and field.default_factory is MISSING
    ]
    return f"{name}({', '.join(needed)})" if needed else name


def _first_line(cls: type[Any]) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0].replace("``", "")
