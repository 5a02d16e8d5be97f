"""Run the benchmarks that are named, or all; write their table."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from . import (
    anneal,
    bounded,
    burgers,
    derivatives,
    exact_multipliers,
    large_systems,
    least_squares,
    minimize,
    multipliers,
    projection,
    projection_of_parameters,
    search,
    sets,
    step_costs,
    study,
    unit_rows,
)
from .timing import Line

ALL = {
    "projection": projection.main,
    "projection_of_parameters": projection_of_parameters.main,
    "sets": sets.main,
    "unit_rows": unit_rows.main,
    "multipliers": multipliers.main,
    "minimize": minimize.main,
    "anneal": anneal.main,
    "search": search.main,
    "least_squares": least_squares.main,
    "bounded": bounded.main,
    "derivatives": derivatives.main,
    "exact_multipliers": exact_multipliers.main,
    "step_costs": step_costs.main,
}
SEPARATE = {"study": study.main, "burgers": burgers.main, "large_systems": large_systems.main}
"""Hours: only where it is named."""
KNOWN = ALL | SEPARATE
PEERS = (
    *("numpy", "scipy", "jax", "optax", "jaxopt", "chop-pytorch", "geoopt", "torchao"),
    *("cooper-optim", "humancompatible-train", "mdmm"),
)

PAGE = """# Benchmarks

Written by `python -m benchmarks --write docs/benchmarks.md`; `make benchmarks` installs the peers and prints the same
lines. Both sides of a row ran together. A number is the time of `feasible` over the time of the peer: below 1,
`feasible` is faster. All are medians of pairs that take turns, in process time and on one thread, with the quartiles
beside them: read the ratios, not the times, and expect others on another machine. Where a goal was set, it is named,
and where it was missed that is said. Compilation of JAX and conversions of its inputs are not counted. Errors are
against the textbook's algorithm in float64. chop projects vectors, so it is called row by row, and it is loaded
without torchvision, which it needs for its examples alone; scipy's isotonic regression takes one row at a time, too.

{machine}

| work | peer | ratio | quartiles | goal | |
|---|---|---:|---:|---:|---|
{rows}
"""


def main() -> None:
    """Print one line a ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(ALL)}, which are the default; or study"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page for the docs")
    chosen = parser.parse_args()
    for name in chosen.names:
        if name not in KNOWN:
            parser.error(f"unknown benchmark {name!r}; there are: {', '.join(KNOWN)}")
    print(machine() + "\n")
    lines: list[Line] = []
    for name in chosen.names or ALL:
        print(name)
        for line in KNOWN[name]():
            lines.append(line)
            print(f"  {line}", flush=True)
    if chosen.write:
        rows = "\n".join(line.row() for line in lines)
        chosen.write.write_text(PAGE.format(machine=machine(), rows=rows), encoding="utf-8")


def machine() -> str:
    """What it ran on, and with which peers."""
    system = f"{os.cpu_count()} cores ({platform.machine()}), one thread, no GPU in use"
    peers = ", ".join(f"{name} {found}" for name in PEERS if (found := installed(name)))
    return f"{system}; Python {platform.python_version()}, torch {torch.__version__}; {peers}."


def installed(name: str) -> str | None:
    """The version of a package, if it is there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
