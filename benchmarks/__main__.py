"""Run the benchmarks that are named, or all."""

from __future__ import annotations

import platform
import sys

import torch

from . import multipliers, projection

ALL = {"projection": projection.main, "multipliers": multipliers.main}


def main(names: list[str]) -> None:
    """Print one line a ratio."""
    unknown = [name for name in names if name not in ALL]
    if unknown:
        sys.exit(f"unknown benchmark {unknown[0]!r}; there are: {', '.join(ALL)}")
    print(f"torch {torch.__version__}, {platform.machine()}, Python {platform.python_version()}\n")
    for name in names or ALL:
        print(name)
        for text in ALL[name]():
            print("  " + text, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
