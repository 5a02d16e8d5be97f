"""What a rule about outputs speaks of: the prediction, an expectation, a rate."""

from __future__ import annotations

from torch import Tensor

from feasible import rates
from feasible.surrogate import Surrogate
from feasible.workbook.data import Dataset, Rows
from feasible.workbook.errors import InputError, Key, closest, inside
from feasible.workbook.rules import Rule
from feasible.workbook.tables import RateTable


def quantity(rule: Rule, prediction: Tensor, rows: Rows, dataset: Dataset) -> Tensor | Surrogate:
    """The value that must be in the rule's set, at these rows and the network's answer to them."""
    if rule.rate is not None:
        return _rate(rule.rate, prediction, rows, dataset)
    if rule.value == "expectation":
        return (prediction * rows.y).sum()
    return prediction


def truth(value: Tensor | Surrogate) -> Tensor:
    """The value itself, or the one that its smooth stand-in stands for."""
    return value.truth if isinstance(value, Surrogate) else value.detach()


def check_quantity(key: Key, rule: Rule, dataset: Dataset) -> None:
    """Whether these data have what the rule, which stands at this key of the file, speaks of.

    Raises:
        InputError: they do not; its key is seen from the whole file.
    """
    with inside(*key):
        if rule.value == "expectation" and dataset.task != "distribution":
            message = 'value = "expectation" needs [data] task = "distribution".'
            raise InputError(message, key=("value",))
        if rule.rate is not None:
            with inside("rate"):
                _check_rate(rule.rate, dataset)


def _check_rate(rate: RateTable, dataset: Dataset) -> None:
    if dataset.task != "classification":
        raise InputError(f'a rate needs classes, and the target "{dataset.target}" has none.', key=("name",))
    if rate.positive not in dataset.classes:
        message = (
            f'"{rate.positive}" is no class of {dataset.target}.{closest(rate.positive, dataset.classes)}'
        )
        raise InputError(message, key=("positive",))
    if rate.by is not None and rate.by not in dataset.groups:
        message = f'by = "{rate.by}" is not among the groups. Write [data] groups = ["{rate.by}"].'
        raise InputError(message, key=("by",))
    if rate.by is not None and len(dataset.groups[rate.by]) < 2:
        raise InputError(f"{rate.by} has a single group: there is nothing to compare.", key=("by",))


def _rate(rate: RateTable, prediction: Tensor, rows: Rows, dataset: Dataset) -> Surrogate:
    """The rate, or that of every other group minus that of the first."""
    positive = dataset.classes.index(rate.positive)
    others = [index for index in range(prediction.shape[1]) if index != positive]
    scores = prediction[:, positive] - prediction[:, others].amax(1)
    where = None if rate.by is None else rates.groups(rows.groups[rate.by], len(dataset.groups[rate.by]))
    if rate.name == "selection_rate":
        value = rates.selection_rate(scores, where, temperature=rate.temperature)
    else:
        function = getattr(rates, rate.name)
        value = function(scores, rows.y == positive, where, temperature=rate.temperature)
    return value if rate.by is None else value[1:] - value[0]
