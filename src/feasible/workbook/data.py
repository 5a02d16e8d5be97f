"""From a data table to tensors: encoded, split and scaled, with a note about everything that was done."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from pandas.api import types
from torch import Tensor

from feasible.workbook.errors import InputError
from feasible.workbook.frames import drop_missing, encode, read_frame, select_columns
from feasible.workbook.tables import DataTable

Task = Literal["classification", "regression", "distribution"]


@dataclass(frozen=True)
class Rows:
    """Some rows of the table: features, targets, and by column the number of each row's group."""

    x: Tensor
    y: Tensor
    groups: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor) -> Rows:
        return Rows(self.x[index], self.y[index], {name: ids[index] for name, ids in self.groups.items()})


@dataclass(frozen=True)
class Dataset:
    """Training and held-out rows as tensors.

    ``y`` is a class index per row, or a column of numbers in units of ``target_unit``.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    features: tuple[str, ...]
    target: str
    task: Task
    classes: tuple[str, ...] = ()
    target_unit: float = 1.0
    notes: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The names of the groups, by column."""
    groups_train: Mapping[str, Tensor] = field(default_factory=dict)
    groups_test: Mapping[str, Tensor] = field(default_factory=dict)
    is_held_out: bool = True
    """Whether the test rows are others than those trained on."""

    @property
    def train(self) -> Rows:
        """The rows to train on."""
        return Rows(self.x_train, self.y_train, self.groups_train)

    @property
    def test(self) -> Rows:
        """The held-out rows."""
        return Rows(self.x_test, self.y_test, self.groups_test)

    @property
    def outputs(self) -> int:
        """How many numbers a network has to return for a row."""
        return len(self.classes) if self.task == "classification" else 1


def load_data(data: DataTable) -> Dataset:
    """The rows of ``[data]``, ready for training.

    Raises:
        InputError: the table cannot be used as asked; its key is seen from ``[data]``.
    """
    frame, target = read_frame(data)
    features, column = select_columns(frame, target, data)
    features, column, notes = drop_missing(features, column, data)
    groups, names_of_groups = _groups(frame.loc[features.index], data)
    train, test = _split(len(features), data)
    y, classes, unit = _target(column, train, data)
    encoded, more = encode(features)
    x, names, most = _scaled(encoded, train, data)
    notes += [*more, *most]
    if unit != 1:
        notes.append(f"{target} is measured in units of {unit:g}")
    held_out = f"{len(test)} held out" if data.test_share else "none held out"
    notes.append(f"{len(train)} rows to train on, {held_out}")
    return Dataset(
        x[train],
        y[train],
        x[test],
        y[test],
        names,
        target,
        "classification" if classes else "distribution" if data.task == "distribution" else "regression",
        classes,
        unit,
        tuple(notes),
        names_of_groups,
        {name: ids[train] for name, ids in groups.items()},
        {name: ids[test] for name, ids in groups.items()},
        data.test_share > 0,
    )


def _groups(frame: pd.DataFrame, data: DataTable) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
    """The number of each row's group, −1 where it has none, and the names of the groups."""
    ids, names = {}, {}
    for column in data.groups:
        codes, levels = pd.factorize(frame[column], sort=True)
        ids[column] = torch.from_numpy(np.asarray(codes, dtype="int64"))
        names[column] = tuple(str(level) for level in levels)
    return ids, names


def _split(rows: int, data: DataTable) -> tuple[Tensor, Tensor]:
    """Indices of the training rows and of the held-out ones; both all where none is held out."""
    if data.test_share == 0:
        return torch.arange(rows), torch.arange(rows)
    held_out = max(1, round(rows * data.test_share))
    if rows - held_out < 2:
        message = (
            f"{rows} usable row{'s' * (rows != 1)} cannot be split: at least 2 to train on and 1 to test."
        )
        raise InputError(message, key=("source",))
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(data.split_seed))
    return order[held_out:].sort().values, order[:held_out].sort().values


def _target(column: pd.Series[Any], train: Tensor, data: DataTable) -> tuple[Tensor, tuple[str, ...], float]:
    """The target as a tensor, the names of its classes, and its unit."""
    is_number = types.is_numeric_dtype(column) and not types.is_bool_dtype(column)
    if column.nunique() < 2:
        message = f'the target "{column.name}" is always {column.iloc[0]}: there is nothing to learn.'
        raise InputError(message, key=("target",))
    if data.task == "classification" or (data.task == "auto" and not is_number):
        return *_classes(column), 1.0
    if not is_number:
        raise InputError(_not_a_number(column), key=("task" if data.task != "auto" else "target",))
    values = torch.tensor(column.to_numpy("float64"))
    unit = _unit(values[train]) if data.target_unit == "auto" else data.target_unit
    return (values / unit).to(torch.get_default_dtype()).unsqueeze(1), (), unit


def _classes(column: pd.Series[Any]) -> tuple[Tensor, tuple[str, ...]]:
    codes, levels = pd.factorize(column, sort=True)
    if len(levels) > max(2, len(column) // 2):
        message = (
            f'the target "{column.name}" has {len(levels)} different values in {len(column)} rows, '
            'too many for classes. For numbers write task = "regression".'
        )
        raise InputError(message, key=("target",))
    return torch.from_numpy(np.asarray(codes, dtype="int64")), tuple(str(level) for level in levels)


def _not_a_number(column: pd.Series[Any]) -> str:
    wrong = column[pd.to_numeric(column, errors="coerce").isna()]
    example = f'"{wrong.iloc[0]}" in row {wrong.index[0] + 2}' if len(wrong) else f'"{column.iloc[0]}"'
    return (
        f'regression needs numbers, and the target "{column.name}" holds {example}. '
        'Repair it, or write task = "classification".'
    )


def _unit(values: Tensor) -> float:
    """The power of ten nearest the standard deviation."""
    deviation = float(values.std())
    return 10.0 ** round(math.log10(deviation)) if deviation > 0 else 1.0


def _scaled(frame: pd.DataFrame, train: Tensor, data: DataTable) -> tuple[Tensor, tuple[str, ...], list[str]]:
    """The features as a tensor, scaled by what the training rows show."""
    x = torch.tensor(frame.to_numpy("float64"))
    names = tuple(str(name) for name in frame.columns)
    lowest, highest = x[train].amin(0), x[train].amax(0)
    constant = lowest == highest
    notes = []
    if constant.any():
        which = [name for name, is_constant in zip(names, constant.tolist()) if is_constant]
        shown = ", ".join(which[:5]) + (", …" if len(which) > 5 else "")
        notes.append(f"{len(which)} features are constant on the training rows: {shown}")
    ones = torch.ones_like(lowest)
    if data.scaling == "standard":
        x = (x - x[train].mean(0)) / torch.where(constant, ones, x[train].std(0))
    elif data.scaling == "unit":
        x = (x - lowest) / torch.where(constant, ones, highest - lowest)
    if data.complement:
        x, names = torch.cat([x, 1 - x], dim=1), (*names, *(f"1 − {name}" for name in names))
    return x.to(torch.get_default_dtype()), names, notes
