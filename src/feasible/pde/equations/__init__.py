"""Differential equations, one a file."""

from typing import TYPE_CHECKING

from feasible.pde.equations import (
    base,
    burgers,
    heat,
    helmholtz,
    navier_stokes,
    poisson,
    pythagorean,
    wave,
    written,
)
from feasible.pde.equations.base import *
from feasible.pde.equations.burgers import *
from feasible.pde.equations.heat import *
from feasible.pde.equations.helmholtz import *
from feasible.pde.equations.navier_stokes import *
from feasible.pde.equations.poisson import *
from feasible.pde.equations.pythagorean import *
from feasible.pde.equations.wave import *
from feasible.pde.equations.written import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        *base.__all__,
        *burgers.__all__,
        *heat.__all__,
        *helmholtz.__all__,
        *navier_stokes.__all__,
        *poisson.__all__,
        *pythagorean.__all__,
        *wave.__all__,
        *written.__all__,
    ]
