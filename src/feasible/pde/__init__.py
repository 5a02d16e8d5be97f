"""Networks that obey differential equations: derivatives, equations, domains, conditions."""

from typing import TYPE_CHECKING

from feasible.pde import (
    anchors,
    built_in,
    conditions,
    diagnosis,
    differentiation,
    domains,
    equations,
    residuals,
    samplers,
    solving,
    system,
)
from feasible.pde.anchors import *
from feasible.pde.built_in import *
from feasible.pde.conditions import *
from feasible.pde.diagnosis import *
from feasible.pde.differentiation import *
from feasible.pde.domains import *
from feasible.pde.equations import *
from feasible.pde.features import *
from feasible.pde.residuals import *
from feasible.pde.samplers import *
from feasible.pde.solving import *
from feasible.pde.system import *

# Each file names what it offers. Type checkers follow the star imports, but no list that is put together.
if not TYPE_CHECKING:
    __all__ = [
        *anchors.__all__,
        *conditions.__all__,
        *diagnosis.__all__,
        *differentiation.__all__,
        *domains.__all__,
        *equations.__all__,
        *features.__all__,
        *built_in.__all__,
        *residuals.__all__,
        *samplers.__all__,
        *solving.__all__,
        *system.__all__,
    ]
