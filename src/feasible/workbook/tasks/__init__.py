"""Optimisation problems with a known shape: what ``[problem]`` can name, one a file."""

from typing import TYPE_CHECKING

from feasible.workbook.tasks import dictionary, non_negative_least_squares, sphere
from feasible.workbook.tasks.dictionary import *
from feasible.workbook.tasks.non_negative_least_squares import *
from feasible.workbook.tasks.sphere import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        *dictionary.__all__,
        *non_negative_least_squares.__all__,
        *sphere.__all__,
    ]
