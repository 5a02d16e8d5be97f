"""Ways to solve a differential equation by a network: what ``way`` can name, one a file."""

from typing import TYPE_CHECKING

from feasible.workbook.differential.ways import (
    balanced,
    last_layer,
    least_squares,
    minimized,
    projected,
    steps,
    time_slabs,
)
from feasible.workbook.differential.ways.balanced import *
from feasible.workbook.differential.ways.last_layer import *
from feasible.workbook.differential.ways.least_squares import *
from feasible.workbook.differential.ways.minimized import *
from feasible.workbook.differential.ways.projected import *
from feasible.workbook.differential.ways.steps import *
from feasible.workbook.differential.ways.time_slabs import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        *balanced.__all__,
        *last_layer.__all__,
        *least_squares.__all__,
        *minimized.__all__,
        *projected.__all__,
        *steps.__all__,
        *time_slabs.__all__,
    ]
