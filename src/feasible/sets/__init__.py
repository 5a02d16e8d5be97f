"""What is allowed: small immutable sets, each a handful of pure functions on tensors."""

from feasible.sets import algebra, balls, elementwise, fixed, intersection, norm_balls, simplex, sphere
from feasible.sets.algebra import *
from feasible.sets.balls import *
from feasible.sets.elementwise import *
from feasible.sets.fixed import *
from feasible.sets.intersection import *
from feasible.sets.norm_balls import *
from feasible.sets.set import Set
from feasible.sets.simplex import *
from feasible.sets.sphere import *

# Each family names what it offers; nothing has to be repeated here.
__all__ = [
    "Set",
    *algebra.__all__,
    *balls.__all__,
    *elementwise.__all__,
    *fixed.__all__,
    *intersection.__all__,
    *simplex.__all__,
    *norm_balls.__all__,
    *sphere.__all__,
]
