"""Which way is taken to the constraints, and what is said at its end."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.solve.minimization.result import KKT, Status
from feasible.solve.projection import descent, matrix_free
from feasible.solve.projection.adam import adam
from feasible.solve.projection.certificate import certify
from feasible.solve.projection.outputs import root_mean_square
from feasible.solve.projection.result import ProjectionResult
from feasible.solve.projection.search import Point, Search
from feasible.solve.projection.tall import Tall, is_tall, least_squares

ITERATIONS, ADAM_ITERATIONS = 100, 10_000
DENSE_SIDE = 3000
"""The smaller side of a Jacobian up to which it is factorised."""
DENSE_BYTES = 2**30
FLAT = 1e-6
"""Relative slope of the violation below which it counts as having none."""


@dataclass(frozen=True)
class Way:
    """How it went."""

    method: str
    point: Point
    iterations: int
    is_affine: bool
    is_least: bool
    """Whether the move is the least one, as far as steps along the constraints can tell."""
    is_cut_short: bool = False
    """Whether the limit on iterations ended it."""
    tall: Tall | None = None
    """Least squares whose Jacobian was not kept."""


def travelled(search: Search, method: str, most: int | None, rounds: int, rate: float) -> Way:
    """Take the way that fits; the parameters end at its best point."""
    way = _way(search, method, most, rounds, rate)
    if not (way.point.values.norm < search.start.values.norm or search.is_feasible(way.point)):
        way = replace(way, point=search.start, is_least=False)
    if way.point is search.start:
        search.weights.restore()
    else:
        search.weights.write(way.point.x)
    return way


def _way(search: Search, method: str, most: int | None, rounds: int, rate: float) -> Way:
    if method == "adam":
        steps = ADAM_ITERATIONS if most is None else most
        return Way("adam", *adam(search, steps, rate), False, False)
    most = ITERATIONS if most is None else most
    is_large = _is_large(search)
    if is_large and search.reference is not None:
        raise UnsupportedError(
            'project_parameters: metric="outputs" needs a factorisation, and the Jacobians are too large for one.\n'
            '  Name fewer parameters (the last layer), take fewer points, or use metric="parameters".'
        )
    if search.is_feasible(search.start) and search.start.move == 0:
        return Way("dense", search.start, 0, False, True)
    if method != "matrix-free" and most and is_tall(search):
        tall = least_squares(search)
        if tall is not None:
            return Way("dense", tall.point, 1, True, search.is_feasible(tall.point), tall=tall)
    if method == "matrix-free" or (method == "auto" and is_large):
        point, iterations = matrix_free.gauss_newton(search, search.start, most, rounds)
        return Way("matrix-free", point, iterations, False, False, iterations >= most)
    if search.is_affine():
        search.is_affine_everywhere = True
        search.is_constant = search.conditions.has_fixed_rows
        point, iterations = descent.affine(search, most)
        return Way("dense", point, iterations, True, search.is_feasible(point))
    point, iterations, level = descent.gauss_newton(search, search.start, most)
    is_least = False
    if search.is_feasible(point):
        point, more, is_least = descent.along(search, point, most - iterations, level)
        iterations += more
    return Way("dense", point, iterations, False, is_least, iterations >= most)


def _is_large(search: Search) -> bool:
    rows, columns = search.start.values.entries, search.weights.count
    seen = 0 if search.reference is None else len(search.reference)
    return min(rows, columns) > DENSE_SIDE or max(rows, seen) * columns * 8 > DENSE_BYTES


def finished(search: Search, way: Way, before: Tensor | None, after: Tensor | None) -> ProjectionResult:
    """Everything that is known at the end."""
    here, start = way.point, search.start
    is_dense = way.method == "dense" and way.tall is None and not _is_large(search)
    rows, rank = (0, None) if way.tall is None else (way.tall.rows, way.tall.rank)
    kkt = KKT(math.nan, here.values.largest, math.nan, rows, rank)
    multipliers: tuple[Tensor, ...] = ()
    metric_rank = None
    if is_dense:
        kkt, multipliers, step = certify(search, here)
        metric_rank = step.metric_rank
    is_feasible = search.is_feasible(here)
    status = _status(search, way, is_feasible)
    size = float(torch.linalg.vector_norm(search.weights.start))
    moved = float(torch.linalg.vector_norm(here.x - search.weights.start))
    if before is None or after is None or before.shape != after.shape:
        change, sizes = None, None
    else:
        change = root_mean_square(after - before)
        sizes = root_mean_square(before), root_mean_square(after)
    return ProjectionResult(
        x=search.weights.model,
        fun=here.move,
        success=is_feasible,
        status=status,
        message=_message(status, search, way),
        method=way.method,
        nit=way.iterations,
        nfev=search.evaluations,
        njev=search.differentiations,
        maxcv=here.values.largest,
        multipliers=multipliers,
        kkt=kkt,
        is_affine=way.is_affine,
        rank=kkt.rank,
        metric_rank=metric_rank,
        residual=(start.values.rms, here.values.rms),
        maxcv_before=start.values.largest,
        relative_move=moved / size if size else (math.inf if moved else 0.0),
        output_change=change,
        output_rms=sizes,
    )


def _status(search: Search, way: Way, is_feasible: bool) -> Status:
    if is_feasible:
        return Status.CONVERGED if way.is_least else Status.FEASIBLE
    if way.is_affine or (way.method == "dense" and _is_stationary(search, way.point)):
        return Status.INFEASIBLE
    return Status.ITERATION_LIMIT if way.method == "adam" or way.is_cut_short else Status.NUMERICAL_TROUBLE


def _is_stationary(search: Search, here: Point) -> bool:
    """Whether no small step makes the violation any smaller, to first order."""
    linear, _ = search.linearise(here)
    excess = linear.excess(torch.zeros_like(here.x))
    slope = linear.jacobian.mT @ excess
    steepest = float(torch.linalg.matrix_norm(linear.jacobian)) * float(torch.linalg.vector_norm(excess))
    return float(torch.linalg.vector_norm(slope)) <= FLAT * steepest


def _message(status: Status, search: Search, way: Way) -> str:
    notes = [status.value]
    here, start = way.point.values, search.start.values
    if not status.is_success:
        notes.append(
            f"The residual went from {start.rms:.3g} to {here.rms:.3g} (RMS), the worst is {here.largest:.3g}."
        )
        if way.is_affine:
            notes.append("The constraints cannot all hold; the parameters are their least-squares solution.")
        eps = torch.finfo(search.weights.dtype).eps
        if eps > 1e-10 and here.largest < 1e6 * eps:
            notes.append(
                f"The parameters are {str(search.weights.dtype).removeprefix('torch.')}: this may be all that its "
                "digits can hold; model.double() has more."
            )
    return " ".join(notes)
