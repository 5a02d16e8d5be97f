"""What a solver found, in scipy's vocabulary, with the sentence for why it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from torch import Tensor

__all__ = ["KKT", "Intermediate", "Result", "Status"]

LARGEST_UNIT = 1e6
"""Gradients beyond this do not make a stationarity any smaller."""


class Status(Enum):
    """Why a solver stopped; the value is a sentence."""

    CONVERGED = "Converged: the KKT conditions hold within the tolerance."
    CONVERGED_NONSMOOTH = (
        "Converged at a kink: x is feasible, and some combination of the gradients around it is zero."
    )
    INFEASIBLE = (
        "Converged to a stationary point of the infeasibility: no small step brings the constraints closer."
    )
    NO_MULTIPLIERS = (
        "Converged to a feasible point where no multipliers satisfy the KKT conditions: "
        "the gradients of the active constraints degenerate there."
    )
    UNBOUNDED = "The objective falls below every bound along feasible points."
    FEASIBLE = "The constraints hold within the tolerance; that no smaller move would do was not shown."
    ITERATION_LIMIT = "The iteration limit was reached first."
    NUMERICAL_TROUBLE = (
        "Numerical trouble: no step improves the point any further, and the KKT conditions do not hold."
    )
    INTERRUPTED = "Interrupted: this is the best point so far."

    @property
    def is_success(self) -> bool:
        """Whether a solution was found."""
        return self in (Status.CONVERGED, Status.CONVERGED_NONSMOOTH, Status.FEASIBLE)


def gradient_unit(*sizes: float) -> float:
    """What stationarity is measured in: the size of the gradients, within reason."""
    return min(max(1.0, *sizes), LARGEST_UNIT)


@dataclass(frozen=True)
class KKT:
    """How well the conditions of Karush, Kuhn and Tucker hold at a point, computed in float64.

    Args:
        stationarity: largest entry of ``∇f + Σ Jᵀλ``, over the size of its terms where that is above 1
            (and below a million).
        feasibility: largest distance of a constraint's value from its set.
        complementarity: how far a multiplier is from the normal cone of its set at the value: the largest entry of
            ``P(v + λ) − v``, for λ over its size where that is above 1.
        active: number of active rows: equations, inequalities without room, bounds that x is at.
        rank: numerical rank of the gradients of the active rows; below ``active``, multipliers are not unique.
            ``None`` where they are too many to be counted.
    """

    stationarity: float
    feasibility: float
    complementarity: float
    active: int
    rank: int | None

    def holds(self, tol: float) -> bool:
        """Whether all three are within ``tol``."""
        return max(self.stationarity, self.feasibility, self.complementarity) <= tol


@dataclass(frozen=True)
class Intermediate:
    """What a callback is shown after each iteration."""

    x: Any
    fun: float
    maxcv: float
    stationarity: float
    nit: int
    nfev: int


@dataclass(frozen=True, eq=False)
class Result:
    """What ``minimize`` found.

    Args:
        x: the solution, in the form of ``x0``.
        fun: the objective there; for residuals r this is ``½‖r‖²``.
        success: whether x is feasible and certified; never true at an infeasible point.
        status: why the solver stopped.
        message: the same as a sentence, with what is special about this run.
        method: the method that found x.
        nit: number of iterations.
        nfev: number of points at which the objective was evaluated.
        njev: number of points at which derivatives were computed.
        maxcv: largest distance of a constraint's value from its set.
        multipliers: one for each constraint, in its value's shape: ``∇f + Σ Jᵀλ = 0``, λ in the normal cone of the set.
        kkt: the certificate.
    """

    x: Any
    fun: float
    success: bool
    status: Status
    message: str
    method: str
    nit: int
    nfev: int
    njev: int
    maxcv: float
    multipliers: tuple[Tensor, ...]
    kkt: KKT

    def __str__(self) -> str:
        """A few lines for people."""
        return (
            f"{self.message}\n"
            f"  fun = {self.fun:.10g}, maxcv = {self.maxcv:.2g}, {self.nit} iterations of {self.method}, "
            f"{self.nfev} evaluations\n"
            f"  stationarity {self.kkt.stationarity:.2g}, complementarity {self.kkt.complementarity:.2g}, "
            f"{self.kkt.active} active, rank {self.kkt.rank}"
        )
