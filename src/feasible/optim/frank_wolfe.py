"""Frank–Wolfe: steps towards the best member of the set, without projections."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, final, get_args

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from feasible.optim.constrained import (
    ConstrainedOptimizer,
    Sets,
    as_number,
    dense_gradient,
    needs_closure,
)
from feasible.sets import Set

__all__ = ["FrankWolfe"]

StepRule = Literal["auto", "diminishing", "backtracking"]


class Move(NamedTuple):
    """One weight on its way to a member of its set."""

    parameter: Tensor
    set: Set
    before: Tensor
    way: Tensor
    gap: Tensor
    rate: float


@final
class FrankWolfe(ConstrainedOptimizer):
    """Frank–Wolfe (conditional gradient): ``x ← x + γ (s − x)`` with ``s = argmin_{s ∈ K} ⟨m, s⟩``.

    m is the gradient, or with ``momentum`` a running average of gradients, without which mini-batches do not
    lead to a solution. Nothing is projected: a step costs one linear minimisation, which for a nuclear ball is
    one pair of singular vectors, and weights are means of few vertices. ``⟨m, x − s⟩``, the Frank–Wolfe gap,
    bounds ``f(x) − min f`` for convex f where m is the gradient; ``gap`` and ``gaps`` report it.

    Step lengths: ``"diminishing"``: ``γ = 2/(k + 2)`` in step k = 0, 1, …; ``"backtracking"``: the shortest of 1
    and ``gap / (L ‖s − x‖²)``, with an estimate L that grows until the closure's loss falls as it promises, and
    shrinks a little at every step. ``"auto"`` backtracks where a closure is given and there is no momentum.

    Args:
        params: parameters or groups of them; a group may have a ``"set"``. Every weight needs a convex set
            that offers ``lmo``; give free weights to another optimizer.
        lr: a factor on γ, which never exceeds 1.
        sets: a set for all parameters, a list with one for each, or a mapping from parameters.
        step_rule: how long the steps are.
        momentum: decay of the running average of gradients.
        maximize: maximise instead.

    Raises:
        ValueError: an argument is out of range, or a set does not fit.
        UnsupportedError: a set is not convex, or offers no linear minimisation.

    >>> import torch, feasible as fs
    >>> x = torch.tensor([1.0, 0.0, 0.0], requires_grad=True)
    >>> optimizer = fs.optim.FrankWolfe([x], sets=fs.Simplex())
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (x - torch.tensor([0.0, 0.5, 0.5])).square().sum()
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(100):
    ...     _ = optimizer.step(closure)
    >>> bool(optimizer.gap < 1e-2)
    True

    Source: Jaggi, *Revisiting Frank–Wolfe* (2013); backtracking: Pedregosa, Negiar, Askari & Jaggi, *Linearly
    convergent Frank–Wolfe with backtracking line-search* (2020), algorithm 1; mini-batches: Mokhtari, Hassani &
    Karbasi, *Stochastic conditional gradient methods* (2020).
    """

    works_with = (
        "convex sets that offer lmo (bounded ones). Elsewhere use ProjectedLBFGS, or Adam with Project."
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        sets: Sets | None = None,
        *,
        step_rule: StepRule = "auto",
        momentum: float = 0.0,
        maximize: bool = False,
    ) -> None:
        if not 0 <= lr < math.inf:
            raise ValueError(f"FrankWolfe: lr must be a number ≥ 0, got {lr!r}.")
        if not 0 <= momentum < 1:
            raise ValueError(f"FrankWolfe: momentum must be in [0, 1), got {momentum!r}.")
        if step_rule not in get_args(StepRule):
            raise ValueError(
                f"FrankWolfe: step_rule must be one of {', '.join(get_args(StepRule))}, got {step_rule!r}."
            )
        defaults = {"lr": lr, "step_rule": step_rule, "momentum": momentum, "maximize": maximize}
        super().__init__(params, defaults, sets)

    def objection(self, set: Set) -> str | None:
        """Sets without linear minimisation, and those that do not hold the means of their members."""
        if not set.convex:
            return "it is not convex, so a mean of members is no member"
        return None if set.offers("lmo") else "it offers no linear minimisation"

    @property
    def gaps(self) -> list[float]:
        """``⟨m, x − s⟩`` of each parameter group where the last step began; NaN before the first."""
        found = [[self.state[p].get("gap") for p in group["params"]] for group in self.param_groups]
        return [
            float(torch.stack([gap.cpu() for gap in group if gap is not None]).sum())
            if any(gap is not None for gap in group)
            else math.nan
            for group in found
        ]

    @property
    def gap(self) -> float:
        """The sum of ``gaps``."""
        return sum(self.gaps)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step.

        Args:
            closure: clears the gradients, computes the loss, calls backward and returns the loss; with
                backtracking it is called once more for every trial. Without it, gradients are there already.

        Returns:
            What the first call of the closure returned.

        Raises:
            ValueError: a weight has no set, or backtracking has no closure.
            FloatingPointError: with backtracking, the loss is not finite where the step begins.
        """
        options = self.param_groups[0]
        rule = options["step_rule"]
        if rule == "auto":
            rule = "backtracking" if closure is not None and not options["momentum"] else "diminishing"
        if rule == "backtracking" and closure is None:
            raise needs_closure("FrankWolfe(step_rule='backtracking')")
        evaluate = None if closure is None else torch.enable_grad()(closure)
        if rule == "backtracking":
            self.zero_grad(set_to_none=False)  # the last trial's are there still
        loss = None if evaluate is None else evaluate()
        moves = [
            self._move(parameter, group)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.numel()
        ]
        if not moves:
            return loss
        count = self._own.setdefault("n_iter", 0)
        self._own["n_iter"] = count + 1
        if rule == "diminishing":
            self._go(moves, 2 / (count + 2))
        else:
            assert evaluate is not None
            self._backtrack(evaluate, loss, moves)
        return loss

    @property
    def _own(self) -> dict[str, Any]:
        """What concerns all weights; torch saves it under the first parameter."""
        own: dict[str, Any] = self.state[self._parameters()[0]]
        return own

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> Move:
        set = self.set_of(parameter)
        if set is None:
            raise ValueError(
                f"FrankWolfe: {self._name(parameter)} has no set, so there is no best member to go to.\n"
                '  Give it one (sets=…, a group\'s "set", or Problem.constrain), or to another optimizer.'
            )
        set = set.cast(parameter)  # the weight may have moved to another device
        gradient, state = dense_gradient(parameter, group["maximize"]), self.state[parameter]
        if group["momentum"]:
            average = state.get("average")
            gradient = (
                gradient if average is None else torch.lerp(gradient, average.to(gradient), group["momentum"])
            )
            state["average"] = gradient.clone()
        way = set.lmo(gradient) - parameter
        state["gap"] = -(gradient.double() * way.double()).sum()
        return Move(parameter, set, parameter.clone(), way, state["gap"], group["lr"])

    def _go(self, moves: list[Move], length: float) -> None:
        """To this share of each way."""
        for move in moves:
            share = min(1.0, move.rate * length)
            there = move.before + move.way if share == 1 else torch.add(move.before, move.way, alpha=share)
            move.parameter.copy_(move.set.project(there) if move.set.exact else there)

    def _backtrack(self, evaluate: Callable[[], Any], loss: Any, moves: list[Move]) -> None:
        sign = -1 if self.param_groups[0]["maximize"] else 1
        start = sign * as_number("FrankWolfe", loss)
        if not math.isfinite(start):
            raise FloatingPointError(f"FrankWolfe: the loss is {start:g} where the step begins.")
        gap = sum(float(move.gap) for move in moves)
        square = sum(float(move.way.double().square().sum()) for move in moves)
        if not gap > 0 or square == 0:
            return
        rounding = 10 * torch.finfo(moves[0].parameter.dtype).eps * abs(start)
        lipschitz = 0.9 * self._own.get("lipschitz", gap / square)
        for _ in range(TRIALS):
            length = min(1.0, gap / (lipschitz * square))
            self._go(moves, length)
            promised = start - length * gap + length**2 * lipschitz * square / 2
            try:
                found = sign * as_number("FrankWolfe", evaluate())
            except BaseException:
                self._go(moves, 0.0)
                raise
            if found <= promised + rounding:
                break
            lipschitz *= 2
        else:
            self._go(moves, 0.0)
            evaluate()
        self._own["lipschitz"] = lipschitz


TRIALS = 60
"""Doublings after which a step stays where it began."""
