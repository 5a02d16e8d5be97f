"""What a sweep can ask for, and what counts as a violation, for each kind of experiment."""

from __future__ import annotations

from feasible.workbook.configuration import AnyExperiment
from feasible.workbook.differential.experiment import DifferentialExperiment
from feasible.workbook.errors import InputError
from feasible.workbook.solving import SolvingExperiment

TRAINING = ("test_loss", "test_metric", "train_loss", "train_metric")
SOLVING = ("train_loss", "gap", "seconds", "evaluations")
DIFFERENTIAL = ("test_metric", "residual", "seconds", "train_loss", "query_error", "unknown")
"""Objectives, the default first."""


def objective_of(experiment: AnyExperiment, wanted: str | None) -> str:
    """The objective that was asked for, or the default.

    Raises:
        InputError: experiments of this kind do not measure it.
    """
    known = _known(experiment)
    if wanted is None:
        return known[0]
    if wanted not in known:
        message = f'objective = "{wanted}" is not measured. Known: {", ".join(known)}.'
        raise InputError(message, key=("objective",))
    return wanted


def violation_label(experiment: AnyExperiment) -> str:
    """What the violation is called."""
    return "residual" if isinstance(experiment, DifferentialExperiment) else "worst violation"


def _known(experiment: AnyExperiment) -> tuple[str, ...]:
    if isinstance(experiment, DifferentialExperiment):
        return DIFFERENTIAL
    return SOLVING if isinstance(experiment, SolvingExperiment) else TRAINING
