"""What a sweep has found so far: a row for each setting, best feasible first, and the front of the trade-off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from feasible.workbook.cells import show
from feasible.workbook.comparison import column
from feasible.workbook.sweep.configuration import Sweep
from feasible.workbook.sweep.objectives import violation_label
from feasible.workbook.sweep.space import METHOD, Setting, toml
from feasible.workbook.sweep.study import ATTEMPT, ATTEMPTS, places

Columns = list[dict[str, str]]


@dataclass(frozen=True)
class Row:
    """One setting of the sweep."""

    place: int
    """Its place in the sweep, from 0."""
    number: int
    """Of the trial in Optuna's study."""
    status: str
    """``"finished"``, ``"failed"``, ``"running"``, ``"waiting"``, or ``"killed"``: its workers died, one by one."""
    setting: Setting
    attributes: Mapping[str, Any]

    @property
    def method(self) -> str:
        """The row of the comparison that was trained; empty where no worker has got so far."""
        return str(self.attributes.get("method", ""))

    @property
    def objective(self) -> float | None:
        """The median over the seeds."""
        return self.attributes.get("objective") if self.status == "finished" else None

    @property
    def violation(self) -> float | None:
        """The worst over the seeds; ``None``: a training failed."""
        return self.attributes.get("violation")

    @property
    def is_feasible(self) -> bool:
        """Whether every training ended, and obeyed every rule."""
        return self.status == "finished" and bool(self.attributes["feasible"])

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        head = {"place": self.place, "trial": self.number, "status": self.status, "setting": self.setting}
        return {**head, **self.attributes}


@dataclass(frozen=True)
class Results:
    """All settings of a sweep that have been begun."""

    sweep: Sweep
    rows: tuple[Row, ...]
    """The best feasible one first; then infeasible ones by their violation, then what has no numbers."""

    @property
    def finished(self) -> list[Row]:
        """Those that have numbers."""
        return [row for row in self.rows if row.objective is not None]

    @property
    def is_finished(self) -> bool:
        """Whether every setting has come to an end."""
        ended = [row for row in self.rows if row.status in ("finished", "failed", "killed")]
        return len(ended) == self.sweep.count

    @property
    def best(self) -> Row | None:
        """The best among those that obey every rule."""
        return next((row for row in self.rows if row.is_feasible), None)

    def front(self) -> list[Row]:
        """The settings that no other betters in objective and violation at once, by their violation."""
        sign = -1.0 if self.sweep.higher_is_better else 1.0
        known = [row for row in self.finished if row.violation is not None]
        front: list[Row] = []
        for row in sorted(known, key=lambda row: (_seen_violation(row), sign * _objective(row), row.place)):
            if not front or sign * _objective(row) < sign * _objective(front[-1]):
                front.append(row)
        return front

    def columns(self) -> Columns:
        """The table's columns."""
        style = ".4g"
        higher = "higher" if self.sweep.higher_is_better else "lower"
        label = objective_label(self.sweep)
        metric = column("metric", f"test {self.sweep.metric}", "median over the seeds", style)
        is_told = self.sweep.objective in ("test_metric", "train_loss")
        return [
            column("objective", label, f"median over the seeds; {higher} is better", style),
            column(
                "violation",
                violation_label(self.sweep.experiment),
                "the largest over all seeds and rows",
                ".2g",
            ),
            column(
                "obeys", "obeys", "seeds whose final network obeys every rule, also on held-out rows", "text"
            ),
            *(column(name, short, name, "text") for name, short in varied(self.sweep).items()),
            *([] if is_told else [metric]),
            column("seconds", "seconds", "processor time of all its trainings", ".2g"),
        ]

    def table(self) -> list[dict[str, Any]]:
        """The table's rows, as ``comparison_table`` and the page read them."""
        return [self._line(row) for row in self.rows]

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "study": self.sweep.study,
            "finished": self.is_finished,
            "settings": self.sweep.count,
            "objective": {"name": self.sweep.objective, "higher_is_better": self.sweep.higher_is_better},
            "best": None if self.best is None else self.best.to_dict(),
            "front": [row.place for row in self.front()],
            "trials": [row.to_dict() for row in self.rows],
        }

    def _line(self, row: Row) -> dict[str, Any]:
        known = row.attributes
        spread = [value for value in known.get("objectives", ()) if value is not None]
        status = row.status if row.status in ("finished", "running", "waiting") else f"failed: {reason(row)}"
        partly = known.get("reason") if row.status == "finished" else None
        return {
            "variant": str(row.place),
            "label": self.sweep.labels.get(row.method, row.method or "–"),
            "status": str(partly) if partly else status,
            **{name: _plain(value) for name, value in row.setting.items()},
            "objective": _spread(row.objective, spread),
            "obeys": f"{known['obeying']} of {len(known['seeds'])}" if "obeying" in known else None,
            "violation": row.violation,
            "metric": known.get("metric"),
            "seconds": known.get("seconds"),
        }


