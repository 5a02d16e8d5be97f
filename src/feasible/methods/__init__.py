"""How a constraint is enforced: frozen specifications, one method a file."""

from typing import TYPE_CHECKING

from feasible.methods import (
    augmented_lagrangian,
    barrier,
    exact_multipliers,
    lagrangian,
    penalty,
    penalty_barrier,
    project,
    proximal_anneal,
    reparametrize,
    softmax_anneal,
    squared_slack,
    straight_through,
)
from feasible.methods.augmented_lagrangian import *
from feasible.methods.barrier import *
from feasible.methods.exact_multipliers import *
from feasible.methods.lagrangian import *
from feasible.methods.method import Method as Method
from feasible.methods.penalty import *
from feasible.methods.penalty_barrier import *
from feasible.methods.project import *
from feasible.methods.proximal_anneal import *
from feasible.methods.reparametrize import *
from feasible.methods.softmax_anneal import *
from feasible.methods.squared_slack import *
from feasible.methods.straight_through import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        "Method",
        *augmented_lagrangian.__all__,
        *barrier.__all__,
        *exact_multipliers.__all__,
        *lagrangian.__all__,
        *penalty.__all__,
        *penalty_barrier.__all__,
        *project.__all__,
        *proximal_anneal.__all__,
        *reparametrize.__all__,
        *softmax_anneal.__all__,
        *squared_slack.__all__,
        *straight_through.__all__,
    ]
