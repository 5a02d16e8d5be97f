"""A row of the comparison as a ``Problem``: what the library is told before training, as a user would."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor, nn

import feasible as fs
from feasible.methods import Method
from feasible.workbook.configuration import Variant
from feasible.workbook.data import Dataset, Rows
from feasible.workbook.errors import InputError, Key
from feasible.workbook.naming import identifier
from feasible.workbook.quantities import quantity
from feasible.workbook.rules import Rule


def declare(model: nn.Module, variant: Variant, dataset: Dataset, epochs: int) -> fs.Problem:
    """The problem with every rule that this row enforces, for a training of so many epochs.

    Raises:
        UnsupportedError: a method cannot serve a set; the comparison shows it as a failed row.
        InputError: a rule does not fit the model; its key is seen from the whole file.
    """
    problem = fs.Problem(model)
    steps = epochs * math.ceil(len(dataset.x_train) / variant.training.batch_size)
    for key, rule in _enforced(variant):
        try:
            _declare_rule(problem, rule, rule.method(steps), dataset)
        except fs.UnsupportedError:
            raise
        except ValueError as error:
            raise InputError(" ".join(str(error).split()), key=key) from error
    return problem


def values(
    variant: Variant, prediction: Tensor, rows: Rows, dataset: Dataset, index: Tensor | None = None
) -> dict[str, object]:
    """What ``problem.loss`` (with the samples' index) or ``problem.report`` is handed, by name."""
    found: dict[str, object] = {}
    for _, rule in _enforced(variant):
        if rule.weights is None:
            value = quantity(rule, prediction, rows, dataset)
            is_indexed = rule.per == "index" and index is not None
            found[identifier(rule.name)] = (value, index) if is_indexed else value
    return found


def _enforced(variant: Variant) -> Iterator[tuple[Key, Rule]]:
    own = len(variant.rules)
    return (place for at, place in enumerate(variant.places()) if at >= own or place[1].by is not None)


def _declare_rule(problem: fs.Problem, rule: Rule, by: Method | None, dataset: Dataset) -> None:
    if rule.weights is not None:
        problem.constrain(rule.weights, rule.set, by=by, name=rule.name, exclude=rule.exclude)
        return
    size = len(dataset.x_train) if rule.per == "index" else None
    problem.require(
        identifier(rule.name),
        rule.set,
        by=by,
        per=rule.per,
        size=size,
        tolerance=None if rule.is_one_value else rule.tolerance,
        average=rule.average,
    )
