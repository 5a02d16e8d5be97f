"""The ``[sweep]`` table of a TOML file: its keys, types, defaults and ranges."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from feasible.workbook.tables import Count, Names, Seeds, Table

Number = int | Annotated[float, Field(allow_inf_nan=False)]


class RangeTable(Table):
    """The values of a parameter from ``low`` to ``high``: whole numbers where both are, real ones else."""

    low: Number
    high: Number
    log: bool = False
    """Whether every decade is as likely as any other."""
    step: Number | None = None
    """Only ``low``, ``low + step``, … are tried; a grid needs it."""

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))


class SweepTable(Table):
    """``[sweep]``: which settings of an experiment are tried, in which order, and where it is written down."""

    experiment: str | None = None
    """A shipped experiment or a TOML file beside this one; by default the experiment of the file itself."""
    methods: Names | None = None
    """The rows of the comparison that are tried; by default all but the unconstrained one."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """By dotted key, as in ``--set``: a list of values, or a ``RangeTable``."""
    search: Literal["grid", "random", "tpe"] = "grid"
    """All combinations; independent draws; or Optuna's tree-structured Parzen estimator, which learns from trials."""
    trials: Count | None = None
    """How many settings are tried, by all workers together; a grid knows it."""
    seeds: Count | Seeds | None = None
    """Of each trial's trainings; by default those of the budget."""
    objective: str | None = None
    """What is best when it is least (a metric: when it is best), as the median over the seeds."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the search itself."""
    storage: str | None = None
    """The URL of a database; by default the file ``sweep.db`` in the folder of the sweep."""
    study: str | None = None
    """Its name in that database; by default that of the file."""
    heartbeat: Count = 60
    """Seconds between two signs of life of a worker; after two without one its trial is run again."""

    @property
    def seed_list(self) -> tuple[int, ...] | None:
        """The seeds one by one, where they are not those of the budget."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
