"""How a problem prints itself, and lists of names in messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from feasible.methods.lookup import closest, listing
from feasible.methods.slot import Slot
from feasible.problem.constraint import Constraint

__all__ = ["closest", "listing", "overview", "table"]


def overview(slots: Mapping[str, Slot], constraints: Sequence[Constraint]) -> str:
    """What matches what, by which method."""
    rows = [("constraint", "on", "set", "method", "guarantee")]
    for constraint in constraints:
        rows.append(
            (
                constraint.name + ("" if constraint.enabled else " (off)"),
                _target(constraint),
                repr(constraint.set),
                repr(constraint.method),
                constraint.method.guarantee if constraint.slot is not None else "encouraged",
            )
        )
    free = len(slots) - len({id(c.slot) for c in constraints if c.slot is not None})
    heading = f"Problem: {len(constraints)} constraints on {len(slots)} tensors, {free} of them free"
    return heading + "\n" + table(rows)


def _target(constraint: Constraint) -> str:
    if constraint.slot is None:
        return f"value, per {constraint.spec.per}"
    shape = "×".join(map(str, constraint.slot.value().shape)) or "scalar"
    tied = f", tied with {', '.join(constraint.slot.aliases)}" if constraint.slot.aliases else ""
    return f"weight {shape}{tied}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns under each other, the first row as the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]])
