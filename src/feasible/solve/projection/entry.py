"""``project_parameters``: the least move of a model's parameters that satisfies constraints."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from feasible.solve.projection.conditions import Conditions
from feasible.solve.projection.outputs import Points, outputs_at
from feasible.solve.projection.result import ProjectionResult
from feasible.solve.projection.search import Point, Search
from feasible.solve.projection.ways import finished, travelled
from feasible.solve.projection.weights import Weights, undisturbed

__all__ = ["project_parameters", "projected_parameters"]

METRICS = ("parameters", "outputs")
METHODS = ("auto", "dense", "matrix-free", "adam")
REACHABLE = 100
"""Rounding errors of the dtype below which no tolerance makes sense."""
TOLERANCE = 1e-8
COLLAPSE = 0.5


@torch.enable_grad()
def project_parameters(
    model: nn.Module,
    constraints: Iterable[object],
    parameters: str | Sequence[str] = "*",
    *,
    metric: Literal["parameters", "outputs"] = "parameters",
    points: Points = None,
    targets: Tensor | None = None,
    keep: Iterable[object] = (),
    tol: float | None = None,
    method: Literal["auto", "dense", "matrix-free", "adam"] = "auto",
    rcond: float | None = None,
    max_iterations: int | None = None,
    solver_rounds: int = 1000,
    learning_rate: float = 1e-3,
) -> ProjectionResult:
    """Move the named parameters, as little as possible, to where the constraints hold.

    ``min ½‖θ − θ₀‖²`` subject to ``c(θ) ∈ K`` for each pair ``(c, K)``, or with ``metric="outputs"``
    ``min ½‖u(θ) − u(θ₀)‖²`` over the model's outputs u at ``points``, and among the same outputs the shortest move.
    Where the constraints are affine in the parameters (as linear differential equations are in the last layer) it is
    one rank-revealing solve in float64; where they cannot all hold, it is their least-squares solution. Else
    Gauss–Newton steps with truncated singular values lead to the constraints, and steps along them back towards θ₀.

    A large system is given in parts: several constraints, such as those of ``pde.System.chunks``. Of affine equations
    that outnumber the parameters only a triangle is kept, and of all others, by products, the graph of one part.

    A differential equation without a condition or a data point that rules out u ≡ 0 is satisfied by collapse: give
    anchors as further constraints. The model is evaluated in evaluation mode, and every evaluation draws the same
    random numbers.

    Args:
        model: its named parameters are changed in place; where nothing better was found they keep their bits.
        constraints: pairs ``(function of the module, set)`` whose values may have any shape, and pairs
            ``(glob of names, set)`` for parameters themselves. Sets: convex ones, spheres, Stiefel matrices.
        parameters: which parameters may move: a glob of names, or several. Frozen ones never do.
        metric: what is kept small: the change of the parameters, or that of the outputs.
        points: where outputs are watched: a tensor, a tuple or dict of the model's arguments, or a function of the
            module; needed for ``metric="outputs"``.
        targets: in that metric, what the outputs are drawn to in place of what they are: data. Same shape as they.
        keep: functions of the module whose present values stay.
        tol: the largest distance of a value from its set that counts as none. ``None``: 1e-8, or what the
            parameters' dtype can reach.
        method: ``"dense"``: by factorisations; ``"matrix-free"``: by products with the Jacobian alone, where that is
            too large (not for ``metric="outputs"``); ``"adam"``: Adam on the mean squared residual, for comparison;
            ``"auto"``: one of the first two, by size.
        rcond: share of the largest singular value below which directions are left alone. ``None``: rounding for
            affine constraints; else from 0.1 on downwards, as the steps allow.
        max_iterations: ``None``: 100; 10,000 for ``"adam"``.
        solver_rounds: the most rounds of LSMR in an iteration of ``"matrix-free"``, two products each.
        learning_rate: of ``"adam"``.

    Returns:
        A ``ProjectionResult``; ``success`` is true only where all constraints hold within ``tol``. Where they do not,
        the model keeps the best parameters that were found. Where the system was too large to be kept there are no
        multipliers.

    Raises:
        ValueError, TypeError: something does not fit together; the message says what and what would mend it.
        UnsupportedError: a set is discrete.

    Warns:
        UserWarning: the outputs fell to less than half their size, or ``tol`` is below what the dtype can hold.

    >>> import feasible as fs
    >>> layer = nn.Linear(2, 1, bias=False).double()
    >>> _ = nn.init.ones_(layer.weight)
    >>> x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    >>> result = fs.project_parameters(layer, [(lambda m: m(x), fs.Equal(8.0))])
    >>> result.success, result.rank, layer.weight.detach()
    (True, 1, tensor([[2., 3.]], dtype=torch.float64))

    Source: Nocedal & Wright, *Numerical Optimization* (2006), chapters 10 and 15; Goldfarb & Idnani (1983) for
    inequalities; Fong & Saunders, *LSMR* (2011).
    """
    _check_choices(metric, method, points, targets, max_iterations, solver_rounds, rcond, learning_rate)
    weights = Weights(model, parameters)
    with undisturbed(model) as replay:
        watched = None if points is None else outputs_at(model, points)
        conditions = Conditions(weights, constraints, keep)
        tolerance = _tolerance(tol, weights.dtype)
        with weights.alone():
            seen = watched if metric == "outputs" else None
            search = Search(weights, conditions, seen, _shaped(targets, watched), replay, tolerance, rcond)
            try:
                before = _outputs(search, watched, search.start)
                way = travelled(search, method, max_iterations, solver_rounds, learning_rate)
                after = _outputs(search, watched, way.point)
            except BaseException:
                weights.restore()
                raise
            result = finished(search, way, before, after)
    _warn_of_collapse(result)
    return result


@contextmanager
def projected_parameters(
    model: nn.Module, constraints: Iterable[object], parameters: str | Sequence[str] = "*", **options: Any
) -> Iterator[ProjectionResult]:
    """``project_parameters`` for the length of a ``with`` block, after which the trained weights are back, bit for bit.

    Args:
        model: the module.
        constraints: as in ``project_parameters``; for a batch, functions that close over it.
        parameters: the same.
        options: its keyword arguments.

    Yields:
        The result; inside the block the model has the projected parameters.

    >>> import feasible as fs
    >>> layer = nn.Linear(2, 1)
    >>> x, trained = torch.ones(1, 2), layer.weight.detach().clone()
    >>> with fs.projected_parameters(layer, [(lambda m: m(x), fs.Equal(1.0))]) as result:
    ...     print(result.success, bool((layer(x) - 1).abs() < 1e-5))
    True True
    >>> torch.equal(layer.weight, trained)
    True
    """
    kept = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    result = project_parameters(model, constraints, parameters, **options)
    try:
        yield result
    finally:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)


def _check_choices(
    metric: str,
    method: str,
    points: Points,
    targets: Tensor | None,
    iterations: int | None,
    rounds: int,
    rcond: float | None,
    rate: float,
) -> None:
    if metric not in METRICS:
        raise ValueError(f'project_parameters: metric must be "parameters" or "outputs", got {metric!r}.')
    if method not in METHODS:
        raise ValueError(f"project_parameters: method must be one of {', '.join(METHODS)}, got {method!r}.")
    if metric == "outputs" and points is None:
        raise ValueError(
            'project_parameters: metric="outputs" needs points=, where the outputs are to change as little as possible.'
        )
    if targets is not None and metric != "outputs":
        raise ValueError('project_parameters: targets= draws outputs at points= and needs metric="outputs".')
    if metric == "outputs" and method in ("matrix-free", "adam"):
        raise ValueError(
            f'project_parameters: method={method!r} has no metric="outputs"; use method="dense".'
        )
    if iterations is not None and iterations < 0:
        raise ValueError(f"project_parameters: max_iterations must be ≥ 0, got {iterations!r}.")
    if rounds < 1:
        raise ValueError(f"project_parameters: solver_rounds must be ≥ 1, got {rounds!r}.")
    if rcond is not None and not 0 <= rcond < 1:
        raise ValueError(f"project_parameters: rcond must be in [0, 1), got {rcond!r}.")
    if not (rate > 0 and math.isfinite(rate)):
        raise ValueError(f"project_parameters: learning_rate must be positive, got {rate!r}.")


def _tolerance(tol: float | None, dtype: torch.dtype) -> float:
    reachable = REACHABLE * torch.finfo(dtype).eps
    if tol is None:
        return max(TOLERANCE, reachable)
    if not 0 < tol < math.inf:
        raise ValueError(f"project_parameters: tol must be positive, got {tol!r}.")
    if tol >= reachable:
        return tol
    warnings.warn(
        f"project_parameters: the parameters are {str(dtype).removeprefix('torch.')}, in which a residual of about "
        f"{reachable:.1g} is reachable, not {tol:g}; that is used instead. For more, convert first: model.double().",
        stacklevel=4,
    )
    return reachable


def _shaped(targets: Tensor | None, watched: Any) -> Tensor | None:
    """The targets, flat in float64."""
    if targets is None or watched is None:
        return None
    count = watched().numel()
    if not isinstance(targets, Tensor) or targets.numel() != count or not bool(targets.isfinite().all()):
        got = f"shape {tuple(targets.shape)}" if isinstance(targets, Tensor) else type(targets).__name__
        raise ValueError(
            f"project_parameters: targets= must be a finite tensor with the {count} outputs at points=, got {got}."
        )
    return targets.detach().reshape(-1).double()


def _outputs(search: Search, watched: Any, here: Point) -> Tensor | None:
    """The outputs where the parameters are: at the points, or wherever the constraints looked at them."""
    if watched is None:
        return here.outputs
    with search.replay:
        found: Tensor = watched().detach().double()
    return found


def _warn_of_collapse(result: ProjectionResult) -> None:
    if result.output_rms is None or not result.output_rms[1] < COLLAPSE * result.output_rms[0]:
        return
    before, after = result.output_rms
    warnings.warn(
        f"project_parameters: the outputs' root mean square fell from {before:.3g} to {after:.3g}: the least move may "
        "lead to the trivial solution. Anchor the model: initial or boundary conditions, or data, as further "
        'constraints; or metric="outputs" with points=.',
        stacklevel=4,
    )
