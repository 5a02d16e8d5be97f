"""How good a solution is: against the reference, in equation and conditions, and not by being zero."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.differential.rows import root_mean_square

QUANTILES = (0.5, 0.9, 0.99, 1.0)
COLLAPSED = 0.5
"""An output smaller than this share of the reference (root mean squares) is no solution, whatever its residual."""


def error(posed: Posed, model: nn.Module, metric: str) -> float:
    """The relative L2 error, or the mean squared one, at the test points."""
    difference = predicted(model, *posed.test) - posed.reference
    if metric == "mean squared error":
        return float(difference.square().mean())
    return float(difference.norm() / posed.reference.norm())


def measured(posed: Posed, model: nn.Module, metric: str, tolerance: float) -> dict[str, Any]:
    """The numbers of the table and of ``result.json``.

    Raises:
        ArithmeticError: the network's outputs are no longer finite.
    """
    found = error(posed, model, metric)
    if not math.isfinite(found):
        raise ArithmeticError(f"diverged: the error is {found} at the end")
    held_out = evaluated(posed.held_out, model)
    quantiles = torch.quantile(
        held_out.abs().reshape(-1), torch.tensor(QUANTILES, dtype=torch.float64)
    ).tolist()
    output, reference = root_mean_square(predicted(model, *posed.test)), root_mean_square(posed.reference)
    residual = root_mean_square(held_out)
    rows_of_conditions = [evaluated(rows, model).reshape(-1) for rows in posed.of_kind("condition")]
    conditions = root_mean_square(torch.cat(rows_of_conditions)) if rows_of_conditions else None
    is_met = residual <= tolerance and (conditions is None or conditions <= tolerance)
    return {
        "test_metric": found,
        "train_loss": sum(root_mean_square(evaluated(rows, model)) ** 2 for rows in posed.rows),
        "data_residual": worst_of(root_mean_square(evaluated(rows, model)) for rows in posed.of_kind("data")),
        "train_residual": worst_of(root_mean_square(evaluated(rows, model)) for rows in posed.of_kind("equation")),
        "residual": residual,
        "conditions": conditions,
        **{f"residual_{round(100 * q)}": value for q, value in zip(QUANTILES, quantiles, strict=True)},
        "worst_violation": quantiles[-1],
        "output_rms": output,
        "reference_rms": reference,
        **over_queries(posed, model),
        "unknown": worst_of(abs(float(getattr(model, name).detach()) / unknown.truth - 1)
                            for name, unknown in posed.unknowns.items()),
        "feasible": is_met and output >= COLLAPSED * reference,
        "test_feasible": None,
    }  # fmt: skip


def over_queries(posed: Posed, model: nn.Module) -> dict[str, float | None]:
    """How right, and how different, the solutions for other inputs are.

    ``query_error`` is their relative L2 error. ``diversity`` is how far they are from their mean, as a share of how far
    the true ones are: 1 is right; a network that answers every query alike has 0, whatever its residual.
    """
    if not posed.queries:
        return {"query_error": None, "diversity": None}
    x, true = posed.test[0], torch.stack(list(posed.query_reference))
    found = torch.stack([predicted(model, x, query.expand(len(x), -1)) for query in posed.queries])
    return {
        "query_error": float((found - true).norm() / true.norm()),
        "diversity": _spread(found) / _spread(true),
    }


def predicted(model: nn.Module, *columns: Tensor) -> Tensor:
    """Outputs in float64, without a graph."""
    with torch.no_grad():
        value: Tensor = model(*columns)
    return value.double()


def evaluated(rows: Any, model: nn.Module) -> Tensor:
    """Residuals in float64; their graph is dropped."""
    value: Tensor = rows(model)
    return value.detach().double()


def worst_of(values: Any) -> float | None:
    """The largest, where there is one."""
    return max(values, default=None)


def _spread(outputs: Tensor) -> float:
    """Root mean square of the deviations from the mean over the queries."""
    return root_mean_square(outputs - outputs.mean(0))
