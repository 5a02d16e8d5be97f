"""More problems of Hock & Schittkowski (1981): badly scaled, degenerate or long ones."""

from __future__ import annotations

import torch

from .hock_schittkowski import HS, INF, vec


def hs57():
    steps = torch.tensor([8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42]).double()
    a = steps.repeat_interleave(torch.tensor([2, 4, 4, 3, 3, 2, 3, 3, 3, 3, 2, 3, 2, 1, 2, 2, 1, 1]))
    b = vec(
        *[49, 49, 48, 47, 48, 47, 46, 46, 45, 43, 45, 43, 43, 44, 43, 43, 46, 45, 42, 42, 43, 41],
        *[41, 40, 42, 40, 40, 41, 40, 41, 41, 40, 40, 40, 38, 41, 40, 40, 41, 38, 40, 40, 39, 39],
    )
    return HS(
        57,
        lambda x: ((b / 100 - x[0] - (0.49 - x[0]) * torch.exp(-x[1] * (a - 8))) ** 2).sum(),
        [0.42, 5],
        0.02845966972,
        lambda x: vec(0.49 * x[1] - x[0] * x[1] - 0.09),
        lower=[0.4, -4.0],
    )


def hs83_rows(x):
    rows = vec(
        85.334407 + 0.0056858 * x[1] * x[4] + 0.0006262 * x[0] * x[3] - 0.0022053 * x[2] * x[4],
        80.51249 + 0.0071317 * x[1] * x[4] + 0.0029955 * x[0] * x[1] + 0.0021813 * x[2] ** 2 - 90,
        9.300961 + 0.0047026 * x[2] * x[4] + 0.0012547 * x[0] * x[2] + 0.0019085 * x[2] * x[3] - 20,
    )
    return torch.cat([rows, vec(92.0, 20.0, 5.0) - rows])


HS84 = vec(
    *[-24345, -8720288.849, 150512.5253, -156.6950325, 476470.3222, 729482.8271],
    *[-145421.402, 2931.1506, -40.427932, 5106.192, 15711.36],
    *[-155011.1084, 4360.53352, 12.9492344, 10236.884, 13176.786],
    *[-326669.5104, 7390.68412, -27.8986976, 16643.076, 30988.146],
)


def hs84_rows(x):
    inner = torch.cat([torch.ones(1).double(), x[1:]])
    rows = x[0] * (HS84[6:].reshape(3, 5) @ inner)
    return torch.cat([rows, vec(294000.0, 294000.0, 277200.0) - rows])


def hs95_rows(*right):
    def rows(x):
        a, b, c, d, e, f = x.unbind()
        return vec(
            17.1 * a + 38.2 * b + 204.2 * c + 212.3 * d + 623.4 * e + 1495.5 * f
            - 169 * a * c - 3580 * c * e - 3810 * d * e - 18500 * d * f - 24300 * e * f,
            17.9 * a + 36.8 * b + 113.9 * c + 169.7 * d + 337.8 * e + 1385.2 * f
            - 139 * a * c - 2450 * d * e - 16600 * d * f - 17200 * e * f,
            -273 * b - 70 * d - 819 * e + 26000 * d * e,
            159.9 * a - 311 * b + 587 * d + 391 * e + 2198 * f - 14000 * a * f,
        ) - vec(*right)  # fmt: skip

    return rows


def hs95(number, optimum, elsewhere, *right):
    return HS(
        number,
        lambda x: 4.3 * x[0] + 31.8 * x[1] + 63.3 * x[2] + 15.8 * x[3] + 68.5 * x[4] + 4.7 * x[5],
        [0.0] * 6,
        optimum,
        hs95_rows(*right),
        lower=0.0,
        upper=[0.31, 0.046, 0.068, 0.042, 0.028, 0.0134],
        elsewhere=elsewhere,
    )


