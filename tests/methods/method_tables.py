"""The tables of the tests: a new method or a new set is a row here and gets every test that fits it."""

from dataclasses import dataclass

import pytest
import torch

import feasible as fs
from feasible.methods.method import Method
from feasible.sets import Set

F64 = torch.float64
MASK = torch.tensor([[True, False, True], [False, True, True]])
LOWER = torch.tensor([[-1.0, 0.0, 0.25], [-2.0, 0.5, 0.0]], dtype=F64)

# Every set holds tensors of shape (2, 3).
SETS: dict[str, Set] = {
    "box": fs.Box(-1, 1),
    "non-negative": fs.NonNegative(),
    "at most": fs.Box(upper=0.5),
    "tensor bounds": fs.Box(LOWER, LOWER + 1),
    "equal": fs.Equal(0.5),
    "simplex": fs.Simplex(),
    "simplex of columns": fs.Simplex(2.0, dim=0),
    "sum": fs.SumTo(1.5),
    "sum of all": fs.SumTo(1.0, dim=None),
    "ball": fs.L2Ball(0.8),
    "ball of all": fs.L2Ball(1.0, dim=None),
    "masked": fs.Box(0, 1).where(MASK),
    "flattened": fs.Simplex().flatten(0),
    "intersection": fs.Box(-0.5, 1) & fs.SumTo(1.0),
}

PICKED = torch.tensor([True, False, True])
NORMALS = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0]], dtype=F64)
FACES = torch.cat([NORMALS, -torch.eye(3, dtype=F64)])

# Every convex set of the library is here or above, in one shape each.
MORE_CONVEX_SETS: dict[str, tuple[Set, tuple[int, int]]] = {
    "partly frozen": (fs.Frozen().where(MASK), (2, 3)),
    "sum of absolute values": (fs.L1Ball(1.0), (2, 3)),
    "largest absolute value": (fs.LInfBall(0.5), (2, 3)),
    "half-space": (fs.HalfSpace([1.0, -2.0, 0.5], -0.5), (2, 3)),
    "equations": (fs.Affine(NORMALS, [1.0, 0.5]), (2, 3)),
    "equations of each row": (fs.Affine(NORMALS[:1], [[1.0], [0.5]]), (2, 3)),
    "polyhedron": (fs.Polyhedron(FACES, [1.0, 0.3, 0.2, 0.2, 0.2]), (2, 3)),
    "polyhedron in a plane": (fs.Polyhedron(FACES[2:], [0.0] * 3, [[1.0, 2.0, 1.0]], [1.0]), (2, 3)),
    "cone": (fs.SecondOrderCone(), (2, 3)),
    "cone of all": (fs.SecondOrderCone(dim=None), (2, 3)),
    "increasing": (fs.Monotone(), (2, 3)),
    "decreasing columns": (fs.Monotone(increasing=False, dim=0), (2, 3)),
    "simplex of some": (fs.Simplex().where(PICKED), (2, 3)),
    "simplex of one row": (fs.Simplex().where(torch.tensor([[True], [False]])), (2, 3)),
    "symmetric": (fs.Symmetric(), (3, 3)),
    "skew-symmetric": (fs.SkewSymmetric(), (3, 3)),
    "semidefinite": (fs.PSD(), (3, 3)),
    "eigenvalues in a range": (fs.PSD(-0.5, 1.0), (3, 3)),
    "largest singular value": (fs.SpectralBall(0.8), (2, 3)),
    "sum of singular values": (fs.NuclearBall(1.0), (2, 3)),
    "symmetric part": (fs.Symmetric().where(PICKED[:, None] & PICKED), (3, 3)),
    "doubly stochastic": (fs.DoublyStochastic(), (3, 3)),
    "orthant and ball": (fs.NonNegative() & fs.L2Ball(0.8), (2, 3)),
    "simplex and box": (fs.Simplex() & fs.Box(upper=0.6), (2, 3)),
    "transport": (fs.SumTo(1.0) & fs.SumTo(2 / 3, dim=0) & fs.NonNegative(), (2, 3)),
}
CONVEX_SETS = {name: (set, (2, 3)) for name, set in SETS.items()} | MORE_CONVEX_SETS


@dataclass(frozen=True)
class MethodCase:
    """A method of each kind, and what is known about it."""

    method: Method
    name: str = ""
    smooth: bool = True
    """Whether the term has a continuous derivative in the value."""
    finds_multipliers: bool = False
    """Whether plain gradient steps lead to the solution and its multiplier."""
    steps: int = 1500
    rate: float = 0.2
    """The learning rate of those steps."""

    def __str__(self):
        return self.name or type(self.method).__name__


METHODS = [
    MethodCase(fs.Penalty(2.0)),
    MethodCase(fs.Penalty(0.7, kind="exact"), "ExactPenalty", smooth=False),
    MethodCase(fs.Penalty(0.7, kind="product"), "ProductPenalty", smooth=False),
    MethodCase(fs.Barrier(0.1)),
    MethodCase(fs.Barrier(0.1, kind="inverse"), "InverseBarrier"),
    MethodCase(fs.Lagrangian(0.1), finds_multipliers=True),
    MethodCase(fs.AugmentedLagrangian(), finds_multipliers=True),
    MethodCase(fs.AugmentedLagrangian(penalty=3.0, dual_lr=0.5), "fast", finds_multipliers=True),
    MethodCase(
        fs.AugmentedLagrangian(0.3, 0.015, growth=2.0, patience=30), "growing", finds_multipliers=True
    ),
    MethodCase(
        fs.AugmentedLagrangian(0.3, 0.015, growth=2.0, patience=30, per_element=True),
        "growing one by one",
        finds_multipliers=True,
    ),
    MethodCase(fs.Lagrangian(0.1, proportional_gain=1.0, smoothing=0.5), "nuPI", finds_multipliers=True),
    MethodCase(fs.SquaredSlack(), finds_multipliers=True, steps=6000),
    MethodCase(fs.PenaltyBarrier(), finds_multipliers=True, rate=0.05),
    MethodCase(fs.Project()),
    MethodCase(fs.Reparametrize()),
    MethodCase(fs.SoftmaxAnneal(10)),
    MethodCase(fs.StraightThrough()),
    MethodCase(fs.ProximalAnneal(10)),
]


ELSEWHERE = {"ExactMultipliers"}
"""Methods that add no term: what they do is solved from the graph of a value, in test_exact_multipliers.py."""

ITERATIVE = {
    "intersection", "orthant and ball", "simplex and box", "transport",
    "polyhedron", "polyhedron in a plane", "doubly stochastic",
}  # fmt: skip
"""Sets whose projection iterates: whole trainings with them are slow."""


OF_EACH_SORT = {"tensor bounds", "simplex", "sum", "ball", "masked"}
"""What is trained at once with every variant of a method; the other sets with the first of its class."""


def pairs(select=lambda case: True, trained=False):
    """All cases with all sets they serve, as pytest parameters (case, name of the set)."""

    def is_slow(case, name):
        return name in ITERATIVE or bool(case.name and name not in OF_EACH_SORT)

    return [
        pytest.param(case, name, marks=[pytest.mark.slow] if trained and is_slow(case, name) else [])
        for case in METHODS
        for name, set in SETS.items()
        if select(case) and case.method.objection(set) is None
    ]


def names(parameter):
    return str(parameter)


def target(seed=0, shape=(2, 3)):
    """A point outside all sets."""
    return 2 * torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))
