"""A row of the comparison as a ``Problem``: what the library is told before training, as a user would."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import Tensor, nn

import feasible as fs
from feasible.workbook.configuration import Variant
from feasible.workbook.data import Dataset
from feasible.workbook.errors import InputError, Key
from feasible.workbook.rules import Rule


def declare(model: nn.Module, variant: Variant, dataset: Dataset) -> fs.Problem:
    """The problem with every rule that this row enforces.

    Raises:
        UnsupportedError: a method cannot serve a set; the comparison shows it as a failed row.
        InputError: a rule does not fit the model; its key is seen from the whole file.
    """
    problem = fs.Problem(model)
    for key, rule in _enforced(variant):
        try:
            _declare_rule(problem, rule, dataset)
        except fs.UnsupportedError:
            raise
        except ValueError as error:
            raise InputError(" ".join(str(error).split()), key=key) from error
    return problem


def values(variant: Variant, prediction: Tensor, index: Tensor | None = None) -> dict[str, object]:
    """What ``problem.loss`` (with the samples' index) or ``problem.report`` is handed, by name."""
    return {
        identifier(rule.name): (prediction, index)
        if rule.per == "index" and index is not None
        else prediction
        for _, rule in _enforced(variant)
        if rule.value is not None
    }


def identifier(name: str) -> str:
    """A rule's name as a keyword of ``problem.loss``.

    >>> identifier("outputs ≥ 0")
    'outputs_0'
    """
    word = re.sub(r"\W+", "_", name).strip("_")
    return word if word.isidentifier() else f"rule_{word}".strip("_")


def _enforced(variant: Variant) -> Iterator[tuple[Key, Rule]]:
    for index, rule in enumerate(variant.rules):
        if rule.by is not None:
            yield ("constraints", index), rule
    for index, rule in enumerate(variant.own_rules):
        yield ("methods", variant.name, "constraints", index), rule


def _declare_rule(problem: fs.Problem, rule: Rule, dataset: Dataset) -> None:
    if rule.weights is not None:
        problem.constrain(rule.weights, rule.set, by=rule.by, name=rule.name, exclude=rule.exclude)
        return
    size = len(dataset.x_train) if rule.per == "index" else None
    tolerance = rule.tolerance
    problem.require(identifier(rule.name), rule.set, by=rule.by, per=rule.per, size=size, tolerance=tolerance)
