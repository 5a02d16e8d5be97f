"""Absolute and hinge losses as mixed-integer linear programs: a binary for every choice, solved by HiGHS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feasible.solve.exact.choices import Rows
from feasible.solve.exact.losses import Fit
from feasible.solve.exact.result import Budget

Array = NDArray[np.float64]

ROUNDING = 1e-6
"""What HiGHS allows a constraint and the optimum to be off, relative to the largest number of the program."""


@dataclass(frozen=True)
class Bounded:
    """What a mixed-integer program has found."""

    W: Array | None
    """The weight (d, m); ``None`` where the budget ended before there was one."""
    lower: float
    """No weight has a smaller loss, up to ``rounding``."""
    rounding: float
    """What HiGHS may leave open."""


def solve_entries(fit: Fit, values: list[Array | None], budget: Budget) -> Bounded:
    """One output whose entries come from lists (``None``: free ones)."""
    listed = [(i, value) for i, value in enumerate(values) if value is not None]
    free = [i for i, value in enumerate(values) if value is None]
    effects: Array = np.concatenate(
        [np.zeros((len(fit.A), 0)), *(fit.A[:, [i]] * value for i, value in listed)], axis=1, dtype=np.float64
    )
    group = np.repeat(np.arange(len(listed)), [len(value) for _, value in listed])
    chosen, others, lower, rounding = _solve(fit, effects, fit.A[:, free], [group], budget)
    if chosen is None:
        return Bounded(None, lower, rounding)
    W = np.zeros((len(values), 1))
    W[free, 0] = others
    for number, (i, value) in enumerate(listed):
        W[i] = value[chosen[group == number].argmax()]
    return Bounded(W, lower, rounding)


def solve_rows(fit: Fit, rows: Rows, budget: Budget) -> Bounded:
    """All outputs at once, where each row of W is one of the vectors."""
    d, s = fit.A.shape[1], len(rows.vectors)
    groups = [np.repeat(np.arange(d), s)]
    if rows.distinct:
        groups.append(np.tile(np.arange(s), d))
    effects = np.kron(fit.A, rows.vectors.T).astype(np.float64)
    chosen, _, lower, rounding = _solve(fit, effects, np.zeros((len(effects), 0)), groups, budget)
    W = None if chosen is None else rows.vectors[chosen.reshape(d, s).argmax(-1)]
    return Bounded(W, lower, rounding)


def _solve(
    fit: Fit, effects: Array, free: Array, groups: Sequence[NDArray[np.int64]], budget: Budget
) -> tuple[Array | None, Array, float, float]:
    """Minimise the loss of ``effects z + free v (+ bias)`` over binaries z, one 1 in every group, and numbers v.

    Returns z (``None`` where the budget ended too early), v, a lower bound of the loss, and its rounding.
    """
    optimize, sparse = _scipy()
    samples, outputs = fit.B.shape
    target = fit.B.reshape(-1)
    kept = np.tile(fit.kept, samples)
    scale = (
        max(float(np.abs(effects).max(initial=0.0)), float(np.abs(target).max()), float(np.abs(kept).max()))
        or 1.0
    )
    # Free numbers have columns of their own size, so that the program does not depend on the scale of the data.
    sizes = np.abs(free).max(0, initial=0.0)
    sizes[sizes == 0] = 1.0
    ones = np.kron(np.ones((samples, 1)), np.eye(outputs)[:, : outputs if fit.is_free else 0])
    model = np.hstack([effects / scale, free / sizes, ones])
    binaries, numbers, rows = effects.shape[1], model.shape[1], len(model)
    errors = sparse.eye_array(rows)
    line = sparse.csr_array(model)
    if fit.loss == "l1":
        losses = [
            optimize.LinearConstraint(sparse.hstack([line, -errors]), ub=(target - kept) / scale),
            optimize.LinearConstraint(sparse.hstack([line, errors]), lb=(target - kept) / scale),
        ]
    else:
        signed = sparse.csr_array(model * target[:, None])
        losses = [optimize.LinearConstraint(sparse.hstack([signed, errors]), lb=(1 - target * kept) / scale)]
    for group in groups:
        shape = (group.max(initial=-1) + 1, numbers + rows)
        one = sparse.csr_array((np.ones(binaries), (group, np.arange(binaries))), shape=shape)
        losses.append(optimize.LinearConstraint(one, lb=1.0, ub=1.0))
    is_binary = np.arange(numbers + rows) < binaries
    is_error = np.arange(numbers + rows) >= numbers
    result = optimize.milp(
        is_error.astype(float),
        integrality=is_binary.astype(int),
        bounds=optimize.Bounds(
            np.where(is_binary | is_error, 0.0, -np.inf), np.where(is_binary, 1.0, np.inf)
        ),
        constraints=losses,
        options=_options(budget),
    )
    # Of the limits that HiGHS may end at, scipy knows the names of some only.
    if result.status not in (0, 1) and "limit reached" not in result.message:
        raise RuntimeError(f"HiGHS could not solve the program: {result.message}")
    budget.nodes += int(getattr(result, "mip_node_count", None) or 0)
    bound = getattr(result, "mip_dual_bound", None)
    lower = max(float(bound) * scale, 0.0) if bound is not None and np.isfinite(bound) else 0.0
    if result.x is None:
        return None, np.zeros(0), lower, ROUNDING * scale
    free_numbers = result.x[binaries : binaries + free.shape[1]]
    return result.x[:binaries], free_numbers * scale / sizes, lower, ROUNDING * scale


def _options(budget: Budget) -> dict[str, Any]:
    options: dict[str, Any] = {"mip_rel_gap": 0.0}
    if budget.seconds is not None:
        options["time_limit"] = budget.seconds_left
    if budget.max_nodes is not None:
        options["node_limit"] = max(budget.max_nodes - budget.nodes, 0)
    return options


def _scipy() -> tuple[Any, Any]:
    try:
        from scipy import optimize, sparse
    except ImportError:
        raise ImportError('the l1 and hinge losses need scipy: pip install "feasible[solve]"') from None
    return optimize, sparse
