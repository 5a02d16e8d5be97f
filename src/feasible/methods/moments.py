"""The only code that knows where optimizers keep their moments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, SGD, Adagrad, Adam, Optimizer, RMSprop

_FIRST = ("exp_avg", "momentum_buffer")

PRECONDITIONED = (SGD, Adam, RMSprop, Adagrad)
"""Optimizers (and their kinds, such as AdamW) whose preconditioner is known."""


class Moments:
    """The running averages that an optimizer keeps of a weight's gradients."""

    def __init__(self, optimizer: Optimizer | None) -> None:
        self._optimizer = optimizer

    def first(self, parameter: Tensor) -> Tensor | None:
        """The average of past gradients that the next step will follow, if the optimizer keeps one."""
        state = self._state(parameter)
        for key in _FIRST:
            moment = state.get(key)
            if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                return moment
        return None

    @property
    def has_preconditioner(self) -> bool:
        """Whether the last step was ``−P`` times an average of gradients, with a P that can be told."""
        return isinstance(self._optimizer, PRECONDITIONED)

    def preconditioner(self, parameter: Tensor, group: Mapping[str, Any]) -> Tensor | None:
        """The diagonal P, learning rate included, of the step that the optimizer has just made.

        Where the gradient stays the same, the steps become ``−P ∇f``: of SGD with momentum m, P is lr/(1 − m).
        ``None``: the optimizer has not moved this parameter.
        """
        state, optimizer = self._state(parameter), self._optimizer
        rate = group["lr"]
        if isinstance(optimizer, SGD):
            return torch.ones_like(parameter) * float(rate * _gathered(group, 1 - group["dampening"]))
        if "step" not in state or parameter.grad is None:
            return None
        step = state["step"]
        if isinstance(optimizer, Adam):
            square: Tensor = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
            seen = 1 - group["betas"][1] ** step
            return torch.as_tensor(rate / ((square / seen).sqrt() + group["eps"]))
        if isinstance(optimizer, RMSprop):
            square = state["square_avg"]
            if group["centered"]:
                square = (square - state["grad_avg"].square()).clamp_min(0)
            return torch.as_tensor(rate * _gathered(group, 1.0) / (square.sqrt() + group["eps"]))
        if isinstance(optimizer, Adagrad):
            slowed = rate / (1 + (step - 1) * group["lr_decay"])
            return torch.as_tensor(slowed / (state["sum"].sqrt() + group["eps"]))
        return None

    def clear(self, parameter: Tensor, where: Tensor | None = None) -> None:
        """Set every average of the weight to zero, or only the entries that ``where`` picks."""
        for value in self._state(parameter).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.dim():
                if where is None:
                    value.zero_()
                else:
                    value.masked_fill_(where, 0)

    def replace(self, old: Tensor, new: Tensor) -> None:
        """Let the optimizer step ``new`` in the place of ``old``, with moments that start afresh."""
        if self._optimizer is None:
            return
        for group in self._optimizer.param_groups:
            # In place: L-BFGS holds on to this very list.
            group["params"][:] = [new if parameter is old else parameter for parameter in group["params"]]
        self.forget_curvature()
        self._optimizer.state.pop(old, None)

    def forget_curvature(self) -> None:
        """L-BFGS begins anew: its curvature pairs span all parameters, and would move one that is held by now."""
        if isinstance(self._optimizer, LBFGS):
            self._optimizer.state.clear()

    def _state(self, parameter: Tensor) -> dict[str, Any]:
        if self._optimizer is None or parameter not in self._optimizer.state:
            return {}
        return self._optimizer.state[parameter]  # type: ignore[no-any-return]


def _gathered(group: Mapping[str, Any], share: float) -> float:
    """How much a gradient that stays the same is worth, once momentum has gathered it."""
    momentum = float(group["momentum"])
    return share / (1 - momentum) if momentum else 1.0
