"""``feasible demo``: three experiments in about a minute, and one page over all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feasible.workbook.cli import ExitCode
from feasible.workbook.cli.execution import Outcome, Request, execute
from feasible.workbook.cli.folders import choose_folder
from feasible.workbook.display import Screen
from feasible.workbook.page import PAGE, write_page_of

EXPERIMENTS = ("positive-weights", "range", "positive-outputs")
TITLE = "Neural networks under constraints: three experiments"


def demonstrate(screen: Screen, out: Path | None) -> int:
    """Run the experiments one after the other; an interruption keeps what finished."""
    folder = choose_folder("demo", out, resume=False)
    outcomes: list[Outcome] = []
    for number, name in enumerate(EXPERIMENTS, start=1):
        screen.remark(f"{number} of {len(EXPERIMENTS)}: {name}")
        outcome = execute(Request(name, quick=True, out=folder / name), screen)
        outcomes.append(outcome)
        screen.heading(outcome.run.title)
        screen.comparison(outcome.run.result["columns"], outcome.run.rows, outcome.run.best_feasible())
        if not outcome.run.is_finished:
            break
    page = write_page_of([outcome.run.path for outcome in outcomes], folder / PAGE, TITLE)
    screen.document(_document(outcomes, page))
    screen.line(f"Report: {page.absolute()}")
    if all(outcome.run.is_finished for outcome in outcomes):
        return ExitCode.FINE
    screen.remark("Interrupted: the page shows what had finished.")
    return ExitCode.INTERRUPTED


def _document(outcomes: list[Outcome], page: Path) -> dict[str, Any]:
    return {"report": str(page), "runs": [outcome.to_dict() for outcome in outcomes]}
