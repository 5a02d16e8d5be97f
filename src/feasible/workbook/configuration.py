"""An experiment: what its TOML file says, checked as a whole, with overrides, and written back again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field

from feasible.workbook.differential.experiment import DifferentialExperiment, load_differential
from feasible.workbook.errors import InputError, Key, closest, inside
from feasible.workbook.plan import Plan, check_method_names
from feasible.workbook.reading import read_toml
from feasible.workbook.rules import Rule, Timed, parse_rule, parse_timed
from feasible.workbook.solving import SolvingExperiment, load_solving
from feasible.workbook.tables import (
    ConstraintTable,
    DataTable,
    KnownTable,
    MethodTable,
    ModelTable,
    Named,
    PolishTable,
    SearchTable,
    Table,
    TrainingTable,
    as_tuple,
)
from feasible.workbook.validation import validate

UNCONSTRAINED = "unconstrained"
"""The row that every comparison opens with: the same training, the constraints only measured."""

EXPERIMENTS = Path(__file__).parent / "experiments"
"""The experiments that are shipped."""

T = TypeVar("T", bound=Table)


@dataclass(frozen=True)
class Variant:
    """One row of the comparison: a way to enforce the constraints, with the network and training it uses."""

    name: str
    label: str
    model: ModelTable
    training: TrainingTable
    rules: tuple[Rule, ...]
    """What must hold, the same for every row; ``by`` says how this row enforces it."""
    own_rules: tuple[Rule, ...] = ()
    """What this row enforces on top of that."""
    polish: PolishTable | None = None
    search: SearchTable | None = None

    def places(self) -> Iterator[tuple[Key, Rule]]:
        """All its rules, each with its key in the file."""
        for index, rule in enumerate(self.rules):
            yield ("constraints", index), rule
        for index, rule in enumerate(self.own_rules):
            yield ("methods", self.name, "constraints", index), rule


class Experiment(Plan):
    """A TOML file: data, model, training, constraints, methods to compare, budget."""

    data: DataTable
    model: ModelTable = ModelTable()
    training: TrainingTable = TrainingTable()
    constraints: Annotated[tuple[ConstraintTable, ...], BeforeValidator(as_tuple)] = ()
    methods: dict[str, MethodTable] = Field(default_factory=dict)
    known: KnownTable = KnownTable()
    polish: PolishTable | None = None

    def variants(self) -> tuple[Variant, ...]:
        """The rows of the comparison, the unconstrained one first."""
        names = [UNCONSTRAINED, *(name for name in self.methods if name != UNCONSTRAINED)]
        with self.origin.placing():
            return tuple(self._variant(name) for name in names)

    def tables(self) -> dict[str, Any]:
        """All tables; constraints and methods without their defaults."""
        constraints = [table.model_dump(exclude_defaults=True) for table in self.constraints]
        methods = {name: table.model_dump(exclude_defaults=True) for name, table in self.methods.items()}
        return {**super().tables(), "constraints": constraints, "methods": methods}

    def _variant(self, name: str) -> Variant:
        table = self.methods.get(name, MethodTable(label="unconstrained"))
        return Variant(
            name,
            table.label or name,
            _override(self.model, table.model, ("methods", name, "model")),
            _override(self.training, table.training, ("methods", name, "training")),
            tuple(self._rules(name, table)),
            tuple(_own_rules(name, table)),
            self.polish,
            table.search,
        )

    def _rules(self, name: str, table: MethodTable) -> Iterator[Rule]:
        titles = [constraint.title for constraint in self.constraints]
        # What a search has found is held: it is a member, and projection leaves it as it is.
        by = "Project" if table.search is not None else table.by
        chosen = _methods_by_rule(by, titles, ("methods", name, "by"))
        for index, constraint in enumerate(self.constraints):
            with inside("constraints", index):
                rule = parse_rule(constraint, chosen.get(constraint.title))
            yield rule if rule.is_one_value else dataclasses.replace(rule, per=table.per or rule.per)


AnyExperiment = Experiment | SolvingExperiment | DifferentialExperiment
"""Networks that are trained on data, a problem that solvers are compared on, or a differential equation."""


def load_experiment(path_or_name: str | Path, overrides: Sequence[str] = ()) -> AnyExperiment:
    """An experiment from a TOML file, or a shipped one by its name.

    Args:
        path_or_name: ``"own.toml"``, or one of ``list_experiments()``.
        overrides: ``"dotted.key=value"``, the values as TOML writes them; a text needs no quotes.

    Raises:
        InputError: anything is wrong with it; the message names file and line.
    """
    path = _find(path_or_name)
    raw, origin = read_toml(path, overrides)
    raw.setdefault("name", path.stem)
    raw.pop("sweep", None)  # another command's table
    if "problem" in raw:
        return load_solving(raw, origin)
    if "equation" in raw:
        return load_differential(raw, origin)
    with origin.placing():
        experiment = validate(Experiment, raw)
        check_method_names(experiment.methods)
        _check_names(experiment)
        is_override = ("data", "source") in origin.overrides
        data = _absolute_source(experiment.data, Path.cwd() if is_override else path.parent)
    experiment = experiment.model_copy(update={"data": data, "origin": origin})
    experiment.variants()
    return experiment


def list_experiments() -> list[AnyExperiment]:
    """The shipped experiments, by name."""
    return [load_experiment(path) for path in sorted(EXPERIMENTS.glob("*.toml"))]


def experiment_file(name: str) -> Path:
    """The TOML file of a shipped experiment, to read or to copy.

    Raises:
        InputError: there is none of this name.
    """
    path = EXPERIMENTS / f"{name}.toml"
    if not path.is_file():
        known = sorted(path.stem for path in EXPERIMENTS.glob("*.toml"))
        raise InputError(f'there is no experiment "{name}".{closest(name, known)}')
    return path


def load_rules(path: str | Path) -> list[Rule]:
    """The rules of a file that holds only ``[[constraints]]`` tables, or of a whole experiment.

    Raises:
        InputError: a rule is wrong, or there is none.
    """
    raw, origin = read_toml(Path(path), ())
    if "data" in raw:
        experiment = load_experiment(path)
        assert isinstance(experiment, Experiment)
        return list(experiment.variants()[0].rules)
    with origin.placing():
        tables = validate(_RulesFile, raw).constraints
        if not tables:
            raise InputError("it holds no [[constraints]] table.")
        return [_rule_at(index, table) for index, table in enumerate(tables)]


class _RulesFile(Table):
    title: str = ""
    description: str = ""
    constraints: Annotated[tuple[ConstraintTable, ...], BeforeValidator(as_tuple)] = ()


def _rule_at(index: int, table: ConstraintTable) -> Rule:
    with inside("constraints", index):
        return parse_rule(table)


def _find(path_or_name: str | Path) -> Path:
    path = Path(path_or_name)
    if path.suffix == ".toml" or isinstance(path_or_name, Path):
        return path
    return path if path.is_file() else experiment_file(str(path_or_name))


def _check_names(experiment: Experiment) -> None:
    if UNCONSTRAINED in experiment.methods and experiment.methods[UNCONSTRAINED].by is not None:
        message = "the unconstrained row enforces nothing: give this method another name, or remove by."
        raise InputError(message, key=("methods", UNCONSTRAINED, "by"))
    titles = [constraint.title for constraint in experiment.constraints]
    for index, title in enumerate(titles):
        if title in titles[:index]:
            message = f'two constraints are called "{title}": give each a name of its own.'
            raise InputError(message, key=("constraints", index))


def _absolute_source(data: DataTable, folder: Path) -> DataTable:
    """A file is meant relative to the TOML file, or to the present folder where ``--set`` names it."""
    if not Path(data.source).suffix:
        return data
    return data.model_copy(update={"source": str((folder / data.source).resolve())})


def _override(table: T, changes: Mapping[str, Any], key: Key) -> T:
    with inside(*key):
        return validate(type(table), {**table.model_dump(exclude_none=True), **changes})


def _methods_by_rule(by: Named | None, titles: Sequence[str], key: Key) -> dict[str, Timed]:
    """The method of every constraint: one for all, or a table by the constraints' names."""
    if by is None:
        return {}
    with inside(*key):
        if isinstance(by, str) or "name" in by:
            return dict.fromkeys(titles, parse_timed(by))
        chosen = {}
        for title, table in by.items():
            if title not in titles:
                raise InputError(f'no constraint is called "{title}".{closest(title, titles)}', key=(title,))
            with inside(title):
                chosen[title] = parse_timed(table)
        return chosen


def _own_rules(name: str, table: MethodTable) -> Iterator[Rule]:
    for index, constraint in enumerate(table.constraints):
        with inside("methods", name, "constraints", index):
            with inside("by"):
                by = None if constraint.by is None else parse_timed(constraint.by)
            yield parse_rule(constraint, by)
