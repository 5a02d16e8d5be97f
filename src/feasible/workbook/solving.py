"""Experiments that compare solvers on one problem, rather than methods on one training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from feasible.workbook import solvers, tasks
from feasible.workbook.errors import inside
from feasible.workbook.origin import Origin
from feasible.workbook.plan import Plan, check_method_names
from feasible.workbook.rules import build, classes_of
from feasible.workbook.solvers.solver import Solver
from feasible.workbook.tables import Named, Positive, Table
from feasible.workbook.tasks.task import TaskDefinition
from feasible.workbook.validation import validate


class SolverTable(Table):
    """``[methods.NAME]``: one row of the comparison."""

    label: str | None = None
    solver: Named
    """A solver by its name, or a table of its name and arguments."""


class SolvingExperiment(Plan):
    """A TOML file: a problem, the solvers to compare, and how many evaluations each may use (``epochs``)."""

    problem: Named
    methods: dict[str, SolverTable] = Field(min_length=1)
    tolerance: Positive = 1e-6
    """A point obeys the requirements that is no farther from each than this."""

    def tables(self) -> dict[str, Any]:
        """All tables; methods without their defaults."""
        methods = {name: table.model_dump(exclude_defaults=True) for name, table in self.methods.items()}
        return {**super().tables(), "methods": methods}

    def variants(self) -> tuple[SolverVariant, ...]:
        """The rows of the comparison."""
        with self.origin.placing():
            return tuple(
                SolverVariant(name, table.label or name, _solver(name, table))
                for name, table in self.methods.items()
            )

    def definition(self) -> TaskDefinition:
        """The problem, without its seed."""
        with self.origin.placing(), inside("problem"):
            definition: TaskDefinition = build("problem", classes_of(tasks), self.problem)
        return definition


@dataclass(frozen=True)
class SolverVariant:
    """One row of the comparison."""

    name: str
    label: str
    solver: Solver


def load_solving(raw: Mapping[str, Any], origin: Origin) -> SolvingExperiment:
    """The experiment, after everything that could be wrong with it has been looked for.

    Raises:
        InputError: with the file and the line of the mistake.
    """
    with origin.placing():
        experiment = validate(SolvingExperiment, raw)
        check_method_names(experiment.methods)
    experiment = experiment.model_copy(update={"origin": origin})
    experiment.definition()
    experiment.variants()
    return experiment


def _solver(name: str, table: SolverTable) -> Solver:
    with inside("methods", name, "solver"):
        solver: Solver = build("solver", classes_of(solvers), table.solver)
    return solver
