"""The end of a training with discrete weights: round, improve, freeze, retrain the rest."""

from feasible.problem.polish.procedure import polish
from feasible.problem.polish.result import Polish, Stage

__all__ = ["Polish", "Stage", "polish"]
