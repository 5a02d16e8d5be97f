"""One trial: an experiment's row with one setting, trained with every seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from feasible.workbook.errors import InputError
from feasible.workbook.progress import Silent
from feasible.workbook.runner import work_of
from feasible.workbook.sweep.configuration import Sweep
from feasible.workbook.sweep.space import Setting


@dataclass(frozen=True)
class Outcome:
    """What the trainings of one trial came to."""

    objective: float | None
    """The median over the seeds, a training that failed as the worst; ``None``: too many failed."""
    violation: float
    """The worst of all seeds, on weights, training and held-out rows, or of the residual; infinite where one failed."""
    feasible: bool
    """Whether every training ended, and obeyed every rule."""
    attributes: Mapping[str, Any]
    """What is kept of it, as JSON can."""


def run_trial(sweep: Sweep, method: str, setting: Setting) -> Outcome:
    """Train one row of the comparison with every seed."""
    try:
        work = work_of(sweep.load(setting))
        variants = {variant.name: variant for variant in work.experiment.variants()}
        runs = [work.train(variants[method], seed, Silent()).to_dict() for seed in sweep.seeds]
    except InputError as error:  # every value is sound by itself: these do not go together
        runs = [{"status": "failed", "reason": error.message, "seed": seed} for seed in sweep.seeds]
    return summarise(sweep, method, runs)


def summarise(sweep: Sweep, method: str, runs: Sequence[Mapping[str, Any]]) -> Outcome:
    """The trainings of all seeds as one outcome."""
    worst = -math.inf if sweep.higher_is_better else math.inf
    values = [_value(run, sweep.objective, worst) for run in runs]
    objective = median(values)
    violation = max(_violation(run) for run in runs)
    obeying = sum(_obeys(run) for run in runs)
    feasible = obeying == len(runs)
    metrics = [run["test_metric"] for run in runs if run.get("test_metric") is not None]
    attributes = {
        "method": method,
        "seeds": [run["seed"] for run in runs],
        "objective": _finite(objective),
        "objectives": [_finite(value) for value in values],
        "metric": _finite(median(metrics)) if metrics else None,
        "violation": _finite(violation),
        "obeying": obeying,
        "feasible": feasible,
        "seconds": sum(run.get("seconds", 0.0) for run in runs),
        "reason": _reason(runs, sweep.objective),
    }
    return Outcome(_finite(objective), violation, feasible, attributes)


def _value(run: Mapping[str, Any], key: str, worst: float) -> float:
    value = run.get(key)
    return float(value) if value is not None and math.isfinite(value) else worst


def _violation(run: Mapping[str, Any]) -> float:
    if run["status"] != "finished":
        return math.inf
    keys = ("residual",) if "residual" in run else ("worst_violation", "test_worst_violation")
    known = [float(run[key]) for key in keys if run.get(key) is not None]
    return math.inf if any(math.isnan(value) for value in known) else max(known, default=0.0)


def _obeys(run: Mapping[str, Any]) -> bool:
    return run["status"] == "finished" and bool(run["feasible"]) and run["test_feasible"] is not False


def _reason(runs: Sequence[Mapping[str, Any]], objective: str) -> str | None:
    """Why there are no, or not all, numbers."""
    failed = [run for run in runs if run["status"] != "finished"]
    if failed:
        share = "" if len(failed) == len(runs) else f"{len(failed)} of {len(runs)} seeds: "
        return f"{share}{failed[0]['reason']}"
    if any(run.get(objective) is None for run in runs):
        return f"{objective} is not known here"
    return None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
