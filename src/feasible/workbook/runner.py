"""A whole experiment: all methods over all seeds, into a run directory that survives interruptions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

import feasible as fs
from feasible.sets import Set
from feasible.workbook.comparison import best_run, metric_of, summarise
from feasible.workbook.configuration import AnyExperiment, Experiment, Variant
from feasible.workbook.data import Dataset, load_data
from feasible.workbook.declaration import declare
from feasible.workbook.differential.experiment import DifferentialExperiment, WayVariant
from feasible.workbook.differential.work import DifferentialWork
from feasible.workbook.errors import InputError
from feasible.workbook.evaluation import Judge
from feasible.workbook.known import check_known
from feasible.workbook.models import build_model
from feasible.workbook.progress import Progress, Silent
from feasible.workbook.results import RunResult
from feasible.workbook.solver_runs import SolvingWork
from feasible.workbook.solving import SolverVariant, SolvingExperiment
from feasible.workbook.storage import load_training, note_environment, open_run, save_training, write_summary
from feasible.workbook.training import train


def run_experiment(
    experiment: AnyExperiment,
    out: Path | str,
    *,
    seeds: Sequence[int] | None = None,
    quick: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
    command_line: Sequence[str] = (),
) -> Path:
    """Train every method with every seed and write the run directory.

    Ctrl-C ends it early: what was finished is kept, the rest is marked ``"interrupted"``, ``result.json``
    says ``"finished": false``, and ``resume=True`` goes on from there.

    Args:
        experiment: from ``load_experiment``.
        out: the run directory; new, empty, or that of a run to resume.
        seeds: instead of those of the budget.
        quick: with the budget of ``[quick]``.
        resume: keep the trainings that are there already.
        progress: is told about every training and epoch.
        command_line: noted in ``environment.json``.

    Returns:
        The run directory.

    Raises:
        InputError: the experiment or the directory cannot be used; nothing has been written.
    """
    experiment = experiment.quickened() if quick else experiment
    experiment = experiment.with_seeds(seeds) if seeds is not None else experiment
    progress, out = progress or Silent(), Path(out)
    work = work_of(experiment)
    open_run(out, experiment, resume, command_line)
    results = [
        load_training(out, variant.name, seed) or _interrupted(variant, seed)
        for variant, seed in _plan(experiment)
    ]
    progress.experiment_started(len(results), sum(result.status != "interrupted" for result in results))
    try:
        for index, (variant, seed) in enumerate(_plan(experiment)):
            if results[index].status == "interrupted":
                result = work.train(variant, seed, progress)
                save_training(out, result)
                results[index] = dataclasses.replace(result, weights={}, records={})
    except KeyboardInterrupt:
        pass
    best = best_run(results, work.higher_is_better)
    summary = {**work.summarise(results), "quick": quick}
    write_summary(out, summary, results, best)
    note_environment(out, experiment)
    return out


def work_of(experiment: AnyExperiment) -> TrainingWork | SolvingWork | DifferentialWork:
    """What trains the rows of an experiment.

    Raises:
        InputError: the experiment cannot be used.
    """
    if isinstance(experiment, SolvingExperiment):
        return SolvingWork(experiment)
    if isinstance(experiment, DifferentialExperiment):
        return DifferentialWork(experiment)
    return TrainingWork(experiment)


class TrainingWork:
    """The trainings of an experiment on data, one a method and seed."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.dataset = prepare(experiment)
        metric = metric_of(self.dataset)
        self.metric, self.higher_is_better = metric.name, metric.higher_is_better

    def train(self, variant: Any, seed: int, progress: Progress) -> RunResult:
        """One training."""
        return train(self.experiment, variant, seed, self.dataset, progress)

    def summarise(self, results: Sequence[RunResult]) -> dict[str, Any]:
        """What ``result.json`` says."""
        return summarise(self.experiment, self.dataset, results)


def prepare(experiment: Experiment) -> Dataset:
    """The data, after everything that could be wrong with the experiment has been looked for.

    Raises:
        InputError: with the file and the line of the mistake.
    """
    with experiment.origin.placing("data"):
        dataset = load_data(experiment.data)
    with experiment.origin.placing():
        _check_units(experiment, dataset)
        for variant in experiment.variants():
            model = build_model(variant.model, dataset)
            check_known(experiment.known, model.state_dict())
            Judge(variant, dataset, model)
            try:
                declare(model, variant, dataset, experiment.budget.epochs)
            except fs.UnsupportedError:
                continue  # a failed row of the comparison, not a mistake in the file
    return dataset


def _plan(experiment: AnyExperiment) -> Iterator[tuple[Variant | SolverVariant | WayVariant, int]]:
    for variant in experiment.variants():
        for seed in experiment.budget.seed_list:
            yield variant, seed


def _interrupted(variant: Variant | SolverVariant | WayVariant, seed: int) -> RunResult:
    return RunResult(variant.name, variant.label, seed, "interrupted")


def _check_units(experiment: Experiment, dataset: Dataset) -> None:
    """Bounds on predictions have a unit: it must not be chosen behind the user's back."""
    if experiment.data.target_unit != "auto" or dataset.target_unit == 1:
        return
    for variant in experiment.variants()[:1]:
        for index, rule in enumerate(variant.rules):
            if rule.value is not None and _has_sizes(rule.set):
                unit = dataset.target_unit
                message = (
                    f"the target would be measured in units of {unit:g}, and so would this bound. "
                    f"Choose it yourself: [data] target_unit = {unit:g} (with the bound in that unit), or 1."
                )
                raise InputError(message, key=("constraints", index, "set"))


def _has_sizes(set: Set) -> bool:
    """Whether a number other than 0 describes the set, so that it depends on the unit."""
    values = [getattr(set, field.name) for field in dataclasses.fields(set)]
    return any(isinstance(value, Tensor) or (isinstance(value, float) and value != 0) for value in values)
