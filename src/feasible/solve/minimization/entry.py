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
from feasible.solve.minimization.infeasibility import least_violation
from feasible.solve.minimization.methods import METHODS, can_search_kinks, chosen, takes_residuals
from feasible.solve.minimization.monitor import Ending, Monitor
from feasible.solve.minimization.program import Program
from feasible.solve.minimization.progress import progress_line
from feasible.solve.minimization.result import KKT, Intermediate, Result, Status
from feasible.solve.minimization.unknowns import Unknowns, Vector

REACHABLE = 100
"""Rounding errors of the dtype below which no tolerance makes sense."""
HUGE = 1e4
"""Multipliers this much larger than the objective have no limit."""
MANY = 20_000
SINGLE = torch.finfo(torch.float32).eps
SLIGHT = 10.0
"""A point whose violation is above so many tolerances is no solution."""
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

    Where ``fun`` returns more than one number, they are residuals r, and ``f = ½‖r‖²``: Gauss–Newton steps then use
    their Jacobian, which is how networks are fitted to data under equations and conditions.

    Args:
        fun: the objective, a function of what ``x0`` is (or of nothing, where that is a module); its value is one
            number, or a tensor of residuals.
        x0: where to start: a tensor, a list of tensors, or a module, whose parameters are then changed in place.
        constraints: sets on x, and pairs ``(function, set)``, whose value may have any shape. Where x0 is a list or a
            module, a set on x is written ``(position, set)`` or ``(name, set)``.
        method: ``"sqp"``: quadratic programs with a BFGS matrix, for smooth problems with up to some thousands of rows;
            ``"augmented-lagrangian"``: for very many constraints, and for every set that can project;
            ``"projected"``: sets on x only; ``"nonsmooth"``: functions with kinks; ``"gauss-newton"``: least squares,
            with Jacobians of residuals and rows, which may depend on each other; ``"auto"``: by what the problem is.
            Where constraints curve strongly Gauss–Newton steps take many iterations, and ``"sqp"`` on ½‖r‖² few.
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

    Least squares: the same point from the residual vector.

    >>> result = minimize(lambda x: x - 1, torch.zeros(2, dtype=torch.float64), [fs.SumTo(1.0)])
    >>> result.method, result.success, round(result.fun, 6), result.x
    ('gauss-newton', True, 0.25, tensor([0.5000, 0.5000], dtype=torch.float64))

    Source: Nocedal & Wright, *Numerical Optimization* (2006), chapters 10, 17 and 18.
    """
    _check_options(tol, max_iterations, memory)
    program = Program(fun, Unknowns(x0), constraints, takes_residuals(method))
    program.describe()
    tol = _reachable(tol, program.unknowns.dtype)
    name = chosen(program, method)
    memory = memory or (20 if program.unknowns.count <= MANY else 10)
    with progress_line(progress) as line:
        watchers = [watch for watch in (line, callback) if watch is not None]
        monitor = Monitor(program, tol, watchers)
        result = _attempt(program, name, tol, max_iterations, memory, monitor)
        is_in_trouble = result.status is Status.NUMERICAL_TROUBLE and name != "gauss-newton"
        if method == "auto" and is_in_trouble and can_search_kinks(program):
            start = program.unknowns.flat(_tensors(program, result.x))
            second = _attempt(program, "nonsmooth", tol, max_iterations, memory, monitor, start)
            result = second if _is_better(second, result, tol) else result
    program.unknowns.result(program.unknowns.flat(_tensors(program, result.x)))
    return result


def _check_options(tol: object, max_iterations: object, memory: object) -> None:
    if not isinstance(tol, (int, float)) or not 0 < tol < 1:
        raise ValueError(f"minimize: tol must be between 0 and 1, got {tol!r}.")
    counts = [(max_iterations, 0)] if memory is None else [(max_iterations, 0), (memory, 1)]
    if not all(isinstance(count, int) and count >= least for count, least in counts):
        raise ValueError(
            "minimize: max_iterations must be ≥ 0 and memory ≥ 1, both whole numbers, "
            f"got {max_iterations!r} and {memory!r}."
        )


def _reachable(tol: float, dtype: torch.dtype) -> float:
    reachable = REACHABLE * torch.finfo(dtype).eps
    if tol >= reachable:
        return tol
    warnings.warn(
        f"minimize: x0 is {str(dtype).removeprefix('torch.')}, in which a tolerance of about {reachable:.1g} is "
        f"reachable, not {tol:g}; it is used instead. For more, start from x0.double().",
        stacklevel=4,  # torch.enable_grad() wraps minimize
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
    program.derivatives.dtype = _precision(program, name)
    from_here = program.unknowns.start if start is None else start

    def certified(x: Vector) -> Result:
        solver = METHODS[name](program, tol, memory, monitor)
        ending = solver.run(np.clip(x, program.lower, program.upper), iterations)
        if ending.status is Status.INTERRUPTED:
            ending = monitor.interrupted()
        return _certified(program, name, tol, monitor, ending)

    try:
        # Overflow ends in values that are not finite, which every method looks for where they matter.
        with np.errstate(over="ignore", invalid="ignore"):
            result = certified(from_here)
            # Gauss–Newton looks for the least violation itself, in the squares that it lowers.
            is_settled = result.maxcv <= SLIGHT * tol or not _is_described(program) or name == "gauss-newton"
            if is_settled or result.status not in (Status.NUMERICAL_TROUBLE, Status.NO_MULTIPLIERS):
                return result
            x, is_stuck = least_violation(program, program.unknowns.flat(_tensors(program, result.x)), tol)
            status = Status.INFEASIBLE if is_stuck else Status.NUMERICAL_TROUBLE
            moved = _certified(program, name, tol, monitor, _moved(result, x, status))
            if moved.success or is_stuck:
                return moved
            if moved.maxcv > SLIGHT * tol:
                return min(moved, result, key=lambda each: each.maxcv)
            return certified(x)
    except KeyboardInterrupt:
        return _certified(program, name, tol, monitor, monitor.interrupted())


def _precision(program: Program, name: str) -> type[np.floating[Any]]:
    """Where single precision is all there is, very many unknowns are worked on in it: half the memory to pass over."""
    is_single = all(torch.finfo(tensor.dtype).eps >= SINGLE for tensor in program.unknowns.tensors)
    return np.float32 if name == "sqp" and is_single and program.unknowns.count > MANY else np.float64


def _is_described(program: Program) -> bool:
    return all(item.bounds is not None or item.rows is not None for item in program.requirements)


def _moved(result: Result, x: Vector, status: Status) -> Ending:
    """The end at another point, with the same multipliers."""
    return Ending(x, [each.to("cpu", torch.float64) for each in result.multipliers], status)


def _certified(program: Program, name: str, tol: float, monitor: Monitor, ending: Ending) -> Result:
    evaluations = program.evaluations
    kkt, fun = certify(program, ending.x, ending.multipliers)
    if ending.stationarity is not None:
        kkt = replace(kkt, stationarity=ending.stationarity)
    status, note = _judged(program, kkt, fun, ending, tol)
    noise = "" if status is Status.CONVERGED else _noise(program, ending.x, fun)
    if noise and status is Status.CONVERGED_NONSMOOTH:
        status = Status.NUMERICAL_TROUBLE
    notes = (
        *(status.value, note or noise, ending.note, _dependence(kkt)),
        *(program.trouble(status), program.derivatives.note),
    )
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
    if status.is_success and not (is_close and kkt.feasibility <= SLIGHT * tol and kkt.holds(loose)):
        status = Status.NUMERICAL_TROUBLE
    if status is not Status.NUMERICAL_TROUBLE:
        return status, ""
    if is_close and kkt.feasibility <= SLIGHT * tol and kkt.holds(loose):
        found = Status.CONVERGED if ending.stationarity is None else Status.CONVERGED_NONSMOOTH
        reached = max(kkt.stationarity, kkt.feasibility, kkt.complementarity)
        return found, (
            f"Rounding ended the run at a stationarity of {kkt.stationarity:.1g}: what holds, holds to {reached:.1g}, "
            f"not to the {tol:.1g} asked for."
        )
    if kkt.feasibility > 100 * tol:
        return status, ""
    is_degenerate = kkt.rank is not None and kkt.rank < kkt.active
    if is_degenerate or largest >= HUGE * max(1.0, abs(fun)):
        return Status.NO_MULTIPLIERS, ""
    return status, ""


def _dependence(kkt: KKT) -> str:
    """A sentence where active rows depend on each other."""
    if kkt.rank is None or kkt.rank >= kkt.active:
        return ""
    return (
        f"The gradients of the {kkt.active} active rows and bounds have rank {kkt.rank}: "
        "multipliers are not unique."
    )


def _noise(program: Program, x: Vector, fun: float) -> str:
    """A sentence where the objective has another value when it is asked once more: noise looks like kinks."""
    with torch.enable_grad():  # fun may differentiate by its inputs
        again = program.objective_at(program.unknowns.leaves(x)).item()
    if abs(again - fun) <= REACHABLE * torch.finfo(program.unknowns.dtype).eps * max(1.0, abs(fun)):
        return ""
    return f"fun gives {fun:.10g} and {again:.10g} at the same point: fix its random numbers."


def _is_better(second: Result, first: Result, tol: float) -> bool:
    if second.success:
        return True
    return second.maxcv <= max(first.maxcv, tol) and second.fun < first.fun


def _tensors(program: Program, x: Any) -> list[Tensor]:
    if program.unknowns.module is not None:
        return [parameter.detach() for parameter in program.unknowns.parameters]
    return [x] if program.unknowns.is_tensor else list(x)
