"""Exact solutions for a last linear layer: sphere decoding, mixed-integer programs, and their certificate."""

from feasible.solve.exact import last_layer, linear, result
from feasible.solve.exact.last_layer import *
from feasible.solve.exact.linear import *
from feasible.solve.exact.result import *

__all__ = [*last_layer.__all__, *linear.__all__, *result.__all__]
