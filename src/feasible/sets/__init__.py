"""What is allowed: small immutable sets, each a handful of pure functions on tensors."""

from feasible.sets import algebra, balls, elementwise, simplex
from feasible.sets.algebra import *
from feasible.sets.balls import *
from feasible.sets.elementwise import *
from feasible.sets.set import Set
from feasible.sets.simplex import *

# Each family names what it offers; nothing has to be repeated here.
__all__ = ["Set", *algebra.__all__, *balls.__all__, *elementwise.__all__, *simplex.__all__]
