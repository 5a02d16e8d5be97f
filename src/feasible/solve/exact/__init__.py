"""Exact solutions for a last linear layer: sphere decoding, mixed-integer programs, and their certificate."""

from typing import TYPE_CHECKING

from feasible.solve.exact import last_layer, linear, result
from feasible.solve.exact.last_layer import *
from feasible.solve.exact.linear import *
from feasible.solve.exact.result import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        *last_layer.__all__,
        *linear.__all__,
        *result.__all__,
    ]
