"""Steps of a damped least-squares problem, tried until one descends as far as was predicted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from feasible.optim.quadratic import Quadratic, Suggestion
from feasible.optim.residuals import Residual
from feasible.optim.vector import Vector

ACCEPTED = 1e-4
"""The least gain ratio of a step that is kept."""
GOOD, POOR = 0.75, 0.25
"""Above and below these gain ratios the damping falls and rises."""
PATIENCE = 4
"""After so many rejections in a row the damping rises ever faster."""
PROBE = 0.1
"""The share of a step at which the way's curvature is measured."""

NOTICEABLE = 10.0
"""A deviation from the straight way by less than so many roundings is not taken for a bend."""


class Trials:
    """Looks for a damping whose step descends.

    Args:
        model: the linearised problem.
        residual: the true one.
        vector: the weights.
        may_accelerate: whether a second solution with the same matrix is cheap.
        options: of the optimizer.
        settle: moves parameters that are eliminated to their optimum, and returns the residual there; ``None``: none.
    """

    def __init__(
        self,
        model: Quadratic,
        residual: Residual,
        vector: Vector,
        may_accelerate: bool,
        options: dict[str, Any],
        settle: Callable[[Residual], Tensor] | None = None,
    ) -> None:
        self.model, self.residual, self.vector, self.options = model, residual, vector, options
        self.settle = settle
        self.loss = 0.5 * float(model.r @ model.r)
        self.accelerates = may_accelerate and options["acceleration"] > 0 and not model.is_coupled
        self.accepted = self.is_level = False
        self.fall = self.gain = self.damping = 0.0
        self.count = 0

    def run(self, damping: float) -> float:
        """Try steps, starting with a damping; the weights end where the accepted one leads, or where they were.

        Returns:
            The damping for the next iteration.
        """
        options, factor = self.options, self.options["increase"]
        try:
            for self.count in range(1, options["max_trials"] + 1):
                self.damping = damping
                suggestion = self.model.suggest(damping)
                if abs(suggestion.predicted) <= torch.finfo(self.vector.dtype).eps * self.loss:
                    self.is_level = True
                    break
                self.accepted = suggestion.predicted > 0 and self._try(suggestion)
                if self.accepted:
                    break
                self.vector.write(self.model.x)
                damping *= factor
                factor *= options["increase"] if self.count > PATIENCE else 1
        except BaseException:
            self.vector.write(self.model.x)
            raise
        if self.accepted and self.gain > GOOD:
            return damping / float(options["decrease"])
        return damping * options["increase"] if self.accepted and self.gain < POOR else damping

    def _try(self, suggestion: Suggestion) -> bool:
        """Go there, and say whether it was worth it."""
        step = suggestion.s
        if self.accelerates:
            correction = self._correction(suggestion)
            if correction is None:
                return False
            step = step + correction
        there = self._at(step)
        self.fall, self.gain = 0.0, -math.inf
        if there is None:
            return False
        if self.settle is not None:
            there = self.settle(self.residual)
        r = self.model.r
        fall = 0.5 * float((r - there) @ (r + there))
        self.gain = fall / suggestion.predicted
        if not self.gain > ACCEPTED:
            return False
        self.fall = fall
        return True

    def _correction(self, suggestion: Suggestion) -> Tensor | None:
        """Half the second derivative of the way that the step begins; ``None`` where it is too long to be believed."""
        model, h = self.model, PROBE
        ahead = self._at(h * suggestion.s)
        if ahead is None:
            return None
        bent = ahead - model.r - h * suggestion.image
        if float(torch.linalg.vector_norm(bent)) <= NOTICEABLE * model.rounding:
            return torch.zeros_like(suggestion.s)
        bend = 2 / h**2 * bent
        correction = 0.5 * model.system.solve(bend, self.damping, suggestion.free)
        longest = self.options["acceleration"] * model.length(suggestion.s)
        return correction if 2 * model.length(correction) <= longest else None

    def _at(self, step: Tensor) -> Tensor | None:
        """The residual after a step; ``None`` where it is not finite."""
        region = self.model.region
        self.vector.write(region.project(self.model.x + step))
        rows = self.residual.at(self.vector.dtype)
        return rows if bool(rows.isfinite().all()) else None
