"""What a terminal shows: tables that fit it, progress, and nothing that a pipe could choke on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from feasible.workbook.cells import show
from feasible.workbook.comparison_table import comparison_table

if TYPE_CHECKING:
    from feasible.workbook.check import Judgement
    from feasible.workbook.measurement import Finding


class PatientConsole(Console):
    """A console whose reader may go away: what it prints then is dropped, and the work goes on."""

    def on_broken_pipe(self) -> None:
        """Write to nowhere from now on; the exit code stays that of the command."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class Screen:
    """Where a command speaks: results on stdout, everything else on stderr.

    Args:
        quiet: no progress and no remarks; tables and errors remain.
        as_json: stdout carries one JSON document and nothing else.
    """

    def __init__(self, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet = quiet
        self.as_json = as_json
        self.out = PatientConsole(highlight=False, soft_wrap=False)
        self.err = PatientConsole(stderr=True, highlight=False)

    def show(self, *parts: Table | Text | str) -> None:
        """A result for people, on stdout."""
        if not self.as_json:
            for part in parts:
                self.out.print(_literal(part))

    def line(self, text: str) -> None:
        """One line of a result, never folded: a path stays a path."""
        if not self.as_json:
            self.out.print(Text(text), soft_wrap=True)

    def remark(self, text: str) -> None:
        """Something that is good to know, on stderr."""
        if not self.quiet:
            self.err.print(Text(text), soft_wrap=True)

    def heading(self, text: str) -> None:
        """The title of what follows."""
        self.show(Text(f"\n{text}", style="bold"))

    def listing(self, entries: Sequence[tuple[str, str]]) -> None:
        """Names with their descriptions."""
        if not self.out.is_terminal:
            width = max((len(name) for name, _ in entries), default=0)
            for name, description in entries:
                self.line(f"{name:<{width}}  {description}".rstrip())
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for name, description in entries:
            table.add_row(Text(name), Text(description))
        self.show(table)

    def comparison(
        self,
        columns: Sequence[Mapping[str, Any]],
        rows: Sequence[Mapping[str, Any]],
        best: str | None = None,
    ) -> None:
        """The comparison table, as it fits, and what it leaves out."""
        table, left_out = comparison_table(columns, rows, self.out.width, best)
        self.show(table)
        if best is not None:
            self.show("★ best method among those that obey every rule on every seed")
        if left_out:
            self.show(f"Not shown at this width: {', '.join(left_out)}.")

    def violations(self, judgements: Sequence[Judgement]) -> None:
        """The worst entries of every rule that a tensor breaks."""
        for judgement in judgements:
            finding = judgement.finding
            if not finding.feasible:
                self.heading(_headline(finding))
                table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
                table.add_column("entry", overflow="fold")
                table.add_column("value", justify="right")
                table.add_column("outside by", justify="right")
                for outlier in judgement.outliers:
                    place = f"{finding.tensor}[{', '.join(map(str, outlier.index))}]"
                    table.add_row(Text(place), show(outlier.value, ".6g"), show(outlier.distance, ".3g"))
                self.show(table)

    def document(self, content: Mapping[str, Any] | Sequence[Any]) -> None:
        """The result for programs, on stdout."""
        if self.as_json:
            text = json.dumps(_finite(content), indent=2, ensure_ascii=False)
            self.out.print(Text(text), soft_wrap=True)


def _headline(finding: Finding) -> str:
    share = f"{finding.share:.1%} of {finding.units:,}"
    return f"{finding.tensor} breaks {finding.rule}: {share} outside, worst by {show(finding.worst, '.3g')}"


def _literal(part: Table | Text | str) -> Table | Text:
    """Nothing in a text is markup."""
    return Text(part) if isinstance(part, str) else part


def _finite(value: Any) -> Any:
    """JSON has no infinities: they are written as ``null``."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
