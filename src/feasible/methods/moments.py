"""The only code that knows where optimizers keep their moments."""

from __future__ import annotations

from torch import Tensor
from torch.optim import LBFGS, Optimizer

_FIRST = ("exp_avg", "momentum_buffer")


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

    def _state(self, parameter: Tensor) -> dict[str, object]:
        if self._optimizer is None or parameter not in self._optimizer.state:
            return {}
        return self._optimizer.state[parameter]  # type: ignore[no-any-return]
