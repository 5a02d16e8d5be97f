"""Problems with differential equations: what ``equation`` can name, one a file."""

from typing import TYPE_CHECKING

from feasible.workbook.differential.problems import helmholtz_line, oscillation
from feasible.workbook.differential.problems.helmholtz_line import *
from feasible.workbook.differential.problems.oscillation import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        *helmholtz_line.__all__,
        *oscillation.__all__,
    ]
