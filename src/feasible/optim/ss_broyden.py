"""Self-scaled Broyden and BFGS: dense curvature for small networks that must become very accurate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, final, get_args

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from feasible.optim.constrained import ConstrainedOptimizer, as_number, needs_closure
from feasible.optim.line_search import Search, Trial
from feasible.optim.self_scaled import Variant, update_
from feasible.optim.vector import Vector
from feasible.sets import Set

__all__ = ["SSBroyden"]

Closure = Callable[[], Any]


class Place(NamedTuple):
    """Weights, and what the closure said there."""

    x: Tensor
    f: float
    g: Tensor
    loss: Any

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are numbers."""
        return math.isfinite(self.f) and bool(self.g.isfinite().all())


@final
class SSBroyden(ConstrainedOptimizer):
    """Quasi-Newton steps ``−t H ∇f`` with a dense inverse Hessian H that rescales itself.

    After each step H is divided by a factor τ ≤ 1 and updated by a member φ of Broyden's family, both chosen so that
    the eigenvalues of H follow those of the inverse Hessian quickly where they are wrong by orders of magnitude, as
    they are for residuals of differential equations. The step length t obeys the strong Wolfe conditions. Where a
    step shows no upward curvature H is kept; where its direction does not descend H starts afresh.

    For full batches and deterministic losses; train in float64. **Memory**: H has n² numbers for n weights (80 MB for
    3,000 in float64), and a step costs a few products with it: above ``limit`` weights it is refused. With residuals
    at hand, ``LevenbergMarquardt`` is faster.

    Weights under sets are refused: use ``ProjectedLBFGS``, or a chart (``Reparametrize``). Among several groups the
    options are those of the first. Under DDP the closure must return the loss averaged over the ranks.

    Args:
        params: parameters or groups of them.
        lr: the first trial of the line search, in units of the quasi-Newton step.
        variant: ``"broyden"`` or ``"bfgs"`` (φ = 1).
        max_iter: iterations a step.
        max_eval: calls of the closure after which a step ends; ``None``: ``1.25 · max_iter``.
        tolerance_grad: a step ends where ``max |∇f|`` is no larger.
        tolerance_change: a step ends where the loss or every weight changed by no more.
        limit: the most weights.

    Raises:
        ValueError: an argument is out of range, a parameter is complex, or there are more weights than the limit.

    >>> import torch, feasible as fs
    >>> x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    >>> optimizer = fs.optim.SSBroyden([x], max_iter=60)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    ...     loss.backward()
    ...     return loss
    >>> _ = optimizer.step(closure)
    >>> bool((x - 1).abs().max() < 1e-6)
    True

    Source: Al-Baali, *Numerical experience with a class of self-scaling quasi-Newton algorithms* (1998); Urbán,
    Stefanou & Pons, *Unveiling the optimization process of physics informed neural networks* (2024).
    """

    searches = True
    works_with = "weights without a set. Use ProjectedLBFGS, or by=Reparametrize() in constrain."

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        *,
        variant: Variant = "broyden",
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-10,
        tolerance_change: float = 0.0,
        limit: int = 10_000,
    ) -> None:
        calls = max_iter * 5 // 4 if max_eval is None else max_eval
        for name, count in {"max_iter": max_iter, "max_eval": calls, "limit": limit}.items():
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"SSBroyden: {name} must be a positive integer, got {count!r}.")
        for name, number in {"tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change}.items():
            if not 0 <= number < math.inf:
                raise ValueError(f"SSBroyden: {name} must be a number ≥ 0, got {number!r}.")
        if not 0 < lr < math.inf:
            raise ValueError(f"SSBroyden: lr must be a number > 0, got {lr!r}.")
        if variant not in get_args(Variant):
            raise ValueError(f'SSBroyden: variant must be "broyden" or "bfgs", got {variant!r}.')
        options = {"lr": lr, "variant": variant, "max_iter": max_iter, "max_eval": calls, "limit": limit}
        tolerances = {"tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change}
        super().__init__(params, {**options, **tolerances})
        if self._vector().dtype != torch.float64:
            warnings.warn(
                "SSBroyden: in float32 the line search loses its way where the loss changes in its seventh digit. "
                "Use float64: model.double().",
                stacklevel=2,
            )

    def objection(self, set: Set) -> str | None:
        """Every set."""
        return "its inverse Hessian knows no bounds"

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Up to ``max_iter`` iterations.

        Args:
            closure: computes the loss, calls backward and returns the loss; gradients are cleared before each call.

        Returns:
            What the first call of the closure returned.

        Raises:
            ValueError: there is no closure, or it does not return one number.
            FloatingPointError: the loss is not finite where the step begins; the weights stay as they were.
        """
        if closure is None:
            raise needs_closure("SSBroyden")
        closure = torch.enable_grad()(closure)
        vector, own = self._vector(), self._own
        inverse = self._inverse(vector)
        start = self._evaluate(closure, vector, vector.read())
        if not start.is_finite:
            raise FloatingPointError(
                f"SSBroyden: after {own['n_iter']} iterations the loss is {start.f:g}, or its gradient is not finite."
            )
        here = start
        try:
            for here, last in self._iterations(closure, vector, start, inverse):
                if last is not here:
                    # A search that fails ends where it began, with the values and gradients of that point.
                    self._evaluate(closure, vector, vector.write(here.x))
        except BaseException:
            vector.write(here.x)
            raise
        return start.loss

    def _iterations(
        self, closure: Closure, vector: Vector, here: Place, inverse: Tensor
    ) -> Iterator[tuple[Place, Place]]:
        """Where each iteration ends, and where it looked last."""
        options, own = self.param_groups[0], self._own
        most = own["func_evals"] - 1 + options["max_eval"]
        tolerance = options["tolerance_change"]
        for _ in range(options["max_iter"]):
            if _largest(here.g) <= options["tolerance_grad"] or own["func_evals"] >= most:
                return
            before, was_first = here, own["updates"] == 0
            here, t, last = self._search(closure, vector, here, inverse)
            yield here, last
            if here is before:
                if was_first:
                    return
                self._restart(inverse)  # the curvature is not what it was
                continue
            step, was_first = here.x - before.x, own["updates"] == 0
            descent = -t * float(before.g @ step)
            own["updates"] += update_(
                inverse, step, here.g - before.g, descent, options["variant"], was_first
            )
            own["n_iter"] += 1
            if abs(here.f - before.f) <= tolerance or _largest(step) <= tolerance:
                return

    def _search(
        self, closure: Closure, vector: Vector, here: Place, inverse: Tensor
    ) -> tuple[Place, float, Place]:
        """The accepted point (where it began, if there is none), the step length, and the last point that was tried."""
        own = self._own
        d = -(inverse @ here.g)
        slope = float(here.g @ d)
        if not slope < 0 and own["updates"]:
            self._restart(inverse)
            d, slope = -here.g, -float(here.g @ here.g)
        tried = [here]

        def evaluate(t: float) -> Trial:
            there = self._evaluate(closure, vector, vector.write(torch.add(here.x, d, alpha=t)))
            tried.append(there)
            return Trial(t, there.f, float(there.g @ d) if there.is_finite else math.nan, there, t * slope)

        first = self.param_groups[0]["lr"]
        if own["updates"] == 0:
            first *= min(1.0, 1 / max(float(here.g.abs().sum()), torch.finfo(here.g.dtype).tiny))
        rounding = 10 * torch.finfo(here.g.dtype).eps * abs(here.f)
        found = Search(evaluate, Trial(0.0, here.f, slope, here), rounding=rounding).run(first)
        return (here, 0.0, tried[-1]) if found is None else (found.point, found.t, tried[-1])

    # -- weights, values, what is remembered ------------------------------------------------------

    def _evaluate(self, closure: Closure, vector: Vector, x: Tensor) -> Place:
        vector.clear_gradients()
        loss = closure()
        value = as_number("SSBroyden", loss)
        vector.check_gradients("SSBroyden")
        self._own["func_evals"] += 1
        return Place(x, value, vector.read_gradients(), loss)

    def _vector(self) -> Vector:
        return Vector(self._parameters())

    @property
    def _own(self) -> dict[str, Any]:
        """What is remembered across steps; torch saves it under the first parameter."""
        own: dict[str, Any] = self.state[self._parameters()[0]]
        for name in ("n_iter", "func_evals", "updates"):
            own.setdefault(name, 0)
        return own

    def _inverse(self, vector: Vector) -> Tensor:
        """The inverse Hessian; the unit matrix where there is none yet, or where the weights are others."""
        own, count = self._own, sum(vector.sizes)
        if count > self.param_groups[0]["limit"]:
            size = count**2 * vector.dtype.itemsize / 2**30
            raise ValueError(
                f"SSBroyden: {count:,} weights need an inverse Hessian of {size:,.1f} GiB, and limit is "
                f"{self.param_groups[0]['limit']:,}.\n  Raise limit=, or use LevenbergMarquardt or ProjectedLBFGS."
            )
        inverse = own.get("inverse")
        device = vector.parameters[0].device if count else None
        if inverse is None or len(inverse) != count:
            inverse = own["inverse"] = torch.eye(count, dtype=vector.dtype, device=device)
            own["updates"] = 0
        elif inverse.dtype != vector.dtype or inverse.device != device:
            inverse = own["inverse"] = inverse.to(device, vector.dtype)
        return inverse

    def _restart(self, inverse: Tensor) -> None:
        inverse.zero_().diagonal().fill_(1)
        self._own["updates"] = 0


def _largest(v: Tensor) -> float:
    return float(v.abs().max()) if v.numel() else 0.0
