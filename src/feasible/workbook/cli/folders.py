"""Where a run is written: a new folder, or one whose run goes on."""

from __future__ import annotations

import os
import re
from pathlib import Path

from feasible.workbook.errors import InputError
from feasible.workbook.run_directory import holds_run

RUNS = Path("runs")
"""The parent of all runs without ``--out``."""


def choose_folder(name: str, out: Path | None, resume: bool) -> Path:
    """The folder of a run: ``out``, the next number under ``./runs``, or with ``resume`` the last one.

    Raises:
        InputError: the folder is taken, cannot be written, or holds nothing to resume.
    """
    if out is None:
        folder = _last(name) if resume else _next(name)
    else:
        folder = out
        _check_given(folder, resume)
    check_writable(folder)
    return folder


def _check_given(folder: Path, resume: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError("this is a file; --out needs a folder.", str(folder))
    if resume:
        if not holds_run(folder):
            raise InputError("there is no run to resume.", str(folder))
    elif holds_run(folder):
        raise InputError(
            "this folder already holds a run; go on with --resume or choose another.", str(folder)
        )
    elif folder.is_dir() and any(folder.iterdir()):
        raise InputError("this folder holds other files; choose a new or an empty one.", str(folder))


def check_writable(folder: Path) -> None:
    """Asked before anything is trained: nobody wants to hear it afterwards."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise InputError(f"cannot be made: {existing} is a file.", str(folder))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"cannot be written: no permission in {existing}.", str(folder))


def _numbered(name: str) -> dict[int, Path]:
    pattern = re.compile(rf"{re.escape(name)}-(\d+)")
    folders = RUNS.iterdir() if RUNS.is_dir() else iter(())
    found = {folder: pattern.fullmatch(folder.name) for folder in folders}
    return {int(match[1]): folder for folder, match in found.items() if match}


def _next(name: str) -> Path:
    return RUNS / f"{name}-{max(_numbered(name), default=0) + 1}"


def _last(name: str) -> Path:
    taken = {number: folder for number, folder in _numbered(name).items() if holds_run(folder)}
    if not taken:
        raise InputError(f"there is no run of {name} to resume; name its folder with --out.", str(RUNS))
    return taken[max(taken)]
