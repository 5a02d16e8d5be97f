"""Problems with differential equations: what ``equation`` can name, one a file."""

from typing import TYPE_CHECKING

from feasible.workbook.differential.problems import (
    burgers_front,
    helmholtz_line,
    helmholtz_square,
    inverse_heat,
    oscillation,
    poisson_disc,
    poisson_rectangle,
)
from feasible.workbook.differential.problems.burgers_front import *
from feasible.workbook.differential.problems.helmholtz_line import *
from feasible.workbook.differential.problems.helmholtz_square import *
from feasible.workbook.differential.problems.inverse_heat import *
from feasible.workbook.differential.problems.oscillation import *
from feasible.workbook.differential.problems.poisson_disc import *
from feasible.workbook.differential.problems.poisson_rectangle import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        *burgers_front.__all__,
        *helmholtz_line.__all__,
        *helmholtz_square.__all__,
        *inverse_heat.__all__,
        *oscillation.__all__,
        *poisson_disc.__all__,
        *poisson_rectangle.__all__,
    ]
