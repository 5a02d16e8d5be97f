"""The comparison as a table that fits the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from feasible.workbook.cells import is_numeric, read_cell

GAP = 2
"""Characters between two columns."""
LABEL_WIDTH = 22
"""What the names of the methods can do with."""
WORDS_WIDTH = 12
"""What a column of words can do with."""

Columns = Sequence[Mapping[str, Any]]
Rows = Sequence[Mapping[str, Any]]


def comparison_table(
    columns: Columns, rows: Rows, width: int, best: str | None = None
) -> tuple[Table, list[str]]:
    """The comparison in ``width`` characters, and the labels of the columns that found no room.

    The spread over the seeds goes first, then columns from the right; the first one always stays.

    Args:
        columns: of ``result.json``.
        rows: of ``result.json``.
        width: of the terminal.
        best: the variant to mark.
    """
    labels = [_label(row, best) for row in rows]
    texts = [[str(read_cell(column, row)) for column in columns] for row in rows]
    if _width(columns, texts, labels) > width:
        texts = [[read_cell(column, row).text for column in columns] for row in rows]
    count = len(columns)
    while count > 1 and _width(columns[:count], texts, labels) > width:
        count -= 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    table.add_column("method", overflow="fold")
    for column in columns[:count]:
        table.add_column(Text(str(column["label"])), justify="right" if is_numeric(column) else "left")
    _set_widths(table, columns[:count], texts, labels, width)
    for row, label, line in zip(rows, labels, texts, strict=True):
        style = "bold green" if best is not None and row["variant"] == best else ""
        table.add_row(Text(label), *(Text(text) for text in line[:count]), style=style)
    return table, [str(column["label"]) for column in columns[count:]]


def _set_widths(
    table: Table, columns: Columns, texts: Sequence[Sequence[str]], labels: Sequence[str], width: int
) -> None:
    """Every column gets what it needs, and what is left over goes to names and words."""
    needed = _least(columns, texts, labels)
    wanted = [_longest(labels), *(_natural(columns, texts, index) for index in range(len(columns)))]
    spare = width - sum(needed) - GAP * (len(needed) - 1)
    for column, least, natural in zip(table.columns, needed, wanted, strict=True):
        extra = max(0, min(natural - least, spare))
        column.width = least + extra
        spare -= extra


def _width(columns: Columns, texts: Sequence[Sequence[str]], labels: Sequence[str]) -> int:
    needed = _least(columns, texts, labels)
    return sum(needed) + GAP * (len(needed) - 1)


def _least(columns: Columns, texts: Sequence[Sequence[str]], labels: Sequence[str]) -> list[int]:
    """The fewest characters that each column can be read in, the labels first."""
    least = [max(_foldable(labels, LABEL_WIDTH), len("method"))]
    for index, column in enumerate(columns):
        heading = _longest(str(column["label"]).split())
        body = [line[index] for line in texts]
        least.append(max(heading, _longest(body) if is_numeric(column) else _foldable(body, WORDS_WIDTH)))
    return least


def _foldable(texts: Sequence[str], width: int) -> int:
    """The width of a column whose texts may be folded, but no word of sensible length cut."""
    words = [word for text in texts for word in text.split()]
    return max(min(_longest(texts), width), min(_longest(words), 2 * width))


def _natural(columns: Columns, texts: Sequence[Sequence[str]], index: int) -> int:
    """The characters that a column of words would like; numbers want no more than they need."""
    if is_numeric(columns[index]):
        return 0
    return _longest([line[index] for line in texts])


def _longest(texts: Sequence[str]) -> int:
    return max((len(text) for text in texts), default=0)


def _label(row: Mapping[str, Any], best: str | None) -> str:
    star = "★ " if best is not None and row["variant"] == best else ""
    status = str(row.get("status", "finished"))
    problem = "" if status == "finished" else f" [{status}]"
    return f"{star}{row.get('label') or row['variant']}{problem}"
