"""A sweep file, checked as a whole before anything is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from feasible.workbook.configuration import (
    UNCONSTRAINED,
    AnyExperiment,
    Experiment,
    experiment_file,
    load_experiment,
)
from feasible.workbook.errors import InputError, Key, closest, inside
from feasible.workbook.origin import Origin
from feasible.workbook.reading import read_toml
from feasible.workbook.runner import work_of
from feasible.workbook.sweep.objectives import objective_of
from feasible.workbook.sweep.space import Parameter, Space, overrides, repeated, toml
from feasible.workbook.sweep.tables import RangeTable, SweepTable
from feasible.workbook.validation import validate

_PREFIX = "sweep."


@dataclass(frozen=True)
class Sweep:
    """An experiment, the settings of it that are tried, and what the best one is."""

    name: str
    """Of the study, unless the file says another."""
    table: SweepTable
    space: Space
    experiment: AnyExperiment
    file: str | Path
    """Of the experiment, or its name."""
    settings: tuple[str, ...]
    """Overrides that all trials share."""
    objective: str
    higher_is_better: bool
    metric: str
    """What the networks' metric is called."""
    origin: Origin

    @property
    def study(self) -> str:
        """The name of the study in the storage."""
        return self.table.study or self.name

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of each trial's trainings."""
        return self.table.seed_list or self.experiment.budget.seed_list

    @cached_property
    def count(self) -> int:
        """How many settings are tried."""
        return self.table.trials or sum(1 for _ in self.space.grid())

    @property
    def labels(self) -> dict[str, str]:
        """What the methods are called."""
        return {variant.name: variant.label for variant in self.experiment.variants()}

    def load(self, setting: Mapping[str, Any]) -> AnyExperiment:
        """The experiment of one trial.

        Raises:
            InputError: these values do not go together.
        """
        return load_experiment(self.file, [*self.settings, *overrides(setting)])

    @property
    def fingerprint(self) -> str:
        """The same for every worker of one sweep: of everything that the trials depend on, but their number."""
        shared = {"trials", "storage", "study", "heartbeat", "experiment"}
        tables = self.experiment.tables()
        if isinstance(self.experiment, Experiment):
            tables["data"]["source"] = _contents(Path(self.experiment.data.source))
        known: dict[str, Any] = {"sweep": self.table.model_dump(exclude=shared), "experiment": tables}
        known["resolved"] = [self.objective, list(self.seeds), list(self.space.methods)]
        return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()


def load_sweep(path_or_name: str | Path, settings: Sequence[str] = ()) -> Sweep:
    """A sweep from a TOML file: an experiment with a ``[sweep]`` table, or such a table that names one.

    Args:
        path_or_name: ``"own.toml"``, or one of ``list_experiments()`` that has such a table.
        settings: ``"dotted.key=value"`` for all trials; those that begin with ``sweep.`` change the table itself.

    Raises:
        InputError: anything is wrong with it; the message names file and line.
    """
    path = _find(path_or_name)
    raw, origin = read_toml(path, [setting for setting in settings if setting.startswith(_PREFIX)])
    shared = tuple(setting for setting in settings if not setting.startswith(_PREFIX))
    with origin.placing():
        if not isinstance(raw.get("sweep"), dict):
            raise InputError("there is no [sweep] table: it says which parameters are tried.")
    with origin.placing("sweep"):
        table = validate(SweepTable, raw["sweep"])
        file = _experiment_of(raw, table, path)
        experiment = load_experiment(file, shared)
        space = _space(table, experiment)
        _check_search(table)
        _check_values(space, file, shared)
        objective = objective_of(experiment, table.objective)
    work = work_of(experiment)
    is_metric = objective.endswith("_metric")
    higher_is_better = is_metric and work.higher_is_better
    return Sweep(
        path.stem, table, space, experiment, file, shared, objective, higher_is_better, work.metric, origin
    )


def _find(path_or_name: str | Path) -> Path:
    path = Path(path_or_name)
    return path if path.suffix == ".toml" or path.is_file() else experiment_file(str(path_or_name))


def _experiment_of(raw: Mapping[str, Any], table: SweepTable, path: Path) -> str | Path:
    """The file that holds the experiment, or a shipped one's name."""
    if table.experiment is None:
        return path
    others = [key for key in raw if key not in ("sweep", "name", "title", "description")]
    if others:
        message = f'with experiment = "{table.experiment}" nothing but [sweep] is read: remove {others[0]}.'
        raise InputError(message, key=("experiment",))
    if Path(table.experiment).suffix == ".toml":
        return path.parent / table.experiment
    with inside("experiment"):
        experiment_file(table.experiment)
    return table.experiment


