"""The problem's state as flat tensors, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from feasible.problem.constraint import Constraint
from feasible.sets.set import contents

FORMAT_VERSION = 1


def save(constraints: Sequence[Constraint]) -> dict[str, Tensor]:
    """``<constraint>.<state>``, ``<constraint>.step`` and fingerprints; nothing shares memory with the problem."""
    saved = {"format_version": torch.tensor(FORMAT_VERSION)}
    for constraint in constraints:
        saved[f"{constraint.name}.fingerprint"] = torch.tensor(fingerprint(constraint))
        saved[f"{constraint.name}.step"] = torch.tensor(constraint.ticks)
        for key, value in {**constraint.state, **constraint.bound.taken()}.items():
            saved[f"{constraint.name}.{key}"] = value.detach().clone()
    return saved


def fingerprint(constraint: Constraint) -> int:
    """A number that changes with the set, the method's kind and the way the value is read."""
    description = (
        contents(constraint.set),
        type(constraint.method).__name__,
        constraint.spec.per,
        constraint.spec.size,
    )
    digest = hashlib.sha256(repr(description).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def split(constraints: Sequence[Constraint], saved: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The saved tensors by constraint, after checking that they belong to these constraints.

    Raises:
        ValueError: another format, other constraints, or a constraint that has changed.
    """
    if not isinstance(saved, Mapping):
        raise ValueError(
            f"expected the state of a problem, what problem.state_dict() returned, got {type(saved).__name__}."
        )
    version = int(saved["format_version"]) if "format_version" in saved else None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"expected the state of a problem in format {FORMAT_VERSION}, got {version}. "
            "Give what problem.state_dict() returned."
        )
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in saved.items():
        if key != "format_version":
            name, _, entry = key.rpartition(".")
            found.setdefault(name, {})[entry] = value
    expected = {constraint.name for constraint in constraints}
    if found.keys() != expected:
        missing, extra = sorted(expected - found.keys()), sorted(found.keys() - expected)
        raise ValueError(
            "the saved state belongs to other constraints: "
            f"missing {missing or 'none'}, not declared here {extra or 'none'}. Declare the same ones before loading."
        )
    for constraint in constraints:
        if int(found[constraint.name].get("fingerprint", torch.tensor(0))) != fingerprint(constraint):
            raise ValueError(
                f"{constraint.name}: the saved state was made for another set, method or per=. "
                f"Declared here: {constraint.set!r} by {type(constraint.method).__name__}, per={constraint.spec.per!r}."
            )
    return found


def restore(constraint: Constraint, saved: Mapping[str, Tensor]) -> None:
    """Give a bound constraint its saved state.

    Raises:
        ValueError: a saved tensor has another shape.
    """
    for key, present in constraint.state.items():
        if key not in saved or saved[key].shape != present.shape:
            got = tuple(saved[key].shape) if key in saved else "nothing"
            raise ValueError(f"{constraint.name}.{key}: expected shape {tuple(present.shape)}, got {got}.")
    constraint.state = {
        key: saved[key].detach().to(value, copy=True) for key, value in constraint.state.items()
    }
    constraint.alone.clear()
    restore_taken(constraint, saved)


def restore_taken(constraint: Constraint, saved: Mapping[str, Tensor]) -> None:
    """A frozen weight takes the checkpoint's value."""
    taken = constraint.bound.taken()
    if not taken or constraint.measure is None or constraint.slot is None:
        return
    replaced = {key: saved[key].to(value, copy=True) for key, value in taken.items()}
    constraint.measure.set = constraint.bound.with_taken(replaced)
    weight = constraint.slot.value().detach()
    constraint.slot.write(constraint.measure.set.project(weight))
