"""Networks that obey differential equations: derivatives, equations, domains, conditions."""

from typing import TYPE_CHECKING

from feasible.pde import differentiation, equations
from feasible.pde.differentiation import *
from feasible.pde.equations import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [*differentiation.__all__, *equations.__all__]
