"""The commands. Each reads its input, lets the workbook do the work, and shows the result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from feasible import __version__
from feasible.workbook.cli import ExitCode
from feasible.workbook.display import PatientConsole, Screen

app = App(
    name="feasible",
    help="Train neural networks under constraints, compare the methods, see the proof.",
    help_epilogue="Exit codes: 0 fine, 1 a rule is broken, 2 bad usage or input, 130 interrupted.",
    version=__version__,
    console=PatientConsole(),
    suppress_keyboard_interrupt=False,
)

Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="No progress and no remarks.")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="One JSON document on stdout.")]
Out = Annotated[
    Path | None, Parameter(name=["--out", "-o"], help="A new folder (default: a number in ./runs).")
]


@app.command(name="list")
def list_(
    what: Annotated[
        Literal["experiments", "sets", "methods", "equations", "networks", "ways"],
        Parameter(help="What to list."),
    ] = "experiments",
    *,
    as_json: AsJson = False,
) -> int:
    """List the experiments that can be run, or what a TOML file can name: sets, methods, equations, networks, ways."""
    from feasible.workbook.cli.catalogue import catalogue

    screen = Screen(as_json=as_json)
    entries = catalogue(what)
    screen.document([{"name": entry.name, "description": entry.description} for entry in entries])
    screen.listing([(entry.name, entry.description) for entry in entries])
    return ExitCode.FINE


@app.command
def show(name: Annotated[str, Parameter(help="A name of `feasible list`.")], /) -> int:
    """Print the TOML file of an experiment: feasible show own-table > own.toml."""
    from feasible.workbook.configuration import experiment_file

    Screen().line(experiment_file(name).read_text(encoding="utf-8").rstrip())
    return ExitCode.FINE


@app.command
def run(
    experiment: Annotated[str, Parameter(help="A name of `feasible list`, or a TOML file.")],
    /,
    *,
    seeds: Annotated[int | None, Parameter(help="How many seeds, counted from 0.")] = None,
    out: Out = None,
    settings: Annotated[
        list[str] | None, Parameter(name="--set", negative="", help="key=value: override the TOML file.")
    ] = None,
    resume: Annotated[bool, Parameter(negative="", help="Go on with an interrupted run.")] = False,
    quick: Annotated[bool, Parameter(negative="", help="The small budget of a first look.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Train every method of an experiment, compare them, write report.html."""
    from feasible.workbook.cli.execution import Request, execute

    request = Request(experiment, tuple(settings or ()), seeds, quick, resume, out)
    screen = Screen(quiet, as_json)
    outcome = execute(request, screen)
    screen.document(outcome.to_dict())
    outcome.show(screen)
    if outcome.run.is_finished:
        return ExitCode.FINE
    screen.remark(f"Interrupted: what finished is kept. Go on with: {outcome.resume_command}")
    return ExitCode.INTERRUPTED


@app.command
def sweep(
    file: Annotated[str, Parameter(help="A TOML file with a [sweep] table.")],
    /,
    *,
    storage: Annotated[
        str | None,
        Parameter(help="The URL of a database that workers share (default: SQLite in the folder)."),
    ] = None,
    out: Annotated[
        Path | None, Parameter(name=["--out", "-o"], help="The sweep's folder (default: one in ./runs).")
    ] = None,
    settings: Annotated[
        list[str] | None, Parameter(name="--set", negative="", help="key=value: override the TOML file.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Try a grid or a search of settings; the same command joins a sweep, and goes on with it."""
    from feasible.workbook.cli.sweeping import sweep_file

    return sweep_file(file, storage, out, settings or (), Screen(quiet, as_json))


@app.command
def compare(
    runs: Annotated[list[Path], Parameter(help="Folders of runs.", negative="")],
    /,
    *,
    as_json: AsJson = False,
) -> int:
    """Show several runs in one table."""
    from feasible.workbook.comparison import compare_runs
    from feasible.workbook.run_directory import read_run

    screen = Screen(as_json=as_json)
    for folder in runs:
        read_run(folder)
    compared = compare_runs(runs)
    screen.document(compared)
    screen.comparison(compared["columns"], compared["rows"])
    return ExitCode.FINE


@app.command
def report(
    runs: Annotated[list[Path], Parameter(help="Folders of runs.", negative="")],
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"], help="The HTML file.")] = None,
    as_json: AsJson = False,
) -> int:
    """Write report.html again, or one page over several runs, and print its path."""
    from feasible.workbook.errors import InputError
    from feasible.workbook.page import PAGE, write_page_of

    if out is None and len(runs) > 1:
        raise InputError("one page over several runs needs a file name: --out page.html.")
    screen = Screen(as_json=as_json)
    page = write_page_of(runs, out or runs[0] / PAGE)
    screen.document({"report": str(page)})
    screen.line(str(page))
    return ExitCode.FINE


@app.command
def check(
    checkpoint: Annotated[Path, Parameter(help="A .safetensors, .pt or .pth file of a state dict.")],
    rules: Annotated[Path, Parameter(help="A TOML file of [[constraints]], such as an experiment's.")],
    /,
    *,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Say whether a checkpoint obeys rules; exit 1 if not, with the worst entries."""
    from feasible.workbook.check import check as check_checkpoint

    screen = Screen(quiet, as_json)
    verdict = check_checkpoint(checkpoint, rules)
    screen.document(verdict.to_dict())
    if not verdict.is_feasible:
        screen.violations(verdict.judgements)
    screen.line(verdict.guarantee)
    for name in verdict.unchecked:
        screen.remark(f"Not checked: {name}, a rule about outputs; a checkpoint holds weights only.")
    return ExitCode.FINE if verdict.is_feasible else ExitCode.BROKEN_RULE


@app.command
def demo(*, out: Out = None, quiet: Quiet = False, as_json: AsJson = False) -> int:
    """Train three experiments with small budgets and write one page over all of them."""
    from feasible.workbook.cli.demo import demonstrate

    return demonstrate(Screen(quiet, as_json), out)
