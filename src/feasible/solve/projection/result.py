"""What a projection of parameters found, and how far it had to go for it."""

from __future__ import annotations

from dataclasses import dataclass

from feasible.solve.minimization.result import Result

__all__ = ["ProjectionResult"]


@dataclass(frozen=True, eq=False)
class ProjectionResult(Result):
    """What ``project_parameters`` found: a ``Result`` whose ``fun`` is half the squared move in the metric.

    Args:
        is_affine: whether the constraints were seen to be affine in the parameters.
        rank: numerical rank of the Jacobian of the rows that were active in the last step; ``None`` where no
            factorisation was made.
        metric_rank: in the metric of the outputs, how many directions were left that outputs can tell apart.
        residual: root mean square of the constraints' distances to their sets, before and after.
        maxcv_before: the largest distance before.
        relative_move: ``‖Δθ‖/‖θ‖`` over the named parameters.
        output_change: root mean square of the outputs' change; ``None`` where no outputs were seen.
        output_rms: root mean square of the outputs, before and after.
    """

    is_affine: bool
    rank: int | None
    metric_rank: int | None
    residual: tuple[float, float]
    maxcv_before: float
    relative_move: float
    output_change: float | None
    output_rms: tuple[float, float] | None

    def __str__(self) -> str:
        """A few lines for people."""
        kind = "affine" if self.is_affine else "nonlinear"
        lines = [
            self.message,
            f"  residual (RMS) {self.residual[0]:.3g} → {self.residual[1]:.3g}, worst {self.maxcv_before:.2g} → "
            f"{self.maxcv:.2g}",
            f"  {kind} in the parameters, rank {self.rank}, {self.nit} iterations ({self.method}), "
            f"moved by {self.relative_move:.3g} of ‖θ‖",
        ]
        if self.output_rms is not None:
            before, after = self.output_rms
            changed = "" if self.output_change is None else f", changed by {self.output_change:.3g}"
            lines.append(f"  outputs (RMS) {before:.3g} → {after:.3g}{changed}")
        return "\n".join(lines)