def hs99_flight(x):
    pushes, times = [0, 50, 50, 75, 75, 75, 100, 100], [0, 25, 50, 100, 150, 200, 290, 380]
    far = high = speed = torch.zeros(()).double()
    for k in range(1, 8):
        span, lift = times[k] - times[k - 1], pushes[k] * torch.sin(x[k - 1]) - 32
        far = far + pushes[k] * span * torch.cos(x[k - 1])
        high = high + 0.5 * span**2 * lift + span * speed
        speed = speed + span * lift
    return far, high, speed


def hs101(number, power, optimum):
    def fun(x):
        return (
            10 * x[0] / x[1] * x[3] ** 2 * x[5] ** -3 * x[6] ** power
            + 15 / x[0] * x[1] ** -2 * x[2] * x[3] / x[4] * x[6] ** -0.5
            + 20 * x[0] ** -2 * x[1] / x[3] * x[4] ** -2 * x[5]
            + 25 * x[0] ** 2 * x[1] ** 2 / x[2] * x[4] ** 0.5 * x[5] ** -2 * x[6]
        )

    def rows(x):
        a, b, c, d, e, f, g = x.unbind()
        third = 1 / 3
        return vec(
            1 - 0.5 * a**0.5 * g / (c * f**2) - 0.7 * a**3 * b * f * g**0.5 / c**2
            - 0.2 * c * f ** (2 * third) * g**0.25 / (b * d**0.5),
            1 - 1.3 * b * f / (a**0.5 * c * e) - 0.8 * c * f**2 / (d * e)
            - 3.1 * b**0.5 * f**third / (a * d**2 * e),
            1 - 2 * a * e * g**third / (c**1.5 * f) - 0.1 * b * e / (c**0.5 * f * g**0.5)
            - b * c**0.5 * e / a - 0.65 * c * e * g / (b**2 * f),
            1 - 0.2 * b * e**0.5 * g**third / (a**2 * d)
            - 0.3 * a**0.5 * b**2 * c * d**third * g**0.25 / e ** (2 * third)
            - 0.4 * c * e * g**0.75 / (a**3 * b**2) - 0.5 * d * g**0.5 / c**2,
            fun(x) - 100,
            3000 - fun(x),
        )  # fmt: skip

    return HS(number, fun, [6.0] * 7, optimum, rows, lower=[0.1] * 6 + [0.01], upper=10.0)


def hs114_rows(x):
    first = 35.82 - 0.222 * x[9] - 0.9 * x[8]
    second = -133 + 3 * x[6] - 0.99 * x[9]
    fifth = 1.12 * x[0] + 0.13167 * x[0] * x[7] - 0.00667 * x[0] * x[7] ** 2 - 0.99 * x[3]
    sixth = 57.425 + 1.098 * x[7] - 0.038 * x[7] ** 2 + 0.325 * x[5] - 0.99 * x[6]
    wide, narrow = 1 / 0.9 - 0.9, 1 / 0.99 - 0.99
    return vec(
        *(first, second, -first + x[8] * wide, -second + x[9] * narrow),
        *(fifth, sixth, -fifth + x[3] * narrow, -sixth + x[6] * narrow),
    )


def hs114_equations(x):
    return vec(
        1.22 * x[3] - x[0] - x[4],
        98000 * x[2] / (x[3] * x[8] + 1000 * x[2]) - x[5],
        (x[1] + x[4]) / x[0] - x[7],
    )