def read_results(sweep: Sweep, trials: Sequence[FrozenTrial]) -> Results:
    """What the trials of a study say, one row a setting, whatever became of its first worker."""
    place = places(trials)
    rows: dict[int, Row] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        row = _row(sweep, trial, place[trial.number])
        if row.place < sweep.count and (row.place not in rows or _weight(row) > _weight(rows[row.place])):
            rows[row.place] = row
    sign = -1.0 if sweep.higher_is_better else 1.0
    return Results(sweep, tuple(sorted(rows.values(), key=lambda row: _rank(row, sign))))


def objective_label(sweep: Sweep) -> str:
    """What the objective is called, in words."""
    kind, _, what = sweep.objective.partition("_")
    return f"{kind} {sweep.metric}" if what == "metric" else sweep.objective.replace("_", " ")


def varied(sweep: Sweep) -> dict[str, str]:
    """The parameters that take more than one value, with short names."""
    parameters = sweep.space.parameters
    names = short_names([parameter.name for parameter in parameters])
    return {
        parameter.name: short
        for parameter, short in zip(parameters, names, strict=True)
        if len(parameter.examples()) > 1
    }


def setting_words(sweep: Sweep, row: Row) -> str:
    """A method and the values that are tried on it, in one line."""
    shown = varied(sweep)
    values = [f"{shown[name]} = {_plain(value)}" for name, value in row.setting.items() if name in shown]
    return ", ".join([sweep.labels.get(row.method, row.method), *values])


def short_names(names: Sequence[str]) -> list[str]:
    """Dotted keys by as many of their last parts as tell them apart.

    >>> short_names(["training.l1", "methods.a.by.weight", "methods.b.by.weight"])
    ['l1', 'a.by.weight', 'b.by.weight']
    """

    def tail(name: str, count: int) -> str:
        return ".".join(name.split(".")[-count:])

    def least(name: str) -> str:
        tails = (tail(name, count) for count in range(1, name.count(".") + 1))
        own = (short for short in tails if sum(f".{other}".endswith(f".{short}") for other in names) == 1)
        return next(own, name)

    return [least(name) for name in names]


def reason(row: Row) -> str:
    """Why a setting has no numbers."""
    if row.status == "killed":
        return f"{ATTEMPTS} workers died of it"
    return str(row.attributes.get("reason") or row.status)


def _row(sweep: Sweep, trial: FrozenTrial, place: int) -> Row:
    states = {
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "failed",
        TrialState.RUNNING: "running",
        TrialState.WAITING: "waiting",
        TrialState.FAIL: "killed" if trial.user_attrs.get(ATTEMPT, 1) >= ATTEMPTS else "waiting",
    }
    known = {parameter.name: parameter for parameter in sweep.space.parameters}
    setting = {name: known[name].meant(value) for name, value in trial.params.items() if name != METHOD}
    return Row(place, trial.number, states[trial.state], setting, trial.user_attrs)


def _weight(row: Row) -> int:
    """Of several trials of one setting, the one that counts."""
    return ("waiting", "killed", "running", "failed", "finished").index(row.status)


def _rank(row: Row, sign: float) -> tuple[int, float, float, int]:
    if row.objective is None:
        order = ("failed", "killed", "running", "waiting").index(row.status)
        return 2 + order, 0.0, 0.0, row.place
    if row.is_feasible:
        return 0, sign * row.objective, 0.0, row.place
    return 1, math.inf if row.violation is None else row.violation, sign * row.objective, row.place


def _objective(row: Row) -> float:
    assert row.objective is not None
    return row.objective


def _seen_violation(row: Row) -> float:
    """What is left of the violation: nothing where every set says that it holds."""
    return 0.0 if row.is_feasible else float(row.violation or 0.0)


def _spread(middle: float | None, values: Sequence[float]) -> dict[str, float] | None:
    return None if middle is None else {"median": middle, "min": min(values), "max": max(values)}


def _plain(value: Any) -> Any:
    """A value for a cell of words."""
    return toml(value) if isinstance(value, (list, dict)) else show(value, ".4g")
