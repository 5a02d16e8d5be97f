"""Optimizers with curvature or geometry of their own for weights under sets."""

from feasible.optim import levenberg_marquardt, projected_lbfgs, ss_broyden
from feasible.optim.levenberg_marquardt import *
from feasible.optim.projected_lbfgs import *
from feasible.optim.ss_broyden import *

# Each file names what it offers; nothing has to be repeated here.
__all__ = [
    *levenberg_marquardt.__all__,
    *projected_lbfgs.__all__,
    *ss_broyden.__all__,
]
