"""The command line: ``feasible list``, ``show``, ``run``, ``sweep``, ``compare``, ``report``, ``check``, ``demo``.

This module is the border: what a user did wrong leaves here as one sentence and an exit code, never as a
traceback. It imports nothing that is not there without the extra.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from enum import IntEnum
from io import TextIOWrapper

EXTRA = {
    "cyclopts": "cyclopts",
    "jinja2": "jinja2",
    "markupsafe": "jinja2",
    "optuna": "optuna",
    "pandas": "pandas",
    "plotly": "plotly",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "pydantic_core": "pydantic",
    "rich": "rich",
    "sklearn": "scikit-learn",
    "sqlalchemy": "optuna",
    "tomlkit": "tomlkit",
}
"""The modules of the extra ``workbook``, and the packages that bring them."""


class ExitCode(IntEnum):
    """What the shell is told."""

    FINE = 0
    BROKEN_RULE = 1
    BAD_INPUT = 2
    BUG = 70
    INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ≥ shows ? and no traceback
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        return _complain("interrupted.", ExitCode.INTERRUPTED)
    except ModuleNotFoundError as error:
        package = EXTRA.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        sentence = f'{package} is not installed; the command line needs: pip install "feasible[workbook]"'
        return _complain(sentence, ExitCode.BAD_INPUT)


def _run(arguments: list[str]) -> int:
    from cyclopts import CycloptsError

    from feasible.workbook.cli.app import app
    from feasible.workbook.errors import InputError

    try:
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        error.verbose = False
        sentence = " ".join(str(error).split())
        return _complain(f"{sentence} See feasible --help.", ExitCode.BAD_INPUT)
    except InputError as error:
        return _complain(str(error), ExitCode.BAD_INPUT)
    except OSError as error:
        if error.errno is None:
            return _report_bug()
        place = f"{error.filename}: " if error.filename else ""
        return _complain(f"{place}{error.strerror}.", ExitCode.BAD_INPUT)
    except Exception:
        return _report_bug()
    return int(result or ExitCode.FINE)


def _report_bug() -> int:
    traceback.print_exc()
    return _complain("this is a bug in feasible, not in what you typed; please report it.", ExitCode.BUG)


def _complain(sentence: str, code: ExitCode) -> int:
    print(f"feasible: {sentence}", file=sys.stderr)
    return int(code)
