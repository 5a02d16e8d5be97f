"""``minimize``: the problem is read, a method runs, and what it found is certified."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from feasible.solve.minimization.certificate import certify
from feasible.solve.minimization.infeasibility import is_stationary_violation
from feasible.solve.minimization.methods import METHODS, can_search_kinks, chosen
from feasible.solve.minimization.monitor import Ending, Monitor
from feasible.solve.minimization.program import Program
from feasible.solve.minimization.progress import progress_line
from feasible.solve.minimization.result import KKT, Intermediate, Result, Status
from feasible.solve.minimization.unknowns import Unknowns

REACHABLE = 100
"""Rounding errors of the dtype below which no tolerance makes sense."""
HUGE = 1e4
"""Multipliers this much larger than the objective have no limit."""
MANY = 20_000
LOOSE, COARSE = 10.0, 1e-5
"""Where rounding ends a run, the conditions count as satisfied up to so many tolerances, or up to this size."""


@torch.enable_grad()
def minimize(
    fun: Callable[..., Tensor],
    x0: Any,
    constraints: Iterable[object] = (),
    method: str = "auto",
    tol: float = 1e-8,
    *,
    max_iterations: int = 1000,
    memory: int | None = None,
    callback: Callable[[Intermediate], object] | None = None,
    progress: bool = False,
) -> Result:
    """Minimise a differentiable function under constraints, to high accuracy, and certify the point that was found.

    ``min f(x)`` subject to ``x ∈ K`` for each set and ``c(x) ∈ K`` for each pair ``(c, K)``. It looks for a point
    with ``∇f + Σ Jᵀλ = 0`` and each λ in the normal cone of its set: a local solution, and where everything is convex
    the solution.

    Args:
        fun: the objective, a function of what ``x0`` is (or of nothing, where that is a module); its value is one
            number.
        x0: where to start: a tensor, a list of tensors, or a module, whose parameters are then changed in place.
        constraints: sets on x, and pairs ``(function, set)``, whose value may have any shape. Where x0 is a list or a
            module, a set on x is written ``(position, set)`` or ``(name, set)``.
        method: ``"sqp"``: quadratic programs with a BFGS matrix, for smooth problems with up to some thousands of rows;
            ``"augmented-lagrangian"``: for very many constraints, and for every set that can project;
            ``"projected"``: sets on x only; ``"nonsmooth"``: functions with kinks; ``"auto"``: by what the problem is.
        tol: up to where stationarity (over the size of the gradients), violation and complementarity count as 0.
        max_iterations: limit on the iterations of a method.
        memory: pairs of steps and gradients that are kept where there are too many unknowns for a matrix. ``None``: 20,
            or 10 where there are very many.
        callback: is shown an ``Intermediate`` after each iteration; raising ``StopIteration`` ends the run.
        progress: show a line with the current state (needs rich).

    Returns:
        A ``Result``; ``success`` is true only where x is feasible and certified. Ctrl-C ends a run with the best point
        so far.

    Raises:
        ValueError, TypeError: something does not fit together; the message says what and what would mend it.
        UnsupportedError: a set is discrete, or the method cannot serve it.

    >>> import feasible as fs
    >>> result = minimize(lambda x: (x**2).sum(), torch.zeros(2, dtype=torch.float64), [fs.SumTo(1.0)])
    >>> result.success, result.x, result.multipliers[0].round(decimals=6)
    (True, tensor([0.5000, 0.5000], dtype=torch.float64), tensor([-1., -1.], dtype=torch.float64))

    Source: Nocedal & Wright, *Numerical Optimization* (2006), chapters 17 and 18.
    """
    if not 0 < tol < 1:
        raise ValueError(f"minimize: tol must be between 0 and 1, got {tol!r}.")
    if max_iterations < 0 or (memory is not None and memory < 1):
        raise ValueError(
            f"minimize: max_iterations must be ≥ 0 and memory ≥ 1, got {max_iterations!r} and {memory!r}."
        )
    program = Program(fun, Unknowns(x0), constraints)
    program.describe()
    tol = _reachable(tol, program.unknowns.dtype)
    name = chosen(program, method)
    memory = memory or (20 if program.unknowns.count <= MANY else 10)
    with progress_line(progress) as line:
        watchers = [watch for watch in (line, callback) if watch is not None]
        monitor = Monitor(program, tol, watchers)
        result = _attempt(program, name, tol, max_iterations, memory, monitor)
        if method == "auto" and result.status is Status.NUMERICAL_TROUBLE and can_search_kinks(program):
            start = program.unknowns.flat(_tensors(program, result.x))
            second = _attempt(program, "nonsmooth", tol, max_iterations, memory, monitor, start)
            result = second if _is_better(second, result, tol) else result
    program.unknowns.result(program.unknowns.flat(_tensors(program, result.x)))
    return result


def _reachable(tol: float, dtype: torch.dtype) -> float:
    reachable = REACHABLE * torch.finfo(dtype).eps
    if tol >= reachable:
        return tol
    warnings.warn(
        f"minimize: x0 is {str(dtype).removeprefix('torch.')}, in which a tolerance of about {reachable:.1g} is "
        f"reachable, not {tol:g}; it is used instead. For more, start from x0.double().",
        stacklevel=3,
    )
    return reachable


def _attempt(
    program: Program,
    name: str,
    tol: float,
    iterations: int,
    memory: int,
    monitor: Monitor,
    start: Any = None,
) -> Result:
    """Run one method and certify its end."""
    from_here = program.unknowns.start if start is None else start
    solver = METHODS[name](program, tol, memory, monitor)
    try:
        ending = solver.run(np.clip(from_here, program.lower, program.upper), iterations)
    except KeyboardInterrupt:
        zeros = [torch.zeros(value.shape, dtype=torch.float64) for value in program.values]
        ending = Ending(monitor.best, zeros, Status.INTERRUPTED)
    return _certified(program, name, tol, monitor, ending)


def _certified(program: Program, name: str, tol: float, monitor: Monitor, ending: Ending) -> Result:
    evaluations = program.evaluations
    kkt, fun = certify(program, ending.x, ending.multipliers)
    if ending.stationarity is not None:
        kkt = replace(kkt, stationarity=ending.stationarity)
    status, note = _judged(program, kkt, fun, ending, tol)
    notes = (status.value, note, ending.note, program.trouble(status), program.derivatives.note)
    message = " ".join(part for part in notes if part)
    return Result(
        x=program.unknowns.result(ending.x),
        fun=fun,
        success=status.is_success,
        status=status,
        message=message,
        method=name,
        nit=max(monitor.iterations, 0),
        nfev=evaluations,
        njev=program.differentiations,
        maxcv=kkt.feasibility,
        multipliers=tuple(
            multiplier.to(value.device, value.dtype)
            for multiplier, value in zip(ending.multipliers, program.values, strict=True)
        ),
        kkt=kkt,
    )


def _judged(program: Program, kkt: KKT, fun: float, ending: Ending, tol: float) -> tuple[Status, str]:
    """The status that the certificate bears out."""
    status = ending.status
    loose = max(LOOSE * tol, min(COARSE, 1e3 * tol))
    largest = max((float(each.abs().max()) for each in ending.multipliers if each.numel()), default=0.0)
    # What the violation may be worth: multipliers without limit certify nothing.
    is_close = kkt.feasibility * largest <= loose * max(1.0, abs(fun))
    if status.is_success and not (is_close and kkt.feasibility <= 10 * tol):
        status = Status.NUMERICAL_TROUBLE
    if status is not Status.NUMERICAL_TROUBLE:
        return status, ""
    if kkt.feasibility > 100 * tol:
        is_described = all(item.bounds is not None or item.rows is not None for item in program.requirements)
        is_stuck = is_described and is_stationary_violation(program, ending.x)
        return (Status.INFEASIBLE if is_stuck else status), ""
    if is_close and kkt.holds(loose):
        return Status.CONVERGED, f"Rounding ended the run at a stationarity of {kkt.stationarity:.1g}."
    is_degenerate = kkt.rank is not None and kkt.rank < kkt.active
    if is_degenerate or largest >= HUGE * max(1.0, abs(fun)):
        return Status.NO_MULTIPLIERS, ""
    return status, ""


def _is_better(second: Result, first: Result, tol: float) -> bool:
    if second.success:
        return True
    return second.maxcv <= max(first.maxcv, tol) and second.fun < first.fun


def _tensors(program: Program, x: Any) -> list[Tensor]:
    if program.unknowns.module is not None:
        return [parameter.detach() for parameter in program.unknowns.parameters]
    return [x] if program.unknowns.is_tensor else list(x)
