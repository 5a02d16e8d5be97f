"""The page of a sweep: the settings in a table, the front, a plot for each parameter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tomlkit

from feasible.workbook.cells import Cell, is_numeric, read_cell, show
from feasible.workbook.page import PAGE, fill, write_html
from feasible.workbook.plots import Figure, Mark
from feasible.workbook.sections import Column
from feasible.workbook.sweep.configuration import Sweep
from feasible.workbook.sweep.figures import sweep_figures, sweep_marks
from feasible.workbook.sweep.results import Results, objective_label, reason, setting_words


@dataclass(frozen=True)
class SettingLine:
    """A row of the table."""

    label: str
    cells: list[Cell]
    mark: Mark | None
    is_best: bool
    is_on_front: bool
    problem: str
    """Why there are no, or not all, numbers; empty where all is well."""


@dataclass(frozen=True)
class SweepSection:
    """Everything that the page shows of a sweep."""

    anchor: str
    description: str
    objective: str
    seeds: str
    is_finished: bool
    findings: list[str]
    columns: list[Column]
    lines: list[SettingLine]
    marks: list[Mark]
    figures: list[Figure]
    configuration: str


def write_sweep_page(results: Results, folder: Path) -> Path:
    """Write ``report.html`` into the folder of a sweep; returns its path.

    Raises:
        InputError: it cannot be written there.
    """
    section = make_section(results)
    title = f"Sweep: {results.sweep.experiment.title or results.sweep.experiment.name}"
    text = fill("sweep.html.j2", title, bool(section.figures), section=section)
    write_html(folder / PAGE, text)
    return folder / PAGE


def make_section(results: Results) -> SweepSection:
    """The sweep, ready for the template."""
    sweep, shown = results.sweep, sweep_marks(results)
    seeds = len(sweep.seeds)
    return SweepSection(
        anchor="sweep",
        description=sweep.experiment.description,
        objective=objective_label(sweep),
        seeds=f"{seeds} seeds" if seeds > 1 else f"seed {sweep.seeds[0]}",
        is_finished=results.is_finished,
        findings=findings(results),
        columns=[Column(column["label"], column["help"], is_numeric(column)) for column in results.columns()],
        lines=_lines(results, {mark.variant: mark for mark in shown}),
        marks=shown,
        figures=sweep_figures(results, shown),
        configuration=configuration(sweep),
    )


def findings(results: Results) -> list[str]:
    """What a reader takes away, in sentences that follow from the numbers alone."""
    finished, label = results.finished, objective_label(results.sweep)
    feasible = [row for row in finished if row.is_feasible]
    said = []
    if results.best is not None:
        best = setting_words(results.sweep, results.best)
        value = show(results.best.objective, ".4g")
        said.append(f"Best among those that obey every rule: {best}; its {label} is {value}.")
    said.append(
        f"{len(finished)} of {results.sweep.count} settings have numbers; {len(feasible)} of them obeyed every rule on "
        f"every seed; {len(results.front())} are on the front."
    )
    failed = [row for row in results.rows if row.status in ("failed", "killed")]
    if failed:
        said.append(f"{len(failed)} failed, the first of them so: {reason(failed[0])}.")
    return said


def configuration(sweep: Sweep) -> str:
    """The sweep as a file that can be run: its experiment, every default written out, and the ``[sweep]`` table."""
    skipped = {"experiment", "storage", "seeds", "methods"}
    table = sweep.table.model_dump(exclude_none=True, exclude=skipped)
    table |= {"study": sweep.study, "methods": list(sweep.space.methods), "seeds": list(sweep.seeds)}
    return sweep.experiment.to_toml() + "\n" + tomlkit.dumps({"sweep": table})


def _lines(results: Results, by_method: dict[str, Mark]) -> list[SettingLine]:
    columns, best = results.columns(), results.best
    front = {row.place for row in results.front()}
    return [
        SettingLine(
            str(line["label"]),
            [read_cell(column, line) for column in columns],
            by_method.get(row.method),
            best is not None and row.place == best.place,
            row.place in front,
            "" if line["status"] == "finished" else str(line["status"]),
        )
        for row, line in zip(results.rows, results.table(), strict=True)
    ]
