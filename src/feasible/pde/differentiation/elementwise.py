"""Towers: an elementwise function with its derivatives, and how many of them are continuous."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from feasible.pde.differentiation.forward_mode import along_ones

KINKS = {
    "relu": "is piecewise linear: its second derivative is 0 at every point",
    "relu6": "is piecewise linear: its second derivative is 0 at every point",
    "leaky_relu": "is piecewise linear: its second derivative is 0 at every point",
    "prelu": "is piecewise linear: its second derivative is 0 at every point",
    "rrelu": "is piecewise linear: its second derivative is 0 at every point",
    "hardtanh": "is piecewise linear: its second derivative is 0 at every point",
    "hardsigmoid": "is piecewise linear: its second derivative is 0 at every point",
    "hardshrink": "is piecewise linear: its second derivative is 0 at every point",
    "softshrink": "is piecewise linear: its second derivative is 0 at every point",
    "threshold": "is piecewise linear: its second derivative is 0 at every point",
    "clamp": "is piecewise linear: its second derivative is 0 at every point",
    "clamp_min": "is piecewise linear: its second derivative is 0 at every point",
    "clamp_max": "is piecewise linear: its second derivative is 0 at every point",
    "abs": "is piecewise linear: its second derivative is 0 at every point",
    "hardswish": "has kinks at −3 and 3",
    "selu": "has a kink at 0",
    "elu": "has a kink at 0, or a jump in its second derivative",
    "celu": "has a jump in its second derivative at 0",
    "softsign": "has a jump in its second derivative at 0",
}
"""Functions with kinks, and where."""
DECISIONS = {
    **dict.fromkeys(
        ("maximum", "minimum", "max", "min", "amax", "amin", "fmax", "fmin"), "chooses between pieces"
    ),
    **dict.fromkeys(("gt", "ge", "lt", "le", "greater", "less", "sign"), "decides between pieces"),
}
"""What piecewise linear functions are written with; an error only where no second derivative is left."""
DELIBERATE = {"abs", "clamp", "clamp_min", "clamp_max"}
"""Those that guard against values which do not occur, or belong to a geometry: an error only where nothing is left."""
ONCE = {"celu", "softsign"}
"""Those whose first derivative is continuous."""


def smoothness_of(name: str, args: Sequence[Any], options: Mapping[str, Any]) -> float:
    """How many derivatives of an elementwise function are continuous."""
    name = name.strip("_")
    if name not in KINKS or name in DELIBERATE:
        return math.inf
    is_smooth_elu = name == "elu" and (args[0] if args else options.get("alpha", 1.0)) == 1.0
    return 1 if name in ONCE or is_smooth_elu else 0


def tower(function: Callable[..., Any], z: Tensor, order: int, *args: Any, **options: Any) -> list[Tensor]:
    """``f(z), f′(z), …`` up to an order; by a formula for the usual ones, else by forward mode along ones."""
    formula = TOWERS.get(getattr(function, "__name__", "").strip("_"))
    options = {name: value for name, value in options.items() if name != "inplace"}
    if formula is not None and not args and not options:
        return formula(z, order)
    return along_ones(lambda y: function(y, *args, **options), z, order)


def tanh(z: Tensor, order: int) -> list[Tensor]:
    """``t′ = 1 − t²``, and on by Leibniz's rule."""
    found = [torch.tanh(z)]
    if order >= 1:
        found.append(1 - found[0] * found[0])
    return riccati(found, order, 0.0)


def sigmoid(z: Tensor, order: int) -> list[Tensor]:
    """``s′ = s − s²``, and on by Leibniz's rule."""
    found = [torch.sigmoid(z)]
    if order >= 1:
        found.append(found[0] - found[0] * found[0])
    return riccati(found, order, 1.0)


def riccati(found: list[Tensor], order: int, slope: float) -> list[Tensor]:
    """Derivatives of f with ``f′ = const + slope · f − f²``, from the first on."""
    while len(found) <= order:
        n = len(found) - 1
        half = [-2 * math.comb(n, k) * found[k] * found[n - k] for k in range((n + 1) // 2)]
        if n % 2 == 0:
            half.append(-math.comb(n, n // 2) * found[n // 2] * found[n // 2])
        total = sum(half[1:], start=half[0])
        found.append(total if slope == 0 else slope * found[n] + total)
    return found


def silu(z: Tensor, order: int) -> list[Tensor]:
    """``(z s)⁽ᵏ⁾ = z s⁽ᵏ⁾ + k s⁽ᵏ⁻¹⁾``."""
    s = sigmoid(z, order)
    return [z * s[k] + k * s[k - 1] if k else z * s[0] for k in range(order + 1)]


def sin(z: Tensor, order: int) -> list[Tensor]:
    """Sine, cosine and on."""
    return cycle(torch.sin(z), torch.cos(z) if order else z, order)


def cos(z: Tensor, order: int) -> list[Tensor]:
    """Cosine, minus sine and on."""
    return cycle(torch.cos(z), -torch.sin(z) if order else z, order)


def cycle(first: Tensor, second: Tensor, order: int) -> list[Tensor]:
    """Derivatives of f with ``f″ = −f``."""
    found = [first, second][: order + 1]
    while len(found) <= order:
        found.append(-found[-2])
    return found


def exp(z: Tensor, order: int) -> list[Tensor]:
    """Itself."""
    return [torch.exp(z)] * (order + 1)


def softplus(z: Tensor, order: int) -> list[Tensor]:
    """``ln(1 + eᶻ)``, whose slope is the sigmoid."""
    return [torch.nn.functional.softplus(z), *(sigmoid(z, order - 1) if order else [])]


TOWERS: dict[str, Callable[[Tensor, int], list[Tensor]]] = {
    "tanh": tanh,
    "sigmoid": sigmoid,
    "silu": silu,
    "sin": sin,
    "cos": cos,
    "exp": exp,
    "softplus": softplus,
}
RATIOS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": lambda t: -2 * t, "sigmoid": lambda s: 1 - 2 * s}
"""f″/f′ as a function of f: a product less than the second derivative."""
