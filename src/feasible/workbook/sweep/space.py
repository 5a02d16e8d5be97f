"""What a sweep tries: parameters with their values, and the setting of each trial."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import tomlkit
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from feasible.workbook.errors import Key
from feasible.workbook.sweep.tables import RangeTable

METHOD = "method"
"""The name under which Optuna knows the row of the comparison, where there are several."""

Setting = dict[str, Any]
"""The values of one trial by their dotted keys."""


@dataclass(frozen=True)
class Parameter:
    """A dotted key and the values it may take: one of a list, or any of a range."""

    name: str
    """``"training.learning_rate"``."""
    place: Key
    """Where it stands in the file."""
    values: tuple[Any, ...] = ()
    range: RangeTable | None = None

    def belongs_to(self, method: str) -> bool:
        """Whether it says anything about this method: those below ``methods.NAME`` speak of that one alone."""
        first, *rest = self.name.split(".")
        return first != "methods" or rest[:1] == [method]

    def examples(self) -> tuple[Any, ...]:
        """All values, or the two ends."""
        return self.values if self.range is None else (self.range.low, self.range.high)

    def grid(self) -> tuple[Any, ...]:
        """All values, those of a range by its step."""
        if self.range is None:
            return self.values
        low, step = _decimal(self.range.low), _decimal(self.range.step or 1)
        count = int((_decimal(self.range.high) - low) / step) + 1
        kind = int if self.range.is_whole else float
        return tuple(kind(low + index * step) for index in range(count))

    def meant(self, recorded: Any) -> Any:
        """The value that Optuna's record of it means."""
        return next((value for value in self.values if _recorded(value) == recorded), recorded)

    def suggest(self, trial: Trial) -> Any:
        """The value that the search has chosen."""
        if self.range is None:
            return self.meant(
                trial.suggest_categorical(self.name, [_recorded(value) for value in self.values])
            )
        span = self.range
        if span.is_whole:
            low, high, step = int(span.low), int(span.high), int(span.step or 1)
            return trial.suggest_int(self.name, low, high, step=step, log=span.log)
        return trial.suggest_float(self.name, float(span.low), float(span.high), step=span.step, log=span.log)


@dataclass(frozen=True)
class Space:
    """Methods and parameters, and how they are searched.

    Which values a trial gets depends on its place in the sweep alone (of the search ``"tpe"`` also on the trials
    before it), so that workers need not speak to each other, and a sweep that goes on is the one that was begun.
    """

    methods: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    search: str
    seed: int = 0

    def of(self, method: str) -> list[Parameter]:
        """The parameters that speak of this method."""
        return [parameter for parameter in self.parameters if parameter.belongs_to(method)]

    def grid(self) -> Iterator[Setting]:
        """All combinations, the last parameter changing fastest."""
        for method in self.methods:
            own = self.of(method)
            for values in itertools.product(*(parameter.grid() for parameter in own)):
                names = [parameter.name for parameter in own]
                yield {METHOD: method, **dict(zip(names, values, strict=True))}

    def sampler(self, place: int) -> BaseSampler:
        """What chooses the values of the trial at this place of the sweep."""
        if self.search == "grid":
            return _Given(next(itertools.islice(self.grid(), place, None)))
        seed = int(np.random.SeedSequence([self.seed, place]).generate_state(1)[0])
        return RandomSampler(seed=seed) if self.search == "random" else TPESampler(seed=seed)

    def suggest(self, trial: Trial) -> tuple[str, Setting]:
        """The method and the values that the search has chosen."""
        several = len(self.methods) > 1
        method = trial.suggest_categorical(METHOD, self.methods) if several else self.methods[0]
        return method, {parameter.name: parameter.suggest(trial) for parameter in self.of(method)}


def overrides(setting: Mapping[str, Any]) -> list[str]:
    """The values as ``--set`` takes them.

    >>> overrides({"training.optimizer": "sgd", "model.hidden": [8, 8]})
    ['training.optimizer="sgd"', 'model.hidden=[8, 8]']
    """
    return [f"{name}={toml(value)}" for name, value in setting.items()]


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    item = tomlkit.inline_table() if isinstance(value, dict) else None
    if item is not None:
        item.update(value)
    return (item if item is not None else tomlkit.item(value)).as_string()


class _Given(BaseSampler):
    """Chooses what it was given."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        value = self._setting[param_name]
        return _recorded(value) if isinstance(value, (list, dict)) else value


def _recorded(value: Any) -> Any:
    """A value as Optuna can keep it: lists and tables as their TOML text."""
    return toml(value) if isinstance(value, (list, dict)) else value


def _decimal(value: float) -> Decimal:
    return Decimal(str(value))


def repeated(values: Sequence[Any]) -> Any:
    """A value that stands in the list twice, as a list of it; nothing where there is none.

    >>> repeated([1, 2, 1.0]), repeated([1, 2])
    ([1.0], [])
    """
    return next(([value] for index, value in enumerate(values) if value in values[:index]), [])
