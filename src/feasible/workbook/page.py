"""The report page: one HTML file with its plots, that opens without a network."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from feasible import __version__
from feasible.workbook.errors import InputError
from feasible.workbook.plots import Figure
from feasible.workbook.run_directory import read_run
from feasible.workbook.sections import make_section

PAGE = "report.html"
_TEMPLATES = Path(__file__).parent / "templates"


def write_page(run_directory: str | Path) -> Path:
    """Write ``report.html`` into a run directory, from its files alone; returns its path.

    Raises:
        InputError: this is not the folder of a run, or the page cannot be written there.
    """
    folder = Path(run_directory)
    return write_page_of([folder], folder / PAGE)


def write_page_of(run_directories: Sequence[str | Path], path: str | Path, title: str | None = None) -> Path:
    """Write one page over several runs; returns its path.

    Raises:
        InputError: a folder holds no run, or the page cannot be written.
    """
    target = Path(path)
    write_html(target, render([Path(folder) for folder in run_directories], title))
    return target


def render(run_directories: Sequence[Path], title: str | None = None) -> str:
    """The page as text."""
    sections = [make_section(read_run(folder), index) for index, folder in enumerate(run_directories)]
    has_plots = any(section.figures for section in sections)
    name = title or " · ".join(section.title for section in sections)
    return fill("report.html.j2", name, has_plots, sections=sections)


def fill(template: str, title: str, has_plots: bool, **content: Any) -> str:
    """A page of the templates, complete with style, script and, where it has plots, plotly."""
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            version=__version__,
            style=_asset("style.css"),
            script=_asset("report.js"),
            plotly=_plotly() if has_plots else Markup(),
            **content,
        )
    )


def write_html(target: Path, text: str) -> None:
    """Write a page in one go.

    Raises:
        InputError: it cannot be written there.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_atomically(target, text)
    except OSError as error:
        raise InputError(f"the page cannot be written: {error.strerror}.", str(target)) from None


def figure_json(figure: Figure) -> Markup:
    """A figure for a script element: nothing in it can end the element."""
    text = json.dumps({"data": figure.data, "layout": figure.layout}, ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def prose(text: str) -> Markup:
    """A description with its *emphasis* and `code`; everything else in it is plain text.

    >>> prose("*Never* <below> `0`")
    Markup('<em>Never</em> &lt;below&gt; <code>0</code>')
    """
    marked = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*(\w[^*\n]*\w|\w)\*", r"<em>\1</em>", marked))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("feasible.workbook"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(figure_json=figure_json, prose=prose)
    return environment


def _asset(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


@cache
def _plotly() -> Markup:
    return Markup(get_plotlyjs())


def _write_atomically(target: Path, text: str) -> None:
    """A reader sees the old page or the new one, never half of it."""
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
