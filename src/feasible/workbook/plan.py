"""What every experiment has, whatever it does: a name, a budget, a place where its keys stand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Self

import tomlkit
from pydantic import Field

from feasible.workbook.errors import InputError
from feasible.workbook.origin import Origin
from feasible.workbook.tables import BudgetTable, QuickTable, Table
from feasible.workbook.validation import validate

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Plan(Table):
    """The tables that an experiment of any kind has."""

    name: str
    title: str = ""
    description: str = ""
    budget: BudgetTable = BudgetTable()
    quick: QuickTable = QuickTable()
    origin: Origin = Field(default=Origin("the experiment"), exclude=True, repr=False)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.model_dump() == other.model_dump()

    def with_seeds(self, seeds: Sequence[int]) -> Self:
        """The same experiment over these seeds."""
        budget = validate(type(self.budget), {**self.budget.model_dump(), "seeds": tuple(seeds)})
        return self.model_copy(update={"budget": budget})

    def quickened(self) -> Self:
        """The same experiment with the budget of ``[quick]``."""
        epochs = self.quick.epochs or max(1, self.budget.epochs // 5)
        update = {"seeds": self.quick.seeds, "epochs": epochs}
        return self.model_copy(update={"budget": self.budget.model_copy(update=update)})

    def to_toml(self) -> str:
        """The resolved configuration, every default written out; it loads again to an equal experiment."""
        return tomlkit.dumps(_plain(self.tables()))

    def tables(self) -> dict[str, Any]:
        """What is written: lists of tables and tables by name without their defaults."""
        return self.model_dump(exclude_none=True)


def check_method_names(names: Iterable[str]) -> None:
    """Raise where a method's name could not be the name of a folder.

    Raises:
        InputError: with the key, as seen from the whole file.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            message = f'the method name "{name}" also names a folder: use letters, digits, "-" and "_".'
            raise InputError(message, key=("methods", name))


def _plain(value: Any) -> Any:
    """Tuples as lists: TOML knows no others."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
