"""Random features over a domain: a hidden layer that is drawn once, so that the last layer is one linear solve."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from feasible.sets import Equal
from feasible.solve.projection.conditions import Conditions
from feasible.solve.projection.linearised import Differentiation
from feasible.solve.projection.nearest import Spectrum
from feasible.solve.projection.weights import Weights, undisturbed

__all__ = ["init_features_"]

PERIODIC = ("sin", "cos")
LOCAL = ("tanh", "sigmoid", "relu", "gelu", "silu", "softplus", "gaussian")
CANDIDATES = tuple(2.0**power for power in range(-2, 8))
"""Scales that are tried, times the reciprocal of half the domain's longest side."""
REFINED = (2.0**-0.5, 2.0**0.5)
FEW = 8
"""Constraints with fewer rows (conditions at points) are always fitted, never held out."""
AFFINE = 1e-8

ROUNDING = 1e-8
"""Residuals below this share of the right side are alike: then the smallest coefficients have the best digits."""

ALIKE = 1.5
"""Scores within this factor of the smallest count as equal."""

Judgement = tuple[float, float]
"""A score, and what decides between equal ones; smaller is better."""
Scale = float | Sequence[float] | Tensor


def init_features_(
    layer: nn.Linear,
    domain: Any,
    scale: Scale | None = None,
    *,
    activation: str = "tanh",
    model: nn.Module | None = None,
    constraints: Iterable[Any] | None = None,
    parameters: str | Sequence[str] | None = None,
    score: Callable[[], Tensor | float] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Spread the features ``φ(w·x + b)`` of a layer over a domain.

    Weights are uniform in ±scale. For ``"sin"`` and ``"cos"`` the phases b are uniform in ±π, else ``b = −w·c`` with
    centres c spread over the domain, so that every feature bends inside it. The scale decides how well the features
    can express a solution. Without one it is searched for: each candidate is given to ``score``; or ``constraints``
    are solved for the ``parameters`` by least squares on a random half of their rows, and judged by the other half
    (conditions with few rows are always fitted). Without either it is a rule of thumb from the number of features.

    Args:
        layer: its weight (n, d) and bias (n) are overwritten.
        domain: a ``pde`` domain, anything with ``sample(n, generator)``, or a pair ``(lower, upper)`` of corners.
        scale: one number, or one for each of the d inputs.
        activation: what follows the layer.
        model: the module that ends with the readout, for ``constraints``.
        constraints: pairs ``(function of the module, Equal(…))`` that are affine in the ``parameters``, or functions
            whose values should be zero, such as a ``pde.System``.
        parameters: globs of the readout's parameters, such as ``"2.*"``.
        score: what the scale is judged by once the features are drawn: smaller is better.
        generator: of the random numbers.

    Returns:
        The scale of each input, (d).

    Raises:
        ValueError: something does not fit; the message says what and what would mend it.

    >>> layer = nn.Linear(1, 64)
    >>> init_features_(layer, (torch.zeros(1), torch.ones(1)), scale=8.0)
    tensor([8.])
    >>> centres = -layer.bias / layer.weight[:, 0]
    >>> bool((centres >= 0).all() and (centres <= 1).all())
    True

    Source: Rahimi & Recht, *Random features for large-scale kernel machines* (2007); Dong & Li, *Local extreme
    learning machines and domain decomposition for solving linear and nonlinear partial differential equations* (2021).
    """
    _check(layer, activation)
    drawn = _drawn(layer, domain, generator)
    if scale is not None:
        return _write(layer, drawn, _scales(scale, layer), activation)
    judge = _judge(model, constraints, parameters, score, generator)
    if judge is None:
        return _write(layer, drawn, _rule_of_thumb(layer, drawn, activation), activation)
    return _searched(layer, drawn, activation, judge)


class _Drawn(NamedTuple):
    """Random numbers that are the same for every scale, in float64."""

    directions: Tensor
    """(n, d), uniform in ±1."""
    centres: Tensor
    """(n, d)."""
    phases: Tensor
    """(n), uniform in ±π."""
    length: float
    """The longest side of the domain."""


def _check(layer: nn.Linear, activation: str) -> None:
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"init_features_: expected an nn.Linear, got {type(layer).__name__}.")
    if layer.bias is None:
        raise ValueError(
            "init_features_: the layer has no bias to spread features with; make it with bias=True."
        )
    if activation not in PERIODIC + LOCAL:
        raise ValueError(
            f"init_features_: activation must be one of {', '.join(PERIODIC + LOCAL)}, got {activation!r}."
        )


def _drawn(layer: nn.Linear, domain: Any, generator: torch.Generator | None) -> _Drawn:
    count, dim = layer.weight.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=generator)

    directions = 2 * uniform(count, dim) - 1
    phases = math.pi * (2 * uniform(count) - 1)
    centres, length = _centres(domain, count, dim, uniform, generator)
    return _Drawn(directions, centres, phases, length)


def _centres(
    domain: Any, count: int, dim: int, uniform: Callable[..., Tensor], generator: torch.Generator | None
) -> tuple[Tensor, float]:
    """Points spread over the domain, and its longest side."""
    if isinstance(domain, (tuple, list)) and len(domain) == 2:
        low, high = (torch.as_tensor(corner, dtype=torch.float64).reshape(-1).cpu() for corner in domain)
        if low.shape != high.shape or not bool((low < high).all()) or not bool((high - low).isfinite().all()):
            raise ValueError(
                f"init_features_: a domain (lower, upper) needs finite corners with lower < upper, got {domain!r}."
            )
        centres = low + (high - low) * uniform(count, len(low))
    elif hasattr(domain, "from_unit"):
        centres = domain.from_unit(uniform(count, domain.dim)).double().cpu()
    elif hasattr(domain, "sample"):
        centres = domain.sample(count, generator).double().cpu()
    else:
        raise TypeError(
            "init_features_: expected a domain such as pde.Interval(0, 1), or a pair of corners (lower, upper), "
            f"got {domain!r}."
        )
    if centres.shape != (count, dim):
        raise ValueError(
            f"init_features_: the layer takes {dim} inputs, but the domain has {centres.shape[-1]} coordinates.\n"
            "  Give a domain over all inputs, further parameters included."
        )
    spans = [torch.as_tensor(high) - torch.as_tensor(low) for low, high in [_box(domain, centres)]]
    return centres, float(spans[0].max())


def _box(domain: Any, centres: Tensor) -> tuple[Any, Any]:
    """The corners around the domain."""
    if isinstance(domain, (tuple, list)):
        low, high = (torch.as_tensor(corner, dtype=torch.float64) for corner in domain)
        return low, high
    if hasattr(domain, "bounds"):
        low, high = (torch.as_tensor(corner, dtype=torch.float64) for corner in domain.bounds)
        return low, high
    return centres.amin(0), centres.amax(0)


def _scales(scale: Scale, layer: nn.Linear) -> Tensor:
    given = torch.as_tensor(scale, dtype=torch.float64).detach().cpu()
    dim = layer.in_features
    if given.dim() > 1 or given.numel() not in (1, dim):
        raise ValueError(
            f"init_features_: scale must be a number or one for each of {dim} inputs, got shape {tuple(given.shape)}."
        )
    if not bool(((given > 0) & given.isfinite()).all()):
        raise ValueError(f"init_features_: scale must be positive and finite, got {scale!r}.")
    return given.reshape(-1).expand(dim).clone()


@torch.no_grad()
def _write(layer: nn.Linear, drawn: _Drawn, scales: Tensor, activation: str) -> Tensor:
    weight = drawn.directions * scales
    bias = drawn.phases if activation in PERIODIC else -(weight * drawn.centres).sum(1)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return scales.to(layer.weight.dtype)


def _rule_of_thumb(layer: nn.Linear, drawn: _Drawn, activation: str) -> Tensor:
    """So many bends along a side as the features can tell apart."""
    along = layer.out_features ** (1 / layer.in_features)
    wanted = along / 2 if activation in PERIODIC else along / 8
    return torch.full((layer.in_features,), max(wanted, 1.0) / drawn.length, dtype=torch.float64)


def _searched(layer: nn.Linear, drawn: _Drawn, activation: str, judge: Callable[[], Judgement]) -> Tensor:
    """The candidate that is judged best, and its neighbours at half the distance."""
    seen: dict[float, Judgement] = {}

    def look(factor: float) -> None:
        _write(layer, drawn, torch.full((layer.in_features,), 2 * factor / drawn.length).double(), activation)
        value, beside = judge()
        seen[factor] = (value, beside) if math.isfinite(value) else (math.inf, 0.0)

    for factor in CANDIDATES:
        look(factor)
    middle = _best(seen)
    for ratio in REFINED:
        look(middle * ratio)
    best = _best(seen)
    if math.isinf(seen[best][0]):
        raise ValueError("init_features_: no scale has a finite score; look at score= or at the constraints.")
    return _write(
        layer, drawn, torch.full((layer.in_features,), 2 * best / drawn.length).double(), activation
    )


def _best(seen: dict[float, Judgement]) -> float:
    """Of the candidates with about the smallest score, the one with the smallest coefficients."""
    least = min(score for score, _ in seen.values())
    alike = [factor for factor, (score, _) in seen.items() if score <= ALIKE * least]
    return min(alike or seen, key=lambda factor: seen[factor][::-1])


def _judge(
    model: nn.Module | None,
    constraints: Iterable[Any] | None,
    parameters: str | Sequence[str] | None,
    score: Callable[[], Tensor | float] | None,
    generator: torch.Generator | None,
) -> Callable[[], Judgement] | None:
    given = [model is not None, constraints is not None, parameters is not None]
    if score is not None:
        if any(given):
            raise ValueError(
                "init_features_: give score=, or model=, constraints= and parameters=, not both."
            )
        judged = score
        return lambda: (float(torch.as_tensor(judged()).detach()), 0.0)
    if not any(given):
        return None
    if model is None or constraints is None or parameters is None:
        raise ValueError(
            "init_features_: model=, constraints= and parameters= belong together; one is missing."
        )
    pairs = _pairs(constraints)
    seed = int(torch.randint(2**31, (1,), generator=generator))
    where, names = model, parameters
    return lambda: _held_out(where, pairs, names, seed)


def _pairs(constraints: Iterable[Any] | Callable[..., Any]) -> list[Any]:
    """Pairs (function, set), with systems taken apart into their blocks."""
    given = [constraints] if callable(constraints) else list(constraints)
    pairs: list[Any] = []
    for item in given:
        if not callable(item):
            pairs.append(item)
        elif hasattr(item, "blocks"):
            pairs.append((_Blocks(item), Equal(0.0)))
        else:
            pairs.append((item, Equal(0.0)))
    return pairs


class _Blocks:
    """A system's rows, and how many of them each of its equations and conditions has."""

    def __init__(self, system: Any) -> None:
        self.system = system
        self.sizes: list[int] = []

    def __call__(self, model: nn.Module) -> Tensor:
        parts = [part.reshape(-1) for part in self.system.blocks(model)]
        self.sizes = [len(part) for part in parts]
        return torch.cat(parts)


def _held_out(model: nn.Module, pairs: list[Any], parameters: str | Sequence[str], seed: int) -> Judgement:
    """Root mean square of the rows that a least-squares solution on the others has not seen; its coefficients."""
    weights = Weights(model, parameters)
    with undisturbed(model) as replay:
        conditions = Conditions(weights, pairs, ())
        low, high = conditions.bounds()
        if not bool((low == high).all()):
            raise ValueError(
                "init_features_: the scale is searched for with equations alone: sets such as Equal(0)."
            )

        def rows() -> Tensor:
            with replay:
                return conditions.rows(conditions.values())

        values, jacobian = Differentiation(rows, weights).matrix()
        fitted = _split(_sizes(conditions, pairs), seed).to(values.device)
        right = low - values
        spectrum = Spectrum(jacobian[fitted], right[fitted])
        smallest = torch.finfo(weights.dtype).eps * (8 + math.sqrt(sum(jacobian.shape)))
        solution = spectrum.shortest(spectrum.rank(smallest))
        try:
            weights.write(weights.start + solution)
            reached = (low - rows().detach())[~fitted]
        finally:
            weights.restore()
    bend = (reached - (right - jacobian @ solution)[~fitted]).abs().max()
    terms = (jacobian.abs() @ solution.abs() + right.abs()).max()
    if not bool(bend <= max(AFFINE, 1e3 * torch.finfo(weights.dtype).eps) * terms):
        raise ValueError(
            f"init_features_: the constraints are not affine in {', '.join(weights.names)}.\n"
            "  Name the readout's parameters alone; for nonlinear equations give score=, or a scale."
        )
    size = float(right.square().mean().sqrt())
    rounding = max(ROUNDING, 10 * torch.finfo(weights.dtype).eps)
    held_out = float(reached.square().mean().sqrt())
    return max(held_out, rounding * size), float(torch.linalg.vector_norm(weights.start + solution))


def _sizes(conditions: Conditions, pairs: list[Any]) -> list[int]:
    """The numbers of rows that belong together."""
    sizes: list[int] = []
    for requirement, (function, _) in zip(conditions.requirements, pairs, strict=True):
        sizes += function.sizes if isinstance(function, _Blocks) else [requirement.shape.numel()]
    return sizes


def _split(sizes: Sequence[int], seed: int) -> Tensor:
    """Which rows are fitted: a random half of each block, and all of a short one.

    Raises:
        ValueError: there is nothing to hold out.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for size in sizes:
        part = torch.ones(size, dtype=torch.bool)
        if size >= FEW:
            part[torch.randperm(size, generator=generator)[: size // 2]] = False
        parts.append(part)
    fitted = torch.cat(parts)
    if bool(fitted.all()):
        raise ValueError(
            f"init_features_: {len(fitted)} rows are too few to hold some out; give at least {FEW} points "
            "of the equation."
        )
    return fitted
