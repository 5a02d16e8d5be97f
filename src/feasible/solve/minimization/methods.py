"""Which method suits which problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from feasible.errors import UnsupportedError
from feasible.solve.minimization.augmented_lagrangian import AugmentedLagrangian
from feasible.solve.minimization.curvature import DENSE
from feasible.solve.minimization.gauss_newton import GaussNewton
from feasible.solve.minimization.monitor import Ending, Monitor
from feasible.solve.minimization.nonsmooth import Nonsmooth
from feasible.solve.minimization.program import Program, Requirement
from feasible.solve.minimization.projected import Projected
from feasible.solve.minimization.sqp import SQP
from feasible.solve.minimization.unknowns import Vector

ROWS, FEW_ROWS = 2000, 500
"""Up to this many rows (and bounds, where the matrix is not dense) are linearised."""
LARGEST = 2**28
"""Entries of the Jacobian of residuals and rows that fit into memory (2 GiB, some copies aside)."""


class Method(Protocol):
    """What all of them are."""

    def run(self, start: Vector, iterations: int) -> Ending:
        """Iterate from ``start``, which obeys the bounds."""


METHODS: dict[str, Callable[[Program, float, int, Monitor], Method]] = {
    "sqp": SQP,
    "augmented-lagrangian": AugmentedLagrangian,
    "projected": Projected,
    "nonsmooth": Nonsmooth,
    "gauss-newton": GaussNewton,
}


def takes_residuals(method: str) -> bool | None:
    """Whether a method wants a residual vector; ``None``: either.

    Raises:
        ValueError: there is no such method.
    """
    if method == "auto":
        return None
    if method not in METHODS:
        raise ValueError(
            f"minimize: there is no method {method!r}. Choose one of: auto, {', '.join(METHODS)}."
        )
    return method == "gauss-newton"


def chosen(program: Program, method: str) -> str:
    """The method's name, ``"auto"`` resolved.

    Raises:
        UnsupportedError: it cannot serve these constraints.
    """
    if method == "auto" and not program.is_least_squares:
        return _suited(program)
    if method == "auto":
        method = "gauss-newton"
    if method == "projected" and not _can_project(program):
        raise UnsupportedError(
            "minimize: method 'projected' needs convex sets on x: bounds, or one set for each tensor.\n"
            "  Works with: auto, sqp, augmented-lagrangian."
        )
    if method in ("sqp", "nonsmooth"):
        for item in program.requirements:
            if item.bounds is None and item.rows is None:
                raise UnsupportedError(
                    f"minimize: {item.set!r} (constraint {item.position}) has no rows for {method!r}.\n"
                    "  Works with: auto, augmented-lagrangian."
                )
    if method == "gauss-newton":
        _check_least_squares(program)
    return method


def _check_least_squares(program: Program) -> None:
    """Raise where Gauss–Newton cannot serve a set, or has no room for its matrix."""
    others = "  Works with: augmented-lagrangian, with fun returning the number ½‖r‖² in the place of r."
    for item in program.requirements:
        if item.bounds is None and not _is_smooth(item):
            raise UnsupportedError(
                f"minimize: {item.set!r} (constraint {item.position}) has no smooth rows for 'gauss-newton'.\n"
                + others
            )
    height = (program.size or 0) + len(program.low)
    if height * program.unknowns.count > LARGEST:
        raise UnsupportedError(
            f"minimize: 'gauss-newton' keeps the Jacobian, {height:,} × {program.unknowns.count:,} numbers here.\n"
            f"{others}\n  For soft conditions stack the rows: optim.LevenbergMarquardt takes products alone."
        )


def _suited(program: Program) -> str:
    curved = [item for item in program.requirements if item.bounds is None]
    if not curved:
        return "projected"
    is_smooth = all(_is_smooth(item) for item in curved)
    count, rows = program.unknowns.count, len(program.low)
    bounds = int((np.isfinite(program.lower) | np.isfinite(program.upper)).sum())
    if is_smooth and (rows <= ROWS if count <= DENSE else rows + bounds <= FEW_ROWS):
        return "sqp"
    return "projected" if _can_project(program) else "augmented-lagrangian"


def _is_smooth(item: Requirement) -> bool:
    return item.rows is not None and all(row.is_smooth for row in item.rows)


def _can_project(program: Program) -> bool:
    places = [item.place for item in program.requirements if item.bounds is None]
    bounded = {item.place for item in program.requirements if item.bounds is not None}
    return (
        all(item.function is None for item in program.requirements)
        and all(item.set.convex for item in program.requirements)
        and len(set(places)) == len(places)
        and not bounded & set(places)
    )


def can_search_kinks(program: Program) -> bool:
    """Whether a second attempt for problems with kinks is affordable."""
    is_described = all(item.bounds is not None or item.rows is not None for item in program.requirements)
    return is_described and (len(program.low) + 100) * program.unknowns.count <= 10**7
