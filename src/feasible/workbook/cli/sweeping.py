"""``feasible sweep``: from what was typed to a table of settings and its page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from feasible.workbook.cells import show
from feasible.workbook.cli import ExitCode
from feasible.workbook.cli.folders import RUNS, check_writable
from feasible.workbook.comparison_table import comparison_table
from feasible.workbook.display import Screen
from feasible.workbook.storage import write_text
from feasible.workbook.sweep.configuration import Sweep, load_sweep
from feasible.workbook.sweep.page import write_sweep_page
from feasible.workbook.sweep.results import Results, Row, objective_label, reason, setting_words
from feasible.workbook.sweep.runner import Told, run_sweep

SHOWN = 20
"""Settings in the table of a terminal; the page has all."""


class Remarks(Told):
    """Says on stderr how a sweep goes."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def began(self, ended: int, count: int) -> None:
        """Silent where the sweep is new."""
        if ended:
            self._screen.remark(f"{ended} of {count} settings are there already.")

    def finished(self, sweep: Sweep, row: Row, ended: int) -> None:
        """A line a setting."""
        if row.objective is None:
            said = f"failed: {reason(row)}"
        else:
            obeys = "feasible" if row.is_feasible else f"violation {show(row.violation, '.2g')}"
            said = f"{show(row.objective, '.4g')}, {obeys}"
        self._screen.remark(f"[{ended}/{sweep.count}] {setting_words(sweep, row)}: {said}")

    def waits(self, running: int) -> None:
        """So that nobody wonders."""
        self._screen.remark(
            f"Waiting for {running} {'trial' if running == 1 else 'trials'} of other workers."
        )


def sweep_file(
    file: str, storage: str | None, out: Path | None, settings: Sequence[str], screen: Screen
) -> int:
    """Run or go on with a sweep, show what all its workers have found, write the page."""
    sweep = load_sweep(file, settings)
    folder = out or RUNS / f"{sweep.study}-sweep"
    check_writable(folder)
    results = run_sweep(sweep, folder, storage, Remarks(screen))
    page = write_sweep_page(results, folder)
    document = {"sweep": str(folder), "report": str(page), **results.document()}
    write_text(folder / "sweep.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    screen.document(document)
    _show(results, page, screen)
    if results.is_finished:
        return ExitCode.FINE
    screen.remark("Interrupted: what finished is kept. The same command goes on.")
    return ExitCode.INTERRUPTED


def _show(results: Results, page: Path, screen: Screen) -> None:
    sweep, best = results.sweep, results.best
    screen.heading(f"{sweep.experiment.title or sweep.name}: {objective_label(sweep)}, best feasible first")
    columns, rows = results.columns(), results.table()
    marked = None if best is None else str(best.place)
    table, left_out = comparison_table(columns, rows[:SHOWN], screen.out.width, marked)
    screen.show(table)
    if best is not None:
        screen.show("★ best setting that obeys every rule on every seed")
    if left_out:
        screen.show(f"Not shown at this width: {', '.join(left_out)}.")
    if len(rows) > SHOWN:
        screen.show(f"And {len(rows) - SHOWN} more settings: see the report.")
    screen.line(f"Report: {page}")
