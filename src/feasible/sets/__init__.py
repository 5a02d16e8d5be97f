"""What is allowed: small immutable sets, each a handful of pure functions on tensors."""

from typing import TYPE_CHECKING

from feasible.sets import (
    affine,
    algebra,
    balls,
    candidates,
    combinatorial,
    cones,
    discrete,
    elementwise,
    fixed,
    half_space,
    intersection,
    low_rank,
    matrices,
    norm_balls,
    nuclear_ball,
    polyhedron,
    simplex,
    singular,
    spectral,
    sphere,
    stiefel,
    transport,
    union,
)
from feasible.sets.affine import *
from feasible.sets.algebra import *
from feasible.sets.balls import *
from feasible.sets.candidates import *
from feasible.sets.combinatorial import *
from feasible.sets.cones import *
from feasible.sets.discrete import *
from feasible.sets.elementwise import *
from feasible.sets.fixed import *
from feasible.sets.half_space import *
from feasible.sets.intersection import *
from feasible.sets.low_rank import *
from feasible.sets.matrices import *
from feasible.sets.norm_balls import *
from feasible.sets.nuclear_ball import *
from feasible.sets.polyhedron import *
from feasible.sets.set import Set as Set
from feasible.sets.simplex import *
from feasible.sets.singular import *
from feasible.sets.spectral import *
from feasible.sets.sphere import *
from feasible.sets.stiefel import *
from feasible.sets.transport import *
from feasible.sets.union import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        "Set",
        *algebra.__all__,
        *balls.__all__,
        *elementwise.__all__,
        *fixed.__all__,
        *intersection.__all__,
        *low_rank.__all__,
        *matrices.__all__,
        *nuclear_ball.__all__,
        *spectral.__all__,
        *simplex.__all__,
        *singular.__all__,
        *norm_balls.__all__,
        *sphere.__all__,
        *stiefel.__all__,
        *transport.__all__,
        *half_space.__all__,
        *affine.__all__,
        *polyhedron.__all__,
        *discrete.__all__,
        *combinatorial.__all__,
        *candidates.__all__,
        *union.__all__,
        *cones.__all__,
    ]
