"""How good the network is, and how well it obeys: on the training rows, on held-out rows, in its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from feasible.report import Report
from feasible.sets import Set
from feasible.workbook.configuration import Variant
from feasible.workbook.data import Dataset, Rows
from feasible.workbook.measurement import (
    Finding,
    Watched,
    at_bound,
    measure,
    share,
    watch_values,
    watch_weights,
    worst,
)
from feasible.workbook.models import output_range
from feasible.workbook.naming import identifier, value_key
from feasible.workbook.quantities import check_quantity, quantity, truth
from feasible.workbook.rules import Rule


@dataclass(frozen=True)
class Evaluation:
    """One look at the network; violations of held-out rows are ``None`` where no rule is about values."""

    train_loss: float
    train_metric: float
    test_loss: float
    test_metric: float
    weights: tuple[Finding, ...]
    train: tuple[Finding, ...]
    test: tuple[Finding, ...]
    values: Mapping[str, float]
    """Expectations and rates by the names of their columns, on training and on held-out rows."""

    def history(self) -> dict[str, float]:
        """The columns of ``history.csv``; NaN where there is nothing to measure."""
        measured = {
            "worst_violation": worst([*self.weights, *self.train]),
            "test_worst_violation": worst(self.test) if self.test else math.nan,
        }
        return {**self._quality(), **measured, **self.values}

    def to_dict(self) -> dict[str, Any]:
        """The measurements of ``result.json``."""
        seen = [*self.weights, *self.train]
        return {
            **self._quality(),
            "worst_violation": worst(seen),
            "test_worst_violation": worst(self.test) if self.test else None,
            "share_violated": share(seen),
            "test_share_violated": share(self.test) if self.test else None,
            "feasible": all(finding.feasible for finding in seen),
            "test_feasible": all(finding.feasible for finding in self.test) if self.test else None,
            "at_bound": at_bound(self.weights),
            **self.values,
        }

    def _quality(self) -> dict[str, float]:
        return {
            "train_loss": self.train_loss,
            "train_metric": self.train_metric,
            "test_loss": self.test_loss,
            "test_metric": self.test_metric,
        }


_STRENGTHS: tuple[str, ...] = (
    "broken",
    "encouraged",
    "at these points",
    "projected",
    "exact",
    "by construction",
)
"""From the weakest guarantee to the strongest."""


class Judge:
    """Measures one network by the rules of its experiment; the sets are bound before training begins.

    Raises:
        InputError: a rule does not fit the network; its key is seen from the whole file.
    """

    def __init__(self, variant: Variant, dataset: Dataset, model: nn.Sequential) -> None:
        self.variant = variant
        self.dataset = dataset
        self.model = model
        self._weights = watch_weights(variant.rules, model.state_dict())
        for key, rule in variant.places():
            check_quantity(key, rule, dataset)
        first = dataset.train[torch.arange(1)]
        self._values = watch_values(variant.rules, lambda rule: self._read(rule, model(first.x), first))

    @torch.no_grad()
    def evaluate(self) -> Evaluation:
        """Everything that is known about the network as it is now."""
        data = self.dataset
        train, test = self.predict_train(), self.model(data.x_test)
        on_train, on_test = self._quantities(train, data.train), self._quantities(test, data.test)
        state = self._effective_weights()
        return Evaluation(
            float(loss_of(train, data.y_train, data)),
            metric_of(train, data.y_train, data),
            float(loss_of(test, data.y_test, data)),
            metric_of(test, data.y_test, data),
            tuple(measure(w.rule.name, w.tensor, w.set, state[w.tensor]) for w in self._weights),
            self._judge(on_train),
            self._judge(on_test) if data.is_held_out else (),
            {**_shown("value", on_train), **_shown("test_value", on_test)},
        )

    def predict_train(self) -> Tensor:
        """The network's answer to the training rows."""
        prediction: Tensor = self.model(self.dataset.x_train)
        return prediction

    def guarantees(self, report: Report) -> list[str]:
        """What is known to hold, in a few words a rule: proven, reported by the library, or nothing."""
        return [self._guarantee(rule, report) for rule in self.variant.rules]

    def _guarantee(self, rule: Rule, report: Report) -> str:
        if rule.value == "prediction" and self._is_proven(rule.set):
            return "proven, every input"
        names = (rule.name, identifier(rule.name))
        kinds = [
            row.guarantee for row in report.rows if row.name in names or row.name.startswith(f"{rule.name}/")
        ]
        return min(kinds, key=_STRENGTHS.index, default="none")

    @torch.no_grad()
    def _is_proven(self, set: Set) -> bool:
        """Whether the set holds the whole range of outputs that the network can ever return."""
        if not (set.separable and set.convex):
            return False
        largest = torch.finfo(torch.get_default_dtype()).max
        ends = [end.clamp(-largest, largest) for end in output_range(self.variant.model, self.model)]
        return all(bool(set.bind(end[None]).contains(end[None]).all()) for end in ends)

    def _read(self, rule: Rule, prediction: Tensor, rows: Rows) -> Tensor:
        return truth(quantity(rule, prediction, rows, self.dataset))

    def _quantities(self, prediction: Tensor, rows: Rows) -> list[tuple[Watched, Tensor]]:
        """What the rules about outputs speak of, at these rows."""
        return [(watched, self._read(watched.rule, prediction, rows)) for watched in self._values]

    def _judge(self, quantities: list[tuple[Watched, Tensor]]) -> tuple[Finding, ...]:
        return tuple(
            measure(w.rule.name, w.tensor, w.set, value, w.rule.tolerance if w.rule.is_one_value else None)
            for w, value in quantities
        )

    def _effective_weights(self) -> dict[str, Tensor]:
        """The weights as the network uses them, under their plain names, reparametrized or not."""
        names = {watched.tensor for watched in self._weights}
        return {name: _attribute(self.model, name) for name in names}


def loss_of(prediction: Tensor, y: Tensor, dataset: Dataset) -> Tensor:
    """Cross entropy of classes, squared error of numbers, the negative entropy of probabilities."""
    if dataset.task == "classification":
        return nn.functional.cross_entropy(prediction, y)
    if dataset.task == "distribution":
        return negative_entropy(prediction)
    return nn.functional.mse_loss(prediction, y)


def metric_of(prediction: Tensor, y: Tensor, dataset: Dataset) -> float:
    """Accuracy of classes, root mean squared error of numbers, entropy of probabilities."""
    if dataset.task == "classification":
        return float((prediction.argmax(1) == y).float().mean())
    if dataset.task == "distribution":
        return -float(negative_entropy(prediction))
    return float((prediction - y).square().mean().sqrt())


def negative_entropy(probabilities: Tensor, least: float = 1e-6) -> Tensor:
    """``Σ p log p``, continued by its tangent below ``least``: its slope at 0 would be infinite.

    >>> negative_entropy(torch.full((4,), 0.25))
    tensor(-1.3863)
    """
    inside = probabilities.clamp_min(least)
    below = (probabilities - inside) * (1 + math.log(least))
    return (inside * inside.log() + below).sum()


def _shown(prefix: str, quantities: list[tuple[Watched, Tensor]]) -> dict[str, float]:
    """Each expectation or rate as one number: of several the largest in size."""
    return {
        value_key(prefix, watched.rule.name): float(value.flatten()[value.abs().argmax()])
        for watched, value in quantities
        if watched.rule.is_one_value
    }


def _attribute(module: nn.Module, name: str) -> Tensor:
    path, _, last = name.rpartition(".")
    found: Tensor = getattr(module.get_submodule(path), last)
    return found
