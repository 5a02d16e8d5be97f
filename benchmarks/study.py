"""The 2019 study's problem: every row of its experiments, with errors, residuals and processor time.

Some hours in all, with ``pip install feasible[workbook]``. ``STUDY_SEEDS=3``: so many seeds (5);
``STUDY_ROWS=least-squares,solve``: only these rows; ``STUDY_EXPERIMENTS=helmholtz-projection``: other experiments than
the two with the Helmholtz equation.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .timing import Line

EXPERIMENTS = "helmholtz-training,helmholtz-projection"
SHOWN = {
    "test_metric": ("MSE", ".1e"),
    "residual": ("residual/k²", ".1e"),
    "output_rms": ("output RMS", ".3f"),
    "diversity": ("diversity", ".2f"),
    "query_error": ("error on other inputs", ".1e"),
    "seconds": ("CPU s", ".0f"),
}
BASELINES = {"least-squares": "least-squares-data", "outputs": "trained"}
"""Rows whose ratios to another one are told: the same network without the constraint."""
RATIOS = ("test_metric", "residual")
Found = list[Mapping[str, Any]]


def main() -> Iterator[Line]:
    """One line a row: medians over the seeds, with the smallest and largest error and residual.

    Raises:
        ImportError: the extra ``workbook`` is not installed.
    """
    from feasible.workbook.configuration import load_experiment
    from feasible.workbook.differential.work import DifferentialWork
    from feasible.workbook.progress import Silent

    chosen = [name for name in os.environ.get("STUDY_ROWS", "").split(",") if name]
    for name in os.environ.get("STUDY_EXPERIMENTS", EXPERIMENTS).split(","):
        experiment = load_experiment(name)
        work = DifferentialWork(experiment)
        found: dict[str, Found] = {}
        for variant in experiment.variants():
            if chosen and variant.name not in chosen:
                continue
            runs = [work.train(variant, seed, Silent()) for seed in range(seeds())]
            failed = [run.reason for run in runs if run.status != "finished"]
            found[variant.name] = [run.measurements for run in runs if run.status == "finished"]
            note = "; ".join([*told(found[variant.name]), *map(str, failed)])
            yield Line(f"{name}: {variant.label}", "none", note=note)
        for row, base in BASELINES.items():
            if found.get(row) and found.get(base):
                yield Line(f"{name}: {row}", base, note=gained(found[row], found[base]))


def seeds() -> int:
    """How many."""
    return int(os.environ.get("STUDY_SEEDS", "5"))


def told(runs: Found) -> Sequence[str]:
    """The medians, and the range where it matters."""
    if not runs:
        return []
    words = []
    for key, (name, form) in SHOWN.items():
        values = [float(run[key]) for run in runs]
        spread = f" ({min(values):{form}}–{max(values):{form}})" if key in RATIOS and len(values) > 1 else ""
        words.append(f"{name} {statistics.median(values):{form}}{spread}")
    return [", ".join(words) + f", {len(runs)} seeds"]


def gained(ours: Found, theirs: Found) -> str:
    """By which factors the medians fell."""
    factors = [
        statistics.median(run[key] for run in theirs) / statistics.median(run[key] for run in ours)
        for key in RATIOS
    ]
    return f"MSE ÷ {factors[0]:.0f}, residual ÷ {factors[1]:.0f}"
