"""Ways to solve a task: what ``solver`` can name, one a file."""

from typing import TYPE_CHECKING

from feasible.workbook.solvers import minimizer, scipy_solver, stepping
from feasible.workbook.solvers.minimizer import *
from feasible.workbook.solvers.scipy_solver import *
from feasible.workbook.solvers.stepping import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        *minimizer.__all__,
        *scipy_solver.__all__,
        *stepping.__all__,
    ]
