"""Small sweeps, and workers of them in processes of their own."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

EXPERIMENT = """\
title = "Small"

[data]
source = "wine"

[model]
hidden = [3]

[[constraints]]
name = "positive"
weights = "*.weight"
set = "NonNegative"

[methods.project]
label = "projection"
by = "Project"

[methods.penalty]
by = { name = "Penalty", weight = 1.0 }

[budget]
seeds = 2
epochs = 1
"""

GRID = """
[sweep]
heartbeat = 1

[sweep.parameters]
"training.learning_rate" = [0.001, 0.01, 0.1]
methods.penalty.by.weight = [1.0, 10.0]
"""

WORKER = """
import sys, time
from pathlib import Path
from feasible.workbook.sweep import worker
from feasible.workbook.sweep.configuration import load_sweep
from feasible.workbook.sweep.runner import run_sweep

file, folder, url, seconds = sys.argv[1:]
train = worker.run_trial

def slowly(*arguments):
    time.sleep(float(seconds))
    return train(*arguments)

worker.run_trial = slowly
sweep = load_sweep(file)
(Path(folder).parent / (Path(folder).name + ".ready")).touch()
while not (Path(folder).parent / "go").exists():
    time.sleep(0.02)
results = run_sweep(sweep, Path(folder), url)
print(len(results.finished))
"""


def write_sweep(folder: Path, table: str = GRID, experiment: str = EXPERIMENT) -> Path:
    """A sweep file."""
    path = folder / "small.toml"
    path.write_text(experiment + table, encoding="utf-8")
    return path


def start_worker(file: Path, folder: Path, url: str, seconds: float) -> subprocess.Popen[str]:
    """A worker that waits for the file ``go`` beside its folder, and pauses before each trial."""
    words = [sys.executable, "-c", WORKER, str(file), str(folder), url, str(seconds)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Look again and again."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.05)
