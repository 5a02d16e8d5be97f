"""Whether the values that are handed to ``loss`` are those that are required, and were handed in at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feasible.problem.constraint import Constraint


def check_names(constraints: Sequence[Constraint], handed: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` where a name is unknown or missing."""
    required = {c.name: c for c in constraints if c.slot is None}
    if handed.keys() == required.keys():
        return
    unknown = handed.keys() - required.keys()
    missing = [n for n, c in required.items() if n not in handed and c.enabled and c.spec.function is None]
    if unknown or missing:
        parts = [f"unknown: {', '.join(sorted(unknown))}"] if unknown else []
        parts += [f"missing: {', '.join(missing)}"] if missing else []
        raise ValueError(
            f"loss: the values do not match what is required ({'; '.join(parts)}).\n"
            f"  Required by name: {', '.join(required) or 'nothing'}"
        )


def check_recorded(constraints: Sequence[Constraint]) -> None:
    """Raise ``RuntimeError`` where the optimizer has stepped and a constraint has never been in a loss."""
    silent = [c.name for c in constraints if c.enabled and c.last is None]
    if silent:
        raise RuntimeError(
            f"the optimizer has stepped, but problem.loss(…) has never seen: {', '.join(silent)}.\n"
            "  Their methods act through the loss: backward through problem.loss(task_loss, …)."
        )
