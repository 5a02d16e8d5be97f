"""Problems of Hock & Schittkowski, *Test Examples for Nonlinear Programming Codes* (1981), and their optimal values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import feasible as fs

Function = Callable[[Tensor], Tensor]
INF = math.inf


@dataclass(frozen=True)
class HS:
    """``min f`` subject to ``g ≥ 0``, ``h = 0`` and bounds."""

    number: int
    fun: Function
    start: Sequence[float]
    optimum: float
    inequalities: Function | None = None
    equations: Function | None = None
    lower: object = None
    upper: object = None
    elsewhere: float | None = None
    """The value of another local solution that is as good an answer from this start."""

    @property
    def x0(self) -> Tensor:
        return torch.tensor(list(self.start), dtype=torch.float64)

    @property
    def constraints(self) -> list[object]:
        found: list[object] = []
        if self.inequalities is not None:
            found.append((self.inequalities, fs.NonNegative()))
        if self.equations is not None:
            found.append((self.equations, fs.Equal(0.0)))
        if self.lower is not None or self.upper is not None:
            found.append(fs.Box(_bound(self.lower), _bound(self.upper)))
        return found

    def __str__(self) -> str:
        return f"HS{self.number}"


def _bound(bound):
    return torch.tensor(bound, dtype=torch.float64) if isinstance(bound, (list, tuple)) else bound


def vec(*entries) -> Tensor:
    return torch.stack([torch.as_tensor(entry, dtype=torch.float64) for entry in entries])


def one(x: Tensor) -> Sequence[Tensor]:
    """The entries, counted from 1 as in the book."""
    return (None, *x.unbind())


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def hs6():
    return HS(6, lambda x: (1 - x[0]) ** 2, [-1.2, 1], 0.0, equations=lambda x: 10 * (x[1] - x[0] ** 2))


def hs59(x):
    a, b = x[0], x[1]
    return (
        -75.196
        + 3.8112 * a
        + 0.0020567 * a**3
        - 1.0345e-5 * a**4
        + 6.8306 * b
        - 0.030234 * a * b
        + 1.28134e-3 * b * a**2
        + 2.266e-7 * a**4 * b
        - 0.25645 * b**2
        + 0.0034604 * b**3
        - 1.3514e-5 * b**4
        + 28.106 / (b + 1)
        + 5.2375e-6 * a**2 * b**2
        + 6.3e-8 * a**3 * b**2
        - 7e-10 * a**3 * b**3
        - 3.405e-4 * a * b**2
        + 1.6638e-6 * a * b**3
        + 2.8673 * torch.exp(0.0005 * a * b)
        - 3.5256e-5 * a**3 * b
        - 0.12694 * a**2
    )


def hs68_data(a, b, d, n):
    def phi(t):
        return 0.5 * (1 + torch.erf(t / math.sqrt(2)))

    def fun(x):
        e = torch.exp(x[0]) - 1
        return (a * n - (b * e - x[2]) * x[3] / (e + x[3])) / x[0]

    def equations(x):
        return vec(
            x[2] - 2 * phi(-x[1]), x[3] - phi(-x[1] + d * math.sqrt(n)) - phi(-x[1] - d * math.sqrt(n))
        )

    return fun, equations


def hs93_common(x):
    return x[0] * x[3] * (x[0] + x[1] + x[2]), x[1] * x[2] * (x[0] + 1.57 * x[1] + x[3])


HS118_START = [20, 55, 15, 20, 60, 20, 20, 60, 20, 20, 60, 20, 20, 60, 20]


def hs118(x):
    k = torch.arange(5)
    a, b, c = x[3 * k], x[3 * k + 1], x[3 * k + 2]
    return (2.3 * a + 1e-4 * a**2 + 1.7 * b + 1e-4 * b**2 + 2.2 * c + 1.5e-4 * c**2).sum()


def hs118_rows(x):
    a, b, c = x[0::3], x[1::3], x[2::3]
    da, db, dc = a.diff() + 7, b.diff() + 7, c.diff() + 7
    total = a + b + c - torch.tensor([60.0, 50, 70, 85, 100], dtype=x.dtype)
    return torch.cat([da, 13 - da, db, 14 - db, dc, 13 - dc, total])


def hs113_rows(x):
    x1, x2, x3, x4, x5, x6, x7, x8, x9, x10 = x.unbind()
    return vec(
        105 - 4 * x1 - 5 * x2 + 3 * x7 - 9 * x8,
        -10 * x1 + 8 * x2 + 17 * x7 - 2 * x8,
        8 * x1 - 2 * x2 - 5 * x9 + 2 * x10 + 12,
        -3 * (x1 - 2) ** 2 - 4 * (x2 - 3) ** 2 - 2 * x3**2 + 7 * x4 + 120,
        -5 * x1**2 - 8 * x2 - (x3 - 6) ** 2 + 2 * x4 + 40,
        -0.5 * (x1 - 8) ** 2 - 2 * (x2 - 4) ** 2 - 3 * x5**2 + x6 + 30,
        -(x1**2) - 2 * (x2 - 2) ** 2 + 2 * x1 * x2 - 14 * x5 + 6 * x6,
        3 * x1 - 6 * x2 - 12 * (x9 - 8) ** 2 + 7 * x10,
    )


def hs113(x):
    x1, x2, x3, x4, x5, x6, x7, x8, x9, x10 = x.unbind()
    return (
        x1**2
        + x2**2
        + x1 * x2
        - 14 * x1
        - 16 * x2
        + (x3 - 10) ** 2
        + 4 * (x4 - 5) ** 2
        + (x5 - 3) ** 2
        + 2 * (x6 - 1) ** 2
        + 5 * x7**2
        + 7 * (x8 - 11) ** 2
        + 2 * (x9 - 10) ** 2
        + (x10 - 7) ** 2
        + 45
    )


def hs100(x):
    x1, x2, x3, x4, x5, x6, x7 = x.unbind()
    return (
        (x1 - 10) ** 2
        + 5 * (x2 - 12) ** 2
        + x3**4
        + 3 * (x4 - 11) ** 2
        + 10 * x5**6
        + 7 * x6**2
        + x7**4
        - 4 * x6 * x7
        - 10 * x6
        - 8 * x7
    )


def hs100_rows(x):
    x1, x2, x3, x4, x5, x6, x7 = x.unbind()
    return vec(
        127 - 2 * x1**2 - 3 * x2**4 - x3 - 4 * x4**2 - 5 * x5,
        282 - 7 * x1 - 3 * x2 - 10 * x3**2 - x4 + x5,
        196 - 23 * x1 - x2**2 - 6 * x6**2 + 8 * x7,
        -4 * x1**2 - x2**2 + 3 * x1 * x2 - 2 * x3**2 - 5 * x6 + 11 * x7,
    )


HS112_C = torch.tensor(
    [-6.089, -17.164, -34.054, -5.914, -24.721, -14.986, -24.100, -10.708, -26.662, -22.179],
    dtype=torch.float64,
)

HS86_E = torch.tensor([-15.0, -27, -36, -18, -12], dtype=torch.float64)
HS86_C = torch.tensor(
    [
        [30, -20, -10, 32, -10],
        [-20, 39, -6, -31, 32],
        [-10, -6, 10, -6, -10],
        [32, -31, -6, 39, -20],
        [-10, 32, -10, -20, 30.0],
    ],
    dtype=torch.float64,
)
HS86_D = torch.tensor([4.0, 8, 10, 6, 2], dtype=torch.float64)
HS86_A = torch.tensor(
    [
        [-16, 2, 0, 1, 0],
        [0, -2, 0, 4, 2],
        [-3.5, 0, 2, 0, 0],
        [0, -2, 0, -4, -1],
        [0, -9, -2, 1, -2.8],
        [2, 0, -4, 0, 0],
        [-1, -1, -1, -1, -1],
        [-1, -2, -3, -2, -1],
        [1, 2, 3, 4, 5],
        [1, 1, 1, 1, 1.0],
    ],
    dtype=torch.float64,
)
HS86_B = torch.tensor([-40.0, -2, -0.25, -4, -4, -1, -40, -60, 5, 1], dtype=torch.float64)

F68, E68 = hs68_data(0.0001, 1.0, 1.0, 24.0)
F69, E69 = hs68_data(0.1, 1000.0, 1.0, 4.0)

PROBLEMS = [
    HS(1, rosenbrock, [-2, 1], 0.0, lower=[-INF, -1.5]),
    HS(2, rosenbrock, [-2, 1], 0.0504261879, lower=[-INF, 1.5], elsewhere=4.941229318),
    HS(3, lambda x: x[1] + 1e-5 * (x[1] - x[0]) ** 2, [10, 1], 0.0, lower=[-INF, 0.0]),
    HS(4, lambda x: (x[0] + 1) ** 3 / 3 + x[1], [1.125, 0.125], 8 / 3, lower=[1.0, 0.0]),
    HS(
        5,
        lambda x: torch.sin(x[0] + x[1]) + (x[0] - x[1]) ** 2 - 1.5 * x[0] + 2.5 * x[1] + 1,
        [0, 0],
        -math.sqrt(3) / 2 - math.pi / 3,
        lower=[-1.5, -3.0],
        upper=[4.0, 3.0],
    ),
    hs6(),
    HS(
        7,
        lambda x: torch.log(1 + x[0] ** 2) - x[1],
        [2, 2],
        -math.sqrt(3),
        equations=lambda x: (1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4,
    ),
    HS(
        8,
        lambda x: -1 + 0 * x.sum(),
        [2, 1],
        -1.0,
        equations=lambda x: vec(x[0] ** 2 + x[1] ** 2 - 25, x[0] * x[1] - 9),
    ),
    HS(
        9,
        lambda x: torch.sin(math.pi * x[0] / 12) * torch.cos(math.pi * x[1] / 16),
        [0, 0],
        -0.5,
        equations=lambda x: 4 * x[0] - 3 * x[1],
    ),
    HS(
        10, lambda x: x[0] - x[1], [-10, 10], -1.0, lambda x: -3 * x[0] ** 2 + 2 * x[0] * x[1] - x[1] ** 2 + 1
    ),
    HS(
        11,
        lambda x: (x[0] - 5) ** 2 + x[1] ** 2 - 25,
        [4.9, 0.1],
        -8.498464223,
        lambda x: -(x[0] ** 2) + x[1],
    ),
    HS(
        12,
        lambda x: 0.5 * x[0] ** 2 + x[1] ** 2 - x[0] * x[1] - 7 * x[0] - 7 * x[1],
        [0, 0],
        -30.0,
        lambda x: 25 - 4 * x[0] ** 2 - x[1] ** 2,
    ),
    HS(
        14,
        lambda x: (x[0] - 2) ** 2 + (x[1] - 1) ** 2,
        [2, 2],
        9 - 2.875 * math.sqrt(7),
        lambda x: -0.25 * x[0] ** 2 - x[1] ** 2 + 1,
        lambda x: x[0] - 2 * x[1] + 1,
    ),
    HS(15, rosenbrock, [-2, 1], 306.5, lambda x: vec(x[0] * x[1] - 1, x[0] + x[1] ** 2), upper=[0.5, INF]),
    HS(
        16,
        rosenbrock,
        [-2, 1],
        0.25,
        lambda x: vec(x[0] + x[1] ** 2, x[0] ** 2 + x[1]),
        lower=[-0.5, -INF],
        upper=[0.5, 1.0],
        elsewhere=23.14466094,
    ),
    HS(
        17,
        rosenbrock,
        [-2, 1],
        1.0,
        lambda x: vec(x[1] ** 2 - x[0], x[0] ** 2 - x[1]),
        lower=[-0.5, -INF],
        upper=[0.5, 1.0],
    ),
    HS(
        18,
        lambda x: 0.01 * x[0] ** 2 + x[1] ** 2,
        [2, 2],
        5.0,
        lambda x: vec(x[0] * x[1] - 25, x[0] ** 2 + x[1] ** 2 - 25),
        lower=[2.0, 0.0],
        upper=50.0,
    ),
    HS(
        19,
        lambda x: (x[0] - 10) ** 3 + (x[1] - 20) ** 3,
        [20.1, 5.84],
        -6961.81381,
        lambda x: vec((x[0] - 5) ** 2 + (x[1] - 5) ** 2 - 100, -((x[0] - 6) ** 2) - (x[1] - 5) ** 2 + 82.81),
        lower=[13.0, 0.0],
        upper=100.0,
    ),
    HS(
        20,
        rosenbrock,
        [-2, 1],
        81.5 - 25 * math.sqrt(3),
        lambda x: vec(x[0] + x[1] ** 2, x[0] ** 2 + x[1], x[0] ** 2 + x[1] ** 2 - 1),
        lower=[-0.5, -INF],
        upper=[0.5, INF],
        elsewhere=40.19872981,
    ),
    HS(
        21,
        lambda x: 0.01 * x[0] ** 2 + x[1] ** 2 - 100,
        [-1, -1],
        -99.96,
        lambda x: 10 * x[0] - x[1] - 10,
        lower=[2.0, -50.0],
        upper=50.0,
    ),
    HS(
        22,
        lambda x: (x[0] - 2) ** 2 + (x[1] - 1) ** 2,
        [2, 2],
        1.0,
        lambda x: vec(-x[0] - x[1] + 2, -(x[0] ** 2) + x[1]),
    ),
    HS(
        23,
        lambda x: x[0] ** 2 + x[1] ** 2,
        [3, 1],
        2.0,
        lambda x: vec(
            x[0] + x[1] - 1,
            x[0] ** 2 + x[1] ** 2 - 1,
            9 * x[0] ** 2 + x[1] ** 2 - 9,
            x[0] ** 2 - x[1],
            x[1] ** 2 - x[0],
        ),
        lower=-50.0,
        upper=50.0,
    ),
    HS(
        24,
        lambda x: ((x[0] - 3) ** 2 - 9) * x[1] ** 3 / (27 * math.sqrt(3)),
        [1, 0.5],
        -1.0,
        lambda x: vec(x[0] / math.sqrt(3) - x[1], x[0] + math.sqrt(3) * x[1], 6 - x[0] - math.sqrt(3) * x[1]),
        lower=0.0,
    ),
    HS(
        26,
        lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 4,
        [-2.6, 2, 2],
        0.0,
        equations=lambda x: (1 + x[1] ** 2) * x[0] + x[2] ** 4 - 3,
    ),
    HS(
        27,
        lambda x: 0.01 * (x[0] - 1) ** 2 + (x[1] - x[0] ** 2) ** 2,
        [2, 2, 2],
        0.04,
        equations=lambda x: x[0] + x[2] ** 2 + 1,
    ),
    HS(
        28,
        lambda x: (x[0] + x[1]) ** 2 + (x[1] + x[2]) ** 2,
        [-4, 1, 1],
        0.0,
        equations=lambda x: x[0] + 2 * x[1] + 3 * x[2] - 1,
    ),
    HS(
        29,
        lambda x: -x[0] * x[1] * x[2],
        [1, 1, 1],
        -16 * math.sqrt(2),
        lambda x: -(x[0] ** 2) - 2 * x[1] ** 2 - 4 * x[2] ** 2 + 48,
    ),
    HS(
        30,
        lambda x: (x**2).sum(),
        [1, 1, 1],
        1.0,
        lambda x: x[0] ** 2 + x[1] ** 2 - 1,
        lower=[1.0, -10.0, -10.0],
        upper=10.0,
    ),
    HS(
        31,
        lambda x: 9 * x[0] ** 2 + x[1] ** 2 + 9 * x[2] ** 2,
        [1, 1, 1],
        6.0,
        lambda x: x[0] * x[1] - 1,
        lower=[-10.0, 1.0, -10.0],
        upper=[10.0, 10.0, 1.0],
    ),
    HS(
        32,
        lambda x: (x[0] + 3 * x[1] + x[2]) ** 2 + 4 * (x[0] - x[1]) ** 2,
        [0.1, 0.7, 0.2],
        1.0,
        lambda x: 6 * x[1] + 4 * x[2] - x[0] ** 3 - 3,
        lambda x: 1 - x[0] - x[1] - x[2],
        lower=0.0,
    ),
    HS(
        33,
        lambda x: (x[0] - 1) * (x[0] - 2) * (x[0] - 3) + x[2],
        [0, 0, 3],
        math.sqrt(2) - 6,
        lambda x: vec(x[2] ** 2 - x[1] ** 2 - x[0] ** 2, x[0] ** 2 + x[1] ** 2 + x[2] ** 2 - 4),
        lower=0.0,
        upper=[INF, INF, 5.0],
        elsewhere=-4.0,
    ),
    HS(
        34,
        lambda x: -x[0],
        [0, 1.05, 2.9],
        -math.log(math.log(10)),
        lambda x: vec(x[1] - torch.exp(x[0]), x[2] - torch.exp(x[1])),
        lower=0.0,
        upper=[100.0, 100.0, 10.0],
    ),
    HS(
        35,
        lambda x: (
            9
            - 8 * x[0]
            - 6 * x[1]
            - 4 * x[2]
            + 2 * x[0] ** 2
            + 2 * x[1] ** 2
            + x[2] ** 2
            + 2 * x[0] * x[1]
            + 2 * x[0] * x[2]
        ),
        [0.5, 0.5, 0.5],
        1 / 9,
        lambda x: 3 - x[0] - x[1] - 2 * x[2],
        lower=0.0,
    ),
    HS(
        36,
        lambda x: -x[0] * x[1] * x[2],
        [10, 10, 10],
        -3300.0,
        lambda x: 72 - x[0] - 2 * x[1] - 2 * x[2],
        lower=0.0,
        upper=[20.0, 11.0, 42.0],
    ),
    HS(
        37,
        lambda x: -x[0] * x[1] * x[2],
        [10, 10, 10],
        -3456.0,
        lambda x: vec(72 - x[0] - 2 * x[1] - 2 * x[2], x[0] + 2 * x[1] + 2 * x[2]),
        lower=0.0,
        upper=42.0,
    ),
    HS(
        38,
        lambda x: (
            100 * (x[1] - x[0] ** 2) ** 2
            + (1 - x[0]) ** 2
            + 90 * (x[3] - x[2] ** 2) ** 2
            + (1 - x[2]) ** 2
            + 10.1 * ((x[1] - 1) ** 2 + (x[3] - 1) ** 2)
            + 19.8 * (x[1] - 1) * (x[3] - 1)
        ),
        [-3, -1, -3, -1],
        0.0,
        lower=-10.0,
        upper=10.0,
    ),
    HS(
        39,
        lambda x: -x[0],
        [2, 2, 2, 2],
        -1.0,
        equations=lambda x: vec(x[1] - x[0] ** 3 - x[2] ** 2, x[0] ** 2 - x[1] - x[3] ** 2),
    ),
    HS(
        40,
        lambda x: -x.prod(),
        [0.8, 0.8, 0.8, 0.8],
        -0.25,
        equations=lambda x: vec(x[0] ** 3 + x[1] ** 2 - 1, x[0] ** 2 * x[3] - x[2], x[3] ** 2 - x[1]),
    ),
    HS(
        41,
        lambda x: 2 - x[0] * x[1] * x[2],
        [2, 2, 2, 2],
        52 / 27,
        equations=lambda x: x[0] + 2 * x[1] + 2 * x[2] - x[3],
        lower=0.0,
        upper=[1.0, 1.0, 1.0, 2.0],
    ),
    HS(
        42,
        lambda x: (x[0] - 1) ** 2 + (x[1] - 2) ** 2 + (x[2] - 3) ** 2 + (x[3] - 4) ** 2,
        [1, 1, 1, 1],
        28 - 10 * math.sqrt(2),
        equations=lambda x: vec(x[0] - 2, x[2] ** 2 + x[3] ** 2 - 2),
    ),
    HS(
        43,
        lambda x: (
            x[0] ** 2 + x[1] ** 2 + 2 * x[2] ** 2 + x[3] ** 2 - 5 * x[0] - 5 * x[1] - 21 * x[2] + 7 * x[3]
        ),
        [0, 0, 0, 0],
        -44.0,
        lambda x: vec(
            8 - (x**2).sum() - x[0] + x[1] - x[2] + x[3],
            10 - x[0] ** 2 - 2 * x[1] ** 2 - x[2] ** 2 - 2 * x[3] ** 2 + x[0] + x[3],
            5 - 2 * x[0] ** 2 - x[1] ** 2 - x[2] ** 2 - 2 * x[0] + x[1] + x[3],
        ),
    ),
    HS(
        44,
        lambda x: x[0] - x[1] - x[2] - x[0] * x[2] + x[0] * x[3] + x[1] * x[2] - x[1] * x[3],
        [0, 0, 0, 0],
        -15.0,
        lambda x: vec(
            8 - x[0] - 2 * x[1],
            12 - 4 * x[0] - x[1],
            12 - 3 * x[0] - 4 * x[1],
            8 - 2 * x[2] - x[3],
            8 - x[2] - 2 * x[3],
            5 - x[2] - x[3],
        ),
        lower=0.0,
    ),
    HS(45, lambda x: 2 - x.prod() / 120, [2, 2, 2, 2, 2], 1.0, lower=0.0, upper=[1.0, 2.0, 3.0, 4.0, 5.0]),
    HS(
        46,
        lambda x: (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6,
        [math.sqrt(2) / 2, 1.75, 0.5, 2, 2],
        0.0,
        equations=lambda x: vec(
            x[0] ** 2 * x[3] + torch.sin(x[3] - x[4]) - 1, x[1] + x[2] ** 4 * x[3] ** 2 - 2
        ),
    ),
    HS(
        47,
        lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 3 + (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 4,
        [2, math.sqrt(2), -1, 2 - math.sqrt(2), 0.5],
        0.0,
        equations=lambda x: vec(
            x[0] + x[1] ** 2 + x[2] ** 3 - 3, x[1] - x[2] ** 2 + x[3] - 1, x[0] * x[4] - 1
        ),
    ),
    HS(
        48,
        lambda x: (x[0] - 1) ** 2 + (x[1] - x[2]) ** 2 + (x[3] - x[4]) ** 2,
        [3, 5, -3, 2, -2],
        0.0,
        equations=lambda x: vec(x.sum() - 5, x[2] - 2 * (x[3] + x[4]) + 3),
    ),
    HS(
        49,
        lambda x: (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6,
        [10, 7, 2, -3, 0.8],
        0.0,
        equations=lambda x: vec(x[0] + x[1] + x[2] + 4 * x[3] - 7, x[2] + 5 * x[4] - 6),
    ),
    HS(
        50,
        lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 2 + (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 2,
        [35, -31, 11, 5, -5],
        0.0,
        equations=lambda x: vec(
            x[0] + 2 * x[1] + 3 * x[2] - 6, x[1] + 2 * x[2] + 3 * x[3] - 6, x[2] + 2 * x[3] + 3 * x[4] - 6
        ),
    ),
    HS(
        51,
        lambda x: (x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2,
        [2.5, 0.5, 2, -1, 0.5],
        0.0,
        equations=lambda x: vec(x[0] + 3 * x[1] - 4, x[2] + x[3] - 2 * x[4], x[1] - x[4]),
    ),
    HS(
        52,
        lambda x: (4 * x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2,
        [2, 2, 2, 2, 2],
        1859 / 349,
        equations=lambda x: vec(x[0] + 3 * x[1], x[2] + x[3] - 2 * x[4], x[1] - x[4]),
    ),
    HS(
        53,
        lambda x: (x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2,
        [2, 2, 2, 2, 2],
        176 / 43,
        equations=lambda x: vec(x[0] + 3 * x[1], x[2] + x[3] - 2 * x[4], x[1] - x[4]),
        lower=-10.0,
        upper=10.0,
    ),
    HS(
        56,
        lambda x: -x[0] * x[1] * x[2],
        [
            1,
            1,
            1,
            math.asin(math.sqrt(1 / 4.2)),
            math.asin(math.sqrt(1 / 4.2)),
            math.asin(math.sqrt(1 / 4.2)),
            math.asin(math.sqrt(5 / 7.2)),
        ],
        -3.456,
        equations=lambda x: vec(
            x[0] - 4.2 * torch.sin(x[3]) ** 2,
            x[1] - 4.2 * torch.sin(x[4]) ** 2,
            x[2] - 4.2 * torch.sin(x[5]) ** 2,
            x[0] + 2 * x[1] + 2 * x[2] - 7.2 * torch.sin(x[6]) ** 2,
        ),
    ),
    HS(
        59,
        hs59,
        [90, 10],
        -7.804226324,
        lambda x: vec(x[0] * x[1] - 700, x[1] - x[0] ** 2 / 125, (x[1] - 50) ** 2 - 5 * (x[0] - 55)),
        lower=0.0,
        upper=[75.0, 65.0],
        elsewhere=-6.749505276,
    ),
    HS(
        60,
        lambda x: (x[0] - 1) ** 2 + (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 4,
        [2, 2, 2],
        0.03256820025,
        equations=lambda x: x[0] * (1 + x[1] ** 2) + x[2] ** 4 - 4 - 3 * math.sqrt(2),
        lower=-10.0,
        upper=10.0,
    ),
    HS(
        61,
        lambda x: 4 * x[0] ** 2 + 2 * x[1] ** 2 + 2 * x[2] ** 2 - 33 * x[0] + 16 * x[1] - 24 * x[2],
        [0, 0, 0],
        -143.6461422,
        equations=lambda x: vec(3 * x[0] - 2 * x[1] ** 2 - 7, 4 * x[0] - x[2] ** 2 - 11),
    ),
    HS(
        62,
        lambda x: (
            -32.174
            * (
                255 * torch.log((x.sum() + 0.03) / (0.09 * x[0] + x[1] + x[2] + 0.03))
                + 280 * torch.log((x[1] + x[2] + 0.03) / (0.07 * x[1] + x[2] + 0.03))
                + 290 * torch.log((x[2] + 0.03) / (0.13 * x[2] + 0.03))
            )
        ),
        [0.7, 0.2, 0.1],
        -26272.51448,
        equations=lambda x: x.sum() - 1,
        lower=0.0,
        upper=1.0,
    ),
    HS(
        63,
        lambda x: 1000 - x[0] ** 2 - 2 * x[1] ** 2 - x[2] ** 2 - x[0] * x[1] - x[0] * x[2],
        [2, 2, 2],
        961.7151721,
        equations=lambda x: vec(8 * x[0] + 14 * x[1] + 7 * x[2] - 56, (x**2).sum() - 25),
        lower=0.0,
    ),
    HS(
        64,
        lambda x: 5 * x[0] + 50000 / x[0] + 20 * x[1] + 72000 / x[1] + 10 * x[2] + 144000 / x[2],
        [1, 1, 1],
        6299.842428,
        lambda x: 1 - 4 / x[0] - 32 / x[1] - 120 / x[2],
        lower=1e-5,
    ),
    HS(
        65,
        lambda x: (x[0] - x[1]) ** 2 + (x[0] + x[1] - 10) ** 2 / 9 + (x[2] - 5) ** 2,
        [-5, 5, 0],
        0.9535288567,
        lambda x: 48 - (x**2).sum(),
        lower=[-4.5, -4.5, -5.0],
        upper=[4.5, 4.5, 5.0],
    ),
    HS(
        66,
        lambda x: 0.2 * x[2] - 0.8 * x[0],
        [0, 1.05, 2.9],
        0.5181632741,
        lambda x: vec(x[1] - torch.exp(x[0]), x[2] - torch.exp(x[1])),
        lower=0.0,
        upper=[100.0, 100.0, 10.0],
    ),
    HS(
        68,
        F68,
        [1, 1, 1, 1],
        -0.920425026,
        equations=E68,
        lower=[0.0001, 0.0, 0.0, 0.0],
        upper=[100.0, 100.0, 2.0, 2.0],
    ),
    HS(
        69,
        F69,
        [1, 1, 1, 1],
        -956.71288,
        equations=E69,
        lower=[0.0001, 0.0, 0.0, 0.0],
        upper=[100.0, 100.0, 2.0, 2.0],
    ),
    HS(
        71,
        lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
        [1, 5, 5, 1],
        17.0140173,
        lambda x: x.prod() - 25,
        lambda x: (x**2).sum() - 40,
        lower=1.0,
        upper=5.0,
    ),
    HS(
        72,
        lambda x: 1 + x.sum(),
        [1, 1, 1, 1],
        727.67937,
        lambda x: vec(
            0.0401 - 4 / x[0] - 2.25 / x[1] - 1 / x[2] - 0.25 / x[3],
            0.010085 - 0.16 / x[0] - 0.36 / x[1] - 0.64 * (1 / x[2] + 1 / x[3]),
        ),
        lower=0.001,
        upper=[4e5, 3e5, 2e5, 1e5],
    ),
    HS(
        73,
        lambda x: 24.55 * x[0] + 26.75 * x[1] + 39 * x[2] + 40.5 * x[3],
        [1, 1, 1, 1],
        29.89437816,
        lambda x: vec(
            2.3 * x[0] + 5.6 * x[1] + 11.1 * x[2] + 1.3 * x[3] - 5,
            12 * x[0]
            + 11.9 * x[1]
            + 41.8 * x[2]
            + 52.1 * x[3]
            - 21
            - 1.645 * torch.sqrt(0.28 * x[0] ** 2 + 0.19 * x[1] ** 2 + 20.5 * x[2] ** 2 + 0.62 * x[3] ** 2),
        ),
        lambda x: x.sum() - 1,
        lower=0.0,
    ),
    HS(
        74,
        lambda x: 3 * x[0] + 1e-6 * x[0] ** 3 + 2 * x[1] + 2e-6 / 3 * x[1] ** 3,
        [0, 0, 0, 0],
        5126.49811,
        lambda x: vec(x[3] - x[2] + 0.55, x[2] - x[3] + 0.55),
        lambda x: vec(
            1000 * torch.sin(-x[2] - 0.25) + 1000 * torch.sin(-x[3] - 0.25) + 894.8 - x[0],
            1000 * torch.sin(x[2] - 0.25) + 1000 * torch.sin(x[2] - x[3] - 0.25) + 894.8 - x[1],
            1000 * torch.sin(x[3] - 0.25) + 1000 * torch.sin(x[3] - x[2] - 0.25) + 1294.8,
        ),
        lower=[0.0, 0.0, -0.55, -0.55],
        upper=[1200.0, 1200.0, 0.55, 0.55],
    ),
    HS(
        76,
        lambda x: (
            x[0] ** 2
            + 0.5 * x[1] ** 2
            + x[2] ** 2
            + 0.5 * x[3] ** 2
            - x[0] * x[2]
            + x[2] * x[3]
            - x[0]
            - 3 * x[1]
            + x[2]
            - x[3]
        ),
        [0.5, 0.5, 0.5, 0.5],
        -4.681818181,
        lambda x: vec(
            5 - x[0] - 2 * x[1] - x[2] - x[3], 4 - 3 * x[0] - x[1] - 2 * x[2] + x[3], x[1] + 4 * x[2] - 1.5
        ),
        lower=0.0,
    ),
    HS(
        77,
        lambda x: (x[0] - 1) ** 2 + (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6,
        [2, 2, 2, 2, 2],
        0.24150513,
        equations=lambda x: vec(
            x[0] ** 2 * x[3] + torch.sin(x[3] - x[4]) - 2 * math.sqrt(2),
            x[1] + x[2] ** 4 * x[3] ** 2 - 8 - math.sqrt(2),
        ),
    ),
    HS(
        78,
        lambda x: x.prod(),
        [-2, 1.5, 2, -1, -1],
        -2.91970041,
        equations=lambda x: vec((x**2).sum() - 10, x[1] * x[2] - 5 * x[3] * x[4], x[0] ** 3 + x[1] ** 3 + 1),
    ),
    HS(
        79,
        lambda x: (
            (x[0] - 1) ** 2
            + (x[0] - x[1]) ** 2
            + (x[1] - x[2]) ** 2
            + (x[2] - x[3]) ** 4
            + (x[3] - x[4]) ** 4
        ),
        [2, 2, 2, 2, 2],
        0.0787768209,
        equations=lambda x: vec(
            x[0] + x[1] ** 2 + x[2] ** 3 - 2 - 3 * math.sqrt(2),
            x[1] - x[2] ** 2 + x[3] + 2 - 2 * math.sqrt(2),
            x[0] * x[4] - 2,
        ),
    ),
    HS(
        80,
        lambda x: torch.exp(x.prod()),
        [-2, 2, 2, -1, -1],
        0.0539498478,
        equations=lambda x: vec((x**2).sum() - 10, x[1] * x[2] - 5 * x[3] * x[4], x[0] ** 3 + x[1] ** 3 + 1),
        lower=[-2.3, -2.3, -3.2, -3.2, -3.2],
        upper=[2.3, 2.3, 3.2, 3.2, 3.2],
    ),
    HS(
        81,
        lambda x: torch.exp(x.prod()) - 0.5 * (x[0] ** 3 + x[1] ** 3 + 1) ** 2,
        [-2, 2, 2, -1, -1],
        0.0539498478,
        equations=lambda x: vec((x**2).sum() - 10, x[1] * x[2] - 5 * x[3] * x[4], x[0] ** 3 + x[1] ** 3 + 1),
        lower=[-2.3, -2.3, -3.2, -3.2, -3.2],
        upper=[2.3, 2.3, 3.2, 3.2, 3.2],
    ),
    HS(
        86,
        lambda x: HS86_E @ x + x @ HS86_C @ x + HS86_D @ x**3,
        [0, 0, 0, 0, 1],
        -32.34867897,
        lambda x: HS86_A @ x - HS86_B,
        lower=0.0,
    ),
    HS(
        93,
        lambda x: (
            0.0204 * hs93_common(x)[0]
            + 0.0187 * hs93_common(x)[1]
            + 0.0607 * hs93_common(x)[0] * x[4] ** 2
            + 0.0437 * hs93_common(x)[1] * x[5] ** 2
        ),
        [5.54, 4.4, 12.02, 11.82, 0.702, 0.852],
        135.075961,
        lambda x: vec(
            0.001 * x.prod() - 2.07,
            1 - 0.00062 * hs93_common(x)[0] * x[4] ** 2 - 0.00058 * hs93_common(x)[1] * x[5] ** 2,
        ),
        lower=0.0,
    ),
    HS(100, hs100, [1, 2, 0, 4, 0, 1, 1], 680.6300573, hs100_rows),
    HS(
        104,
        lambda x: 0.4 * x[0] ** 0.67 * x[6] ** -0.67 + 0.4 * x[1] ** 0.67 * x[7] ** -0.67 + 10 - x[0] - x[1],
        [6, 3, 0.4, 0.2, 6, 6, 1, 0.5],
        3.9511634396,
        lambda x: vec(
            1 - 0.0588 * x[4] * x[6] - 0.1 * x[0],
            1 - 0.0588 * x[5] * x[7] - 0.1 * x[0] - 0.1 * x[1],
            1 - 4 * x[2] / x[4] - 2 * x[2] ** -0.71 / x[4] - 0.0588 * x[2] ** -1.3 * x[6],
            1 - 4 * x[3] / x[5] - 2 * x[3] ** -0.71 / x[5] - 0.0588 * x[3] ** -1.3 * x[7],
            0.4 * x[0] ** 0.67 * x[6] ** -0.67 + 0.4 * x[1] ** 0.67 * x[7] ** -0.67 + 10 - x[0] - x[1] - 1,
            4.2
            - (0.4 * x[0] ** 0.67 * x[6] ** -0.67 + 0.4 * x[1] ** 0.67 * x[7] ** -0.67 + 10 - x[0] - x[1]),
        ),
        lower=0.1,
        upper=10.0,
    ),
    HS(
        106,
        lambda x: x[0] + x[1] + x[2],
        [5000, 5000, 5000, 200, 350, 150, 225, 425],
        7049.248,
        lambda x: vec(
            1 - 0.0025 * (x[3] + x[5]),
            1 - 0.0025 * (x[4] + x[6] - x[3]),
            1 - 0.01 * (x[7] - x[4]),
            x[0] * x[5] - 833.33252 * x[3] - 100 * x[0] + 83333.333,
            x[1] * x[6] - 1250 * x[4] - x[1] * x[3] + 1250 * x[3],
            x[2] * x[7] - 1250000 - x[2] * x[4] + 2500 * x[4],
        ),
        lower=[100.0, 1000.0, 1000.0, 10.0, 10.0, 10.0, 10.0, 10.0],
        upper=[10000.0, 10000.0, 10000.0, 1000.0, 1000.0, 1000.0, 1000.0, 1000.0],
    ),
    HS(
        108,
        lambda x: -0.5 * (x[0] * x[3] - x[1] * x[2] + x[2] * x[8] - x[4] * x[8] + x[4] * x[7] - x[5] * x[6]),
        [1.0] * 9,
        -math.sqrt(3) / 2,
        lambda x: vec(
            1 - x[2] ** 2 - x[3] ** 2,
            1 - x[8] ** 2,
            1 - x[4] ** 2 - x[5] ** 2,
            1 - x[0] ** 2 - (x[1] - x[8]) ** 2,
            1 - (x[0] - x[4]) ** 2 - (x[1] - x[5]) ** 2,
            1 - (x[0] - x[6]) ** 2 - (x[1] - x[7]) ** 2,
            1 - (x[2] - x[4]) ** 2 - (x[3] - x[5]) ** 2,
            1 - (x[2] - x[6]) ** 2 - (x[3] - x[7]) ** 2,
            1 - x[6] ** 2 - (x[7] - x[8]) ** 2,
            x[0] * x[3] - x[1] * x[2],
            x[2] * x[8],
            -x[4] * x[8],
            x[4] * x[7] - x[5] * x[6],
        ),
        lower=[-INF] * 8 + [0.0],
    ),
    HS(
        110,
        lambda x: (torch.log(x - 2) ** 2 + torch.log(10 - x) ** 2).sum() - x.prod() ** 0.2,
        [9.0] * 10,
        -45.77846971,
        lower=2.001,
        upper=9.999,
    ),
    HS(
        111,
        lambda x: (torch.exp(x) * (HS112_C + x - torch.log(torch.exp(x).sum()))).sum(),
        [-2.3] * 10,
        -47.76109026,
        equations=lambda x: vec(
            torch.exp(x[0])
            + 2 * torch.exp(x[1])
            + 2 * torch.exp(x[2])
            + torch.exp(x[5])
            + torch.exp(x[9])
            - 2,
            torch.exp(x[3]) + 2 * torch.exp(x[4]) + torch.exp(x[5]) + torch.exp(x[6]) - 1,
            torch.exp(x[2]) + torch.exp(x[6]) + torch.exp(x[7]) + 2 * torch.exp(x[8]) + torch.exp(x[9]) - 1,
        ),
        lower=-100.0,
        upper=100.0,
    ),
    HS(
        112,
        lambda x: (x * (HS112_C + torch.log(x / x.sum()))).sum(),
        [0.1] * 10,
        -47.76109026,
        equations=lambda x: vec(
            x[0] + 2 * x[1] + 2 * x[2] + x[5] + x[9] - 2,
            x[3] + 2 * x[4] + x[5] + x[6] - 1,
            x[2] + x[6] + x[7] + 2 * x[8] + x[9] - 1,
        ),
        lower=1e-6,
    ),
    HS(113, hs113, [2, 3, 5, 5, 1, 2, 7, 3, 6, 10], 24.3062091, hs113_rows),
    HS(
        118,
        hs118,
        HS118_START,
        664.8204500,
        hs118_rows,
        lower=[8.0, 43.0, 3.0] + [0.0] * 12,
        upper=[21.0, 57.0, 16.0] + [90.0, 120.0, 60.0] * 4,
    ),
]