def hs117():
    weights = torch.tensor(
        [
            *([-16, 2, 0, 1, 0], [0, -2, 0, 0.4, 2], [-3.5, 0, 2, 0, 0], [0, -2, 0, -4, -1]),
            *(
                [0, -9, -2, 1, -2.8],
                [2, 0, -4, 0, 0],
                [-1] * 5,
                [-1, -2, -3, -2, -1],
                [1, 2, 3, 4, 5],
                [1] * 5,
            ),
        ],
        dtype=torch.float64,
    )
    right = vec(-40, -2, -0.25, -4, -4, -1, -40, -60, 5, 1)
    square = torch.tensor(
        [
            *([30, -20, -10, 32, -10], [-20, 39, -6, -31, 32], [-10, -6, 10, -6, -10]),
            *([32, -31, -6, 39, -20], [-10, 32, -10, -20, 30]),
        ],
        dtype=torch.float64,
    )
    cubic, linear = vec(4, 8, 10, 6, 2), vec(-15, -27, -36, -18, -12)
    return HS(
        117,
        lambda x: -(right @ x[:10]) + x[10:] @ square @ x[10:] + 2 * (cubic @ x[10:] ** 3),
        [0.001] * 6 + [60] + [0.001] * 8,
        32.348679,
        lambda x: 2 * square @ x[10:] + 3 * cubic * x[10:] ** 2 + linear - weights.mT @ x[:10],
        lower=0.0,
    )


HARD = [
    HS(
        55,
        lambda x: x[0] + 2 * x[1] + 4 * x[4] + torch.exp(x[0] * x[3]),
        [1, 2, 0, 0, 0, 2],
        19 / 3,
        equations=lambda x: vec(
            *(x[0] + 2 * x[1] + 5 * x[4] - 6, x[0] + x[1] + x[2] - 3, x[3] + x[4] + x[5] - 2),
            *(x[0] + x[3] - 1, x[1] + x[4] - 2, x[2] + x[5] - 2),
        ),
        lower=0.0,
        upper=[1, INF, INF, 1, INF, INF],
        elsewhere=20 / 3,
    ),
    hs57(),
    HS(
        83,
        lambda x: 5.3578547 * x[2] ** 2 + 0.8356891 * x[0] * x[4] + 37.293239 * x[0] - 40792.141,
        [78, 33, 27, 27, 27],
        -30665.53867,
        hs83_rows,
        lower=[78.0, 33.0, 27.0, 27.0, 27.0],
        upper=[102.0, 45.0, 45.0, 45.0, 45.0],
    ),
    HS(
        84,
        lambda x: -HS84[0] - x[0] * (HS84[1] + HS84[2:6] @ x[1:]),
        [2.52, 2, 37.5, 9.25, 6.8],
        -5280335.133,
        hs84_rows,
        lower=[0, 1.2, 20, 9, 6.5],
        upper=[1000, 2.4, 60, 9.3, 7.0],
    ),
    hs95(95, 0.015619514, None, 4.97, -1.88, -29.08, -78.02),
    hs95(96, 0.015619514, None, 4.97, -1.88, -69.08, -118.02),
    hs95(97, 3.1358091, 4.07124636, 32.97, 25.12, -29.08, -78.02),
    hs95(98, 3.1358091, 4.07124636, 32.97, 25.12, -124.08, -173.02),
    HS(
        99,
        lambda x: -(hs99_flight(x)[0] ** 2),
        [0.5] * 7,
        -831079892,
        equations=lambda x: vec(hs99_flight(x)[1] - 1e5, hs99_flight(x)[2] - 1e3),
        lower=0.0,
        upper=1.58,
    ),
    hs101(101, -0.25, 1809.76476),
    hs101(102, 0.125, 911.880571),
    hs101(103, 0.5, 543.667958),
    HS(
        114,
        lambda x: 5.04 * x[0] + 0.035 * x[1] + 10 * x[2] + 3.36 * x[4] - 0.063 * x[3] * x[6],
        [1745, 12000, 110, 3048, 1974, 89.2, 92.8, 8, 3.6, 145],
        -1768.80696,
        hs114_rows,
        hs114_equations,
        lower=[1e-5] * 5 + [85, 90, 3, 1.2, 145],
        upper=[2000, 16000, 120, 5000, 2000, 93, 95, 12, 4, 162],
    ),
    hs117(),
]
"""Beside them: 54 is flat at its start, and 25 is all but stationary there."""