def _space(table: SweepTable, experiment: AnyExperiment) -> Space:
    known = [variant.name for variant in experiment.variants()]
    methods = table.methods
    if methods is None:
        methods = tuple(name for name in known if name != UNCONSTRAINED) or tuple(known)
    for name in methods:
        if name not in known:
            raise InputError(f'there is no method "{name}".{closest(name, known)}', key=("methods",))
    if not methods or repeated(methods):
        raise InputError("methods must be names of methods, each once.", key=("methods",))
    parameters = tuple(_parameters(table.parameters, ()))
    if not parameters:
        raise InputError("there is nothing to sweep: [sweep.parameters] is empty.", key=("parameters",))
    _check_methods(parameters, methods)
    return Space(methods, parameters, table.search, table.seed)


def _parameters(tables: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[Parameter]:
    """All parameters; a key may be written in one piece or as tables in tables."""
    for key, content in tables.items():
        place = (*above, key)
        if isinstance(content, dict) and not {"low", "high"} & set(content):
            yield from _parameters(content, place)
            continue
        with inside("parameters", *place):
            yield _parameter(".".join(place), ("parameters", *place), content)


def _parameter(name: str, place: Key, content: Any) -> Parameter:
    if isinstance(content, dict):
        span = validate(RangeTable, content)
        _check_range(name, span)
        return Parameter(name, place, range=span)
    if not isinstance(content, list):
        message = f"{name} must be a list of values, or a table {{ low = …, high = … }}, got {content!r}."
        raise InputError(message)
    if not content:
        raise InputError(f"{name} has no values: the list is empty.")
    for value in repeated(content):
        raise InputError(f"{name} has the value {toml(value)} twice.")
    return Parameter(name, place, tuple(content))


def _check_range(name: str, span: RangeTable) -> None:
    if not span.low < span.high:
        raise InputError(f"{name} must have low < high, got low = {span.low} and high = {span.high}.")
    if span.log and span.low <= 0:
        raise InputError(f"{name} has log = true, so low must be greater than 0, got {span.low}.")
    if span.step is None:
        return
    if span.log:
        raise InputError(f"{name} has log = true and a step: leave out one of them.")
    if span.step <= 0:
        raise InputError(f"{name} must have step > 0, got {span.step}.")
    low, high, step = (Decimal(str(value)) for value in (span.low, span.high, span.step))
    if (high - low) % step != 0:
        raise InputError(f"{name} does not get from {span.low} to {span.high} in steps of {span.step}.")


def _check_methods(parameters: Sequence[Parameter], methods: Sequence[str]) -> None:
    for parameter in parameters:
        if not any(parameter.belongs_to(method) for method in methods):
            message = f"{parameter.name} speaks of none of the methods {', '.join(methods)}."
            raise InputError(message, key=parameter.place)
    for name in (parameter.name for parameter in parameters):
        inner = next((other for other in parameters if other.name.startswith(f"{name}.")), None)
        if inner is not None:
            raise InputError(f"{inner.name} is a part of {name}: sweep one of them.", key=inner.place)


def _check_search(table: SweepTable) -> None:
    if table.search != "grid":
        if table.trials is None:
            raise InputError(f'search = "{table.search}" needs trials = so many.', key=("search",))
        return
    if table.trials is not None:
        raise InputError("a grid tries all its settings: leave out trials.", key=("trials",))
    for parameter in _parameters(table.parameters, ()):
        span = parameter.range
        if span is not None and span.step is None:
            message = f"{parameter.name} is a range: a grid needs a list of values, or a step."
            raise InputError(message, key=parameter.place)


def _check_values(space: Space, file: str | Path, shared: Sequence[str]) -> None:
    """Each value alone must make an experiment; what its key or its value lacks is told where it stands."""
    for parameter in space.parameters:
        for value in parameter.examples():
            setting = overrides({parameter.name: value})
            try:
                load_experiment(file, [*shared, *setting])
            except InputError as error:
                raise InputError(f"{setting[0]}: {error.message}", key=parameter.place) from error


def _contents(source: Path) -> str:
    """A file by what it holds, wherever it lies; a data set by its name."""
    return hashlib.sha256(source.read_bytes()).hexdigest() if source.is_file() else source.name
