"""How a constraint is enforced: frozen specifications, one method a file."""

from feasible.methods.augmented_lagrangian import AugmentedLagrangian
from feasible.methods.barrier import Barrier
from feasible.methods.lagrangian import Lagrangian
from feasible.methods.method import Method
from feasible.methods.penalty import Penalty
from feasible.methods.project import Project
from feasible.methods.reparametrize import Reparametrize
from feasible.methods.squared_slack import SquaredSlack

__all__ = [
    "AugmentedLagrangian",
    "Barrier",
    "Lagrangian",
    "Method",
    "Penalty",
    "Project",
    "Reparametrize",
    "SquaredSlack",
]
