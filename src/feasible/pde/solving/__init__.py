"""Solving a system for a network: on points that follow the residual, slab by slab of time, from mild to hard."""

from typing import TYPE_CHECKING

from feasible.pde.solving import collocation, homotopy, marching, time_slabs
from feasible.pde.solving.collocation import *
from feasible.pde.solving.homotopy import *
from feasible.pde.solving.marching import *
from feasible.pde.solving.time_slabs import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        *collocation.__all__,
        *homotopy.__all__,
        *marching.__all__,
        *time_slabs.__all__,
    ]
