"""Optimizers with curvature or geometry of their own for weights under sets."""

from typing import TYPE_CHECKING

from feasible.optim import frank_wolfe, levenberg_marquardt, mirror_descent, projected_lbfgs, ss_broyden
from feasible.optim.frank_wolfe import *
from feasible.optim.levenberg_marquardt import *
from feasible.optim.mirror_descent import *
from feasible.optim.projected_lbfgs import *
from feasible.optim.ss_broyden import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        *frank_wolfe.__all__,
        *levenberg_marquardt.__all__,
        *mirror_descent.__all__,
        *projected_lbfgs.__all__,
        *ss_broyden.__all__,
    ]
