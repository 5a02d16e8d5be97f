"""Ways to solve a task: what ``solver`` can name, one a file."""

from feasible.workbook.solvers import minimizer, scipy_solver, stepping
from feasible.workbook.solvers.minimizer import *
from feasible.workbook.solvers.scipy_solver import *
from feasible.workbook.solvers.stepping import *

__all__ = [*minimizer.__all__, *scipy_solver.__all__, *stepping.__all__]
