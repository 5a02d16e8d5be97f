"""A small run directory, written by hand in the documented format."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

CONFIGURATION = """\
name = "positive-example"
title = "Positive weights <b>&</b> more"
description = "A small network whose weights must not be negative."

[data]
source = "digits"

[model]
hidden = [4]

[[constraints]]
name = "weights"
weights = "*.weight"
set = "NonNegative"

[[constraints]]
value = "prediction"
set = { name = "Box", lower = 0.0, upper = 10.0 }

[methods.project]
by = "Project"

[methods.penalty]
by = { name = "Penalty", weight = 10.0 }

[budget]
seeds = 2
epochs = 5
"""

COLUMNS = [
    {"key": "test_metric", "label": "test accuracy", "help": "Share of held-out digits.", "format": ".1%"},
    {"key": "worst_violation", "label": "worst violation", "help": "0: every rule holds.", "format": ".2g"},
    {"key": "feasible", "label": "feasible", "help": "Runs that obey every rule.", "format": "text"},
    {"key": "milliseconds_per_step", "label": "ms/step", "help": "Median time.", "format": ".2f"},
    {"key": "guarantee", "label": "guarantee", "help": "What is certain, and where.", "format": "text"},
]

VARIANTS = {
    "unconstrained": ("unconstrained", 0.97, 0.8, 0.41, "none: the rules were only measured"),
    "project": ("projection", 0.94, 0.0, 0.52, "every weight ≥ 0, exactly"),
    "penalty": ("penalty, weight 10", 0.95, 2e-4, 0.47, "encouraged: no guarantee"),
    "broken": ("barrier <x>", None, None, None, ""),
}


@pytest.fixture
def write_run() -> Callable[..., Path]:
    """Writes a run of three methods over two seeds, and of one method that failed, into a folder."""
    return write_example


@pytest.fixture
def example_run(tmp_path: Path) -> Path:
    """Such a run."""
    return write_example(tmp_path / "example")


def write_example(folder: Path, name: str = "positive-example", finished: bool = True) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(CONFIGURATION, encoding="utf-8")
    environment = {"python": "3.13.1", "torch": "2.13.0", "feasible": "0.1.0", "seeds": [0, 1]}
    (folder / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    runs = [_run(folder, variant, seed) for variant in VARIANTS for seed in (0, 1)]
    result = {
        "experiment": name,
        "title": "Positive weights <b>&</b> more",
        "description": "A small network whose weights must not be negative.",
        "metric": {"name": "test accuracy", "higher_is_better": True},
        "data": {"source": "digits", "train_rows": 1437, "test_rows": 360, "notes": ["dropped 3 rows"]},
        "columns": COLUMNS,
        "rows": [_row(variant) for variant in VARIANTS],
        "runs": runs,
        "finished": finished,
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    _write_history(folder / "history.csv")
    return folder


def _row(variant: str) -> dict:
    label, metric, violation, milliseconds, guarantee = VARIANTS[variant]
    if metric is None:
        return {"variant": variant, "label": label, "seeds": 0, "status": "failed: no interior point"}
    return {
        "variant": variant,
        "label": label,
        "seeds": 2,
        "status": "finished",
        "test_metric": {"median": metric, "min": metric - 0.01, "max": metric + 0.01},
        "worst_violation": {"median": violation, "min": violation, "max": violation},
        "feasible": "2 of 2" if violation == 0 else "0 of 2",
        "milliseconds_per_step": {"median": milliseconds, "min": milliseconds, "max": milliseconds},
        "guarantee": guarantee,
    }


def _run(folder: Path, variant: str, seed: int) -> dict:
    label, metric, violation, milliseconds, guarantee = VARIANTS[variant]
    failed = metric is None
    if not failed:
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(4, 3, generator=generator)
        weights = weights if variant == "unconstrained" else weights.clamp_min(0)
        place = folder / "runs" / variant / str(seed)
        place.mkdir(parents=True)
        save_file({"hidden1.weight": weights, "hidden1.bias": torch.zeros(4)}, place / "model.safetensors")
    return {
        "variant": variant,
        "label": label,
        "seed": seed,
        "status": "failed" if failed else "finished",
        "reason": "no interior point" if failed else None,
        "test_metric": None if failed else metric + 0.01 * (2 * seed - 1),
        "worst_violation": violation,
        "test_worst_violation": None,
        "feasible": violation == 0,
        "test_feasible": None,
        "milliseconds_per_step": milliseconds,
        "guarantees": [guarantee],
        "report": None if failed else _report(violation, guarantee),
    }


def _report(violation: float, guarantee: str) -> dict:
    return {
        "rows": [
            {
                "name": "weights",
                "target": "hidden1.weight",
                "set": "NonNegative()",
                "method": "Project()",
                "guarantee": guarantee,
                "worst_violation": violation,
                "active_share": 0.41,
                "multiplier": None,
                "shadow_price": 0.002,
                "diagnosis": "holds <exactly>",
            }
        ]
    }


def _write_history(path: Path) -> None:
    keys = ["variant", "seed", "epoch", "train_loss", "test_loss", "test_metric", "worst_violation"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*keys, "test_worst_violation"])
        writer.writeheader()
        for variant, (_, metric, violation, *_rest) in VARIANTS.items():
            for seed in (0, 1) if metric is not None else ():
                for epoch in range(1, 6):
                    loss = 2.0 * math.exp(-0.4 * epoch) + 0.01 * seed
                    row = [variant, seed, epoch, loss, loss * 1.1, metric - 0.1 / epoch]
                    row += [violation if epoch > 2 else violation * 3, ""]
                    writer.writerow(dict(zip([*keys, "test_worst_violation"], row, strict=True)))
