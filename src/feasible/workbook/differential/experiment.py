"""Experiments that compare ways to solve a differential equation by a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field

from feasible.workbook.differential import networks, problems, ways
from feasible.workbook.differential.networks.network import Network
from feasible.workbook.differential.problems.problem import ProblemDefinition
from feasible.workbook.differential.ways.way import Way
from feasible.workbook.errors import InputError, closest, inside
from feasible.workbook.origin import Origin
from feasible.workbook.plan import Plan, check_method_names
from feasible.workbook.rules import build, classes_of
from feasible.workbook.tables import BudgetTable, Named, Positive, QuickTable, Table
from feasible.workbook.validation import validate


class WayTable(Table):
    """``[methods.NAME]``: one row of the comparison."""

    label: str | None = None
    way: Named
    """A way by its name, or a table of its name and arguments."""
    equation: dict[str, Any] = Field(default_factory=dict)
    """Keys of ``equation`` that differ for this row: other points, or conditions that the others do not know of."""
    network: Named | None = None
    """In the place of the experiment's."""
    budget: dict[str, Any] = Field(default_factory=dict)
    """Keys of ``[budget]`` that differ for this row: ``epochs`` and ``seconds``."""


class EquationQuickTable(QuickTable):
    """``[quick]``: the budget of a first look, for every row, and a smaller problem."""

    equation: dict[str, Any] = Field(default_factory=dict)
    """Keys of ``equation`` that differ, in every row."""
    networks: dict[str, Named] = Field(default_factory=dict)
    """Smaller networks for single rows, by the names of their methods."""


class DifferentialExperiment(Plan):
    """A TOML file: an equation, a network, the ways to compare, and how many epochs or seconds each may use."""

    equation: Named
    network: Named = "Perceptron"
    methods: dict[str, WayTable] = Field(min_length=1)
    quick: EquationQuickTable = EquationQuickTable()
    tolerance: Positive = 1e-3
    """Root mean squares of residual (at points not trained on) and conditions are no larger where a solution obeys."""

    def quickened(self) -> Self:
        """The same experiment with the budget of ``[quick]``, which goes before those of single rows."""
        methods = {
            name: table.model_copy(
                update={
                    "equation": {**table.equation, **self.quick.equation},
                    "network": self.quick.networks.get(name, table.network),
                    "budget": {key: value for key, value in table.budget.items() if key != "epochs"},
                }
            )
            for name, table in self.methods.items()
        }
        return super().quickened().model_copy(update={"methods": methods})

    def tables(self) -> dict[str, Any]:
        """All tables; methods without their defaults."""
        methods = {name: table.model_dump(exclude_defaults=True) for name, table in self.methods.items()}
        return {**super().tables(), "methods": methods}

    def variants(self) -> tuple[WayVariant, ...]:
        """The rows of the comparison."""
        with self.origin.placing():
            return tuple(self._variant(name, table) for name, table in self.methods.items())

    def definition(self) -> ProblemDefinition:
        """The problem, without its seed."""
        with self.origin.placing(), inside("equation"):
            return self._defined({})

    def _defined(self, own: Mapping[str, Any]) -> ProblemDefinition:
        common = {"name": self.equation} if isinstance(self.equation, str) else self.equation
        definition: ProblemDefinition = build("equation", classes_of(problems), {**common, **own})
        return definition

    def _variant(self, name: str, table: WayTable) -> WayVariant:
        with inside("methods", name, "way"):
            way: Way = build("way", classes_of(ways), table.way)
        with inside(*(("network",) if table.network is None else ("methods", name, "network"))):
            network: Network = build("network", classes_of(networks), table.network or self.network)
        with inside(*(("methods", name, "equation") if table.equation else ("equation",))):
            definition = self._defined(table.equation)
        with inside("methods", name, "budget"):
            budget = validate(BudgetTable, {**self.budget.model_dump(), **table.budget})
        return WayVariant(name, table.label or name, way, definition, network, budget)


@dataclass(frozen=True)
class WayVariant:
    """One row of the comparison."""

    name: str
    label: str
    way: Way
    definition: ProblemDefinition
    network: Network
    budget: BudgetTable


def load_differential(raw: Mapping[str, Any], origin: Origin) -> DifferentialExperiment:
    """The experiment, after everything that could be wrong with it has been looked for.

    Raises:
        InputError: with the file and the line of the mistake.
    """
    with origin.placing():
        experiment = validate(DifferentialExperiment, raw)
        check_method_names(experiment.methods)
        for name in experiment.quick.networks:
            if name not in experiment.methods:
                message = f'there is no method "{name}".{closest(name, experiment.methods)}'
                raise InputError(message, key=("quick", "networks", name))
    experiment = experiment.model_copy(update={"origin": origin})
    experiment.definition()
    experiment.variants()
    return experiment
