"""Networks that can be functions of a point: what ``network`` can name, one a file."""

from typing import TYPE_CHECKING

from feasible.workbook.differential.networks import oscillators, perceptron
from feasible.workbook.differential.networks.oscillators import *
from feasible.workbook.differential.networks.perceptron import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        *oscillators.__all__,
        *perceptron.__all__,
    ]
