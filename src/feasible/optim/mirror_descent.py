"""Mirror descent: multiplicative steps that keep weights positive."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from feasible.optim.constrained import ConstrainedOptimizer, Sets, dense_gradient
from feasible.optim.region import bounds_of
from feasible.sets import Flatten, Set, Simplex

__all__ = ["MirrorDescent"]


@final
class MirrorDescent(ConstrainedOptimizer):
    """Mirror descent with entropies: weights are multiplied, so they keep their sign.

    - one bound (``NonNegative``): ``x − l ← (x − l) · exp(−lr · g)``
    - two finite bounds (``Box``): ``log((x − l)/(u − x))`` takes a gradient step
    - ``Simplex(total, dim)``: ``x ← total · softmax(log x − lr · g)``
    - no set: ``x ← x − lr · g``

    A weight moves in proportion to its distance from the bound, so small weights become smaller slowly and none
    ever reaches the bound. **An entry that is exactly on its bound stays there for ever**: start inside (with
    ``weight.abs_()`` instead of clipping, say).

    Args:
        params: parameters or groups of them; a group may have a ``"set"``, and its own ``lr``.
        lr: the learning rate.
        sets: a set for all parameters, a list with one (or ``None``) for each, or a mapping from parameters.
        momentum: decay of a running average of gradients.
        maximize: maximise instead.

    Raises:
        ValueError: an argument is out of range, or a set does not fit.
        UnsupportedError: a set is neither a range of its entries nor a simplex.

    >>> import torch, feasible as fs
    >>> x = torch.tensor([0.5, 0.5], requires_grad=True)
    >>> optimizer = fs.optim.MirrorDescent([x], lr=0.2, sets=fs.NonNegative())
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     (x - torch.tensor([2.0, -1.0])).square().sum().backward()
    ...     _ = optimizer.step()
    >>> [round(entry, 3) for entry in x.tolist()]
    [2.0, 0.0]

    Source: Kivinen & Warmuth, *Exponentiated gradient versus gradient descent for linear predictors* (1997);
    Beck & Teboulle, *Mirror descent and nonlinear projected subgradient methods* (2003).
    """

    works_with = (
        "ranges (NonNegative, Box, …) and Simplex. Elsewhere use ProjectedLBFGS, or Adam with Project."
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        sets: Sets | None = None,
        *,
        momentum: float = 0.0,
        maximize: bool = False,
    ) -> None:
        if not 0 <= lr < math.inf:
            raise ValueError(f"MirrorDescent: lr must be a number ≥ 0, got {lr!r}.")
        if not 0 <= momentum < 1:
            raise ValueError(f"MirrorDescent: momentum must be in [0, 1), got {momentum!r}.")
        super().__init__(params, {"lr": lr, "momentum": momentum, "maximize": maximize}, sets)

    def objection(self, set: Set) -> str | None:
        """All but ranges and simplices."""
        if simplex_of(set) is not None or (set.convex and set.separable):
            return None
        return "no entropy keeps weights in it"

    def constrain_(self, parameter: Tensor, set: Set | None) -> None:
        """As for every optimizer here; warns of entries that start on a bound, where they stay."""
        held = self.set_of(parameter)
        super().constrain_(parameter, set)
        bound = self.set_of(parameter)
        if bound is not None and bound is not held:
            stuck = int(on_boundary(bound, parameter.detach()).sum())
            if stuck:
                warnings.warn(
                    f"MirrorDescent: {stuck} of {parameter.numel()} entries of a weight start exactly on the boundary "
                    f"of {set!r} and will stay there. Start inside, as with weight.abs_().",
                    stacklevel=2,
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step.

        Args:
            closure: clears the gradients, computes the loss, calls backward and returns the loss; without it,
                gradients are there already.

        Returns:
            What the closure returned.
        """
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.numel():
                    self._step_one(parameter, group)
        return loss

    def _step_one(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient, state = dense_gradient(parameter, group["maximize"]), self.state[parameter]
        if group["momentum"]:
            average = torch.lerp(
                state.get("average", torch.zeros_like(gradient)).to(gradient), gradient, 1 - group["momentum"]
            )
            state["average"], state["averaged"] = average, state.get("averaged", 0) + 1
            gradient = average / (1 - group["momentum"] ** state["averaged"])
        step = group["lr"] * gradient
        set = self.set_of(parameter)
        parameter.copy_(parameter - step if set is None else moved(set.cast(parameter), parameter, step))


def simplex_of(set: Set) -> Simplex | None:
    """The simplex that a set is, on a flattened view perhaps."""
    inner = set.inner if isinstance(set, Flatten) else set
    return inner if isinstance(inner, Simplex) else None


def moved(set: Set, x: Tensor, step: Tensor) -> Tensor:
    """Where a mirror step leads; ``step`` is the learning rate times the gradient."""
    simplex = simplex_of(set)
    if simplex is None:
        return moved_in_range(*bounds_of(set, x), x, step)
    start = set.start_dim if isinstance(set, Flatten) else None
    flat, by = (v if start is None else v.flatten(start) for v in (x, step))
    rows = moved_on_simplex(simplex.rows(flat), simplex.rows(by), simplex.total)
    return simplex.from_rows(rows, flat).reshape(x.shape)


def moved_on_simplex(rows: Tensor, step: Tensor, total: float) -> Tensor:
    """``total · softmax(log x − step)`` for each row; zeros stay 0, other entries positive."""
    logs = rows.log() - step  # −inf at zeros
    least = torch.finfo(rows.dtype).tiny
    weights = torch.where(rows > 0, logs.softmax(-1).clamp_min(least), 0.0)
    return weights * (total / weights.sum(-1, keepdim=True))


def moved_in_range(lower: Tensor, upper: Tensor, x: Tensor, step: Tensor) -> Tensor:
    """The step of each entry for the bounds that it has; entries on a bound stay, others do not arrive there."""
    below, above = x - lower, upper - x
    has_lower, has_upper = lower.isfinite(), upper.isfinite()
    there = torch.where(has_lower, lower + below * torch.exp(-step), x - step)
    there = torch.where(has_upper, upper - above * torch.exp(step), there)
    # Between two bounds the odds below/above are multiplied, in a form that cannot overflow.
    share = torch.exp(-step.abs())
    room = torch.where(step > 0, above + below * share, below + above * share)
    both = x - torch.copysign(below * above * (1 - share) / room, step)
    there = torch.where(has_lower & has_upper, both, there)
    ends = (torch.full_like(x, math.inf), torch.full_like(x, -math.inf))
    inner = (torch.nextafter(lower, ends[0]), torch.nextafter(upper, ends[1]))
    there = torch.maximum(torch.minimum(there, inner[1]), inner[0])
    return torch.where((below <= 0) | (above <= 0), x, there)


def on_boundary(set: Set, x: Tensor) -> Tensor:
    """The entries that no step will move, though the set would let them."""
    if simplex_of(set) is not None:
        return x == 0
    lower, upper = bounds_of(set, x)
    return ((x == lower) | (x == upper)) & (lower < upper)
