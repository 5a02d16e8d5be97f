"""Run directories of a differential equation, written by hand in the documented format."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

X, T = np.linspace(0, 1, 7), np.linspace(0, 2, 5)
ERRORS = {"adam": (0.1, 0.2), "solve": (1e-9, 2e-9), "zero": (1.0, 1.0)}
"""Of two seeds."""


def write_run(folder: Path, axes: dict[str, np.ndarray], outputs: int = 1) -> Path:
    """Three ways over two seeds: one that steps, one that solves at once, and u = 0."""
    (folder / "runs").mkdir(parents=True)
    (folder / "config.toml").write_text('name = "hand"\ntolerance = 0.05\nequation = "HelmholtzLine"\n')
    runs = [_run(variant, seed) for variant in ERRORS for seed in (0, 1)]
    columns = [
        {"key": "test_metric", "label": "relative error", "format": ".2g"},
        {"key": "residual", "label": "residual", "format": ".2g"},
        {"key": "guarantee", "label": "it says", "format": "text"},
    ]
    rows = [
        {
            "variant": variant,
            "label": f"way <{variant}>",
            "status": "finished",
            "test_metric": {"median": sum(errors) / 2, "min": min(errors), "max": max(errors)},
            "guarantee": "encouraged",
        }
        for variant, errors in ERRORS.items()
    ]
    result = {
        "experiment": "hand",
        "metric": {"name": "relative error", "higher_is_better": False},
        "unit": "epoch",
        "data": {"equation": "Hand()", "axes": list(axes), "rows": {"equation": 9}, "held_out_points": 1234},
        "columns": columns,
        "rows": rows,
        "runs": runs,
        "finished": True,
    }
    (folder / "result.json").write_text(json.dumps(result))
    keys = "variant,seed,epoch,seconds,test_metric,residual,output_rms"
    lines = [
        f"{variant},{seed},{epoch},{0.1 * epoch},{error * (1 + 1 / (epoch + 1))},{error},{0.7}"
        for variant, errors in ERRORS.items()
        for seed, error in enumerate(errors)
        for epoch in range(2 if variant == "solve" else 6)
    ]
    (folder / "history.csv").write_text("\n".join([keys, *lines]) + "\n")
    for variant, errors in ERRORS.items():
        for seed, error in enumerate(errors):
            place = folder / "runs" / variant / str(seed)
            place.mkdir(parents=True)
            looks = 2 if variant == "solve" else 6
            save_file(records(axes, outputs, error, looks), place / "records.safetensors")
    return folder


def _run(variant: str, seed: int) -> dict:
    error = ERRORS[variant][seed]
    residual = 0.0 if variant == "zero" else error / 10
    return {
        "variant": variant,
        "label": f"way <{variant}>",
        "seed": seed,
        "status": "finished",
        "reason": None,
        "test_metric": error,
        "residual": residual,
        **{f"residual_{q}": residual * q / 50 for q in (50, 90, 99, 100)},
        "train_residual": residual / 2,
        "output_rms": 0.0 if variant == "zero" else 0.7,
        "reference_rms": 0.7,
        "feasible": variant != "zero",
        "test_feasible": None,
        "seconds": 4.0,
        "sections": {"solve": 3.0} if variant == "solve" else {"rows": 1.0, "step": 2.0},
        "milliseconds_per_epoch": None if variant == "solve" else 2.0,
        "guarantees": ["encouraged"],
    }


def reference(axes: dict[str, np.ndarray], outputs: int) -> np.ndarray:
    """x₀ + 10 x₁ + 100 output, the last coordinate fastest, (points, outputs)."""
    grid = np.stack(np.meshgrid(*axes.values(), indexing="ij"), -1).reshape(-1, len(axes))
    return grid @ 10.0 ** np.arange(len(axes))[:, None] + 100 * np.arange(outputs)


def records(axes: dict[str, np.ndarray], outputs: int, error: float, looks: int) -> dict[str, np.ndarray]:
    true = reference(axes, outputs)
    epochs = np.arange(looks, dtype=np.float32)
    percentiles = np.linspace(-1, 1, 101)[None] / (1 + epochs[:, None])
    nothing = np.full((1, 101), np.nan)
    gradients = np.concatenate([nothing, percentiles[1:]])
    return {
        **{f"axis{number}": nodes for number, nodes in enumerate(axes.values())},
        "solution": true + error,
        "reference": true,
        "residual": np.full((len(true), 2), error),
        "epochs": epochs,
        "predictions": np.stack([true * look / looks for look in range(1, looks + 1)]),
        "percentiles.residual": percentiles,
        "percentiles.size of the residual": abs(percentiles),
        "percentiles.parameters": percentiles,
        "percentiles.gradients": gradients,
        "percentiles.updates": gradients,
    }
