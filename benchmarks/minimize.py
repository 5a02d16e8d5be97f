"""``minimize`` beside scipy: small smooth problems, a sphere, a dictionary, non-negative least squares; a network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

import feasible as fs

from . import peers
from .timing import Line, Run, against, medians

ROUNDS = 11


def main() -> Iterator[Line]:
    """Lines of ratios of the time of a whole solution; both sides get gradients from torch."""
    scipy = peers.load("scipy.optimize")
    for name, fun, x0, constraints in smooth():
        ours = solved(fun, x0, constraints)
        others = {"SLSQP": peers.using(scipy, lambda scipy: slsqp(scipy, fun, x0, constraints))}  # noqa: B023
        yield from against(name, ours, others, rounds=ROUNDS, note=outcome(fun, x0, constraints))
    for name, fun, x0, constraints in spheres():
        ours = solved(fun, x0, constraints)
        others = {"SLSQP": peers.using(scipy, lambda scipy: slsqp(scipy, fun, x0, constraints))}  # noqa: B023
        yield from against(name, ours, others, rounds=3, note=outcome(fun, x0, constraints))
    for name, fun, x0, goal in least_squares():
        ours = solved(fun, x0, [fs.NonNegative()])
        others = {"L-BFGS-B": peers.using(scipy, lambda scipy: lbfgsb(scipy, fun, x0))}  # noqa: B023
        yield from against(
            name, ours, others, {"L-BFGS-B": goal}, ROUNDS, note=outcome(fun, x0, [fs.NonNegative()])
        )
    yield from sparse(scipy)
    for dtype in (torch.float64, torch.float32):
        yield network(dtype)


def solved(fun: Callable[[Tensor], Tensor], x0: Tensor, constraints: list) -> Run:
    return lambda: fs.minimize(fun, x0, constraints)


def outcome(fun: Callable[[Tensor], Tensor], x0: Tensor, constraints: list) -> str:
    """What ``minimize`` found."""
    result = fs.minimize(fun, x0, constraints)
    return f"f = {result.fun:.9g}, violation {result.maxcv:.0e}, {result.nit} iterations, {result.status.name.lower()}"


def double(*entries: float) -> Tensor:
    return torch.tensor(entries, dtype=torch.float64)


def smooth() -> Iterator[tuple[str, Callable[[Tensor], Tensor], Tensor, list]]:
    """Problems of Hock and Schittkowski; the tests solve all of theirs."""
    yield (
        "HS71, 4 unknowns",
        lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
        double(1, 5, 5, 1),
        [
            (lambda x: x.prod() - 25, fs.NonNegative()),
            (lambda x: (x**2).sum() - 40, fs.Equal(0.0)),
            fs.Box(1, 5),
        ],
    )
    yield (
        "HS43, 4 unknowns",
        lambda x: (x**2).sum() + x[2] ** 2 - 5 * x[0] - 5 * x[1] - 21 * x[2] + 7 * x[3],
        torch.zeros(4).double(),
        [(hs43_rows, fs.NonNegative())],
    )
    yield (
        "HS64, 3 unknowns, badly scaled",
        lambda x: 5 * x[0] + 50000 / x[0] + 20 * x[1] + 72000 / x[1] + 10 * x[2] + 144000 / x[2],
        torch.ones(3).double(),
        [(lambda x: 1 - 4 / x[0] - 32 / x[1] - 120 / x[2], fs.NonNegative()), fs.Box(lower=1e-5)],
    )


def hs43_rows(x: Tensor) -> Tensor:
    a, b, c, d = x.unbind()
    return torch.stack(
        [
            8 - (x**2).sum() - a + b - c + d,
            10 - a**2 - 2 * b**2 - c**2 - 2 * d**2 + a + d,
            5 - 2 * a**2 - b**2 - c**2 - 2 * a + b + d,
        ]
    )


def spheres() -> Iterator[tuple[str, Callable[[Tensor], Tensor], Tensor, list]]:
    """The examples of PyGRANSO: an eigenvector, and a column of a dictionary (with kinks)."""
    torch.manual_seed(0)
    A = torch.randn(300, 300).double()
    A = (A + A.mT) / 2
    x0 = torch.nn.functional.normalize(torch.randn(300, dtype=torch.float64), dim=0)
    on_sphere = [(lambda x: x @ x - 1, fs.Equal(0.0))]
    yield "sphere, 300 unknowns (f* = -24.285922)", lambda x: -x @ (A @ x), x0, on_sphere
    count, samples = 30, 9000
    draw = np.random.RandomState(1)
    Y = normal(draw.rand(count, samples)) * (normal(draw.rand(count, samples)) <= 0.3)
    q0 = torch.nn.functional.normalize(normal(np.random.RandomState(1).rand(count)), dim=0)
    yield (
        "dictionary, 30 unknowns (f* = .491942)",
        lambda q: (q @ Y).abs().sum() / samples,
        q0,
        on_sphere,
    )


def normal(shares: np.ndarray) -> Tensor:
    """Normal numbers as PyGRANSO's example draws them, by the inverse of their distribution."""
    return math.sqrt(2) * torch.erfinv(2 * torch.from_numpy(shares) - 1)


def least_squares() -> Iterator[tuple[str, Callable[[Tensor], Tensor], Tensor, float]]:
    torch.manual_seed(0)
    A, b = torch.randn(400, 500, dtype=torch.float64), torch.randn(400, dtype=torch.float64)
    yield (
        "non-negative least squares, 500 unknowns",
        lambda x: ((A @ x - b) ** 2).sum() / 2,
        torch.zeros(500).double(),
        3.0,
    )


EVERY, STEPS = 200_000, 60
"""Unknowns, and iterations after which both sides of the sparse row are stopped."""


def sparse(scipy) -> Iterator[Line]:
    """Both stopped after equal iterations; the value that each has reached then is in the note."""
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(EVERY, (2, 10 * EVERY), generator=generator)
    entries = torch.randn(10 * EVERY, generator=generator, dtype=torch.float64)
    A = torch.sparse_coo_tensor(places, entries, (EVERY, EVERY)).coalesce()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls its compressed rows a beta
        A, transposed = A.to_sparse_csr(), A.mT.to_sparse_csr()
    product = Product(A, transposed)
    b = torch.randn(EVERY, generator=generator, dtype=torch.float64)
    x0 = torch.zeros(EVERY, dtype=torch.float64)

    def fun(x: Tensor) -> Tensor:
        return ((product(x) - b) ** 2).sum() / 2

    def ours() -> fs.Result:
        return fs.minimize(fun, x0, [fs.NonNegative()], tol=1e-13, memory=10, max_iterations=STEPS)

    other = peers.using(scipy, lambda scipy: lbfgsb(scipy, fun, x0, STEPS))
    note = f"f = {ours().fun:.6f}"
    if not isinstance(other, str):
        note += f" and {other().fun:.6f}"
    name = f"sparse non-negative least squares, {EVERY:,} unknowns, {STEPS} iterations"
    yield from against(name, ours, {"L-BFGS-B": other}, {"L-BFGS-B": 1.5}, 5, note=note)


class Product:
    """``A x`` whose backward multiplies by a transpose that is kept."""

    def __init__(self, matrix: Tensor, transposed: Tensor) -> None:
        class Times(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x: Tensor) -> Tensor:
                return matrix @ x

            @staticmethod
            def backward(ctx, upstream: Tensor) -> Tensor:
                return transposed @ upstream

        self.times = Times

    def __call__(self, x: Tensor) -> Tensor:
        return self.times.apply(x)


def network(dtype: torch.dtype) -> Line:
    """A step on some 60,000 weights with 10 constraints, less the Jacobian's own products, in gradients."""
    layers, few, many = [40, 200, 200, 50, 1], 15, 45
    generator = torch.Generator().manual_seed(0)
    x, y, at = (torch.randn(*size, generator=generator).to(dtype) for size in [(256, 40), (256, 1), (10, 40)])

    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        linear = [torch.nn.Linear(a, b) for a, b in pairwise(layers)]
        return torch.nn.Sequential(*(part for each in linear for part in (each, torch.nn.Tanh())))[:-1].to(
            dtype
        )

    def fun(module: torch.nn.Module) -> Tensor:
        return ((module(x) - y) ** 2).mean()

    def rows(module: torch.nn.Module) -> Tensor:
        return module(at).squeeze(-1)

    def stopped(iterations: int) -> fs.Result:
        return fs.minimize(fun, model(), [(rows, fs.Box(-0.2, 0.2))], tol=1e-4, max_iterations=iterations)

    module = model()
    weights, unit = list(module.parameters()), torch.eye(10, dtype=dtype)
    runs = {
        "gradient": lambda: torch.autograd.grad(fun(module), weights),
        "rows": lambda: torch.autograd.grad(rows(module), weights, unit, is_grads_batched=True),
        "few": lambda: stopped(few),
        "many": lambda: stopped(many),
    }
    times = medians(runs, ROUNDS)
    steps = stopped(many).nit - stopped(few).nit
    parts = zip(times["many"], times["few"], times["rows"], times["gradient"], strict=True)
    found = tuple(sorted(((long - short) / steps - rows) / gradient for long, short, rows, gradient in parts))
    count = sum(weight.numel() for weight in weights)
    name = f"network, {count:,} weights, 10 constraints, {str(dtype).removeprefix('torch.')}: a step"
    return Line(name, "one gradient", found, 3.0, "beside the Jacobian's own products")


def rows(function: Callable[[Tensor], Tensor]) -> tuple[Callable, Callable]:
    """Values and Jacobian for scipy."""

    def value(z: np.ndarray) -> np.ndarray:
        return np.atleast_1d(function(torch.from_numpy(z)).numpy())

    def jacobian(z: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(z).requires_grad_()
        output = function(x).reshape(-1)
        return np.stack([torch.autograd.grad(entry, x, retain_graph=True)[0].numpy() for entry in output])

    return value, jacobian


def with_gradient(fun: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    def evaluate(z: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.from_numpy(z.copy()).requires_grad_()
        value = fun(x)
        return value.item(), torch.autograd.grad(value, x)[0].numpy()

    return evaluate


def slsqp(scipy, fun: Callable[[Tensor], Tensor], x0: Tensor, constraints: list) -> Run:
    kinds = {fs.Equal: "eq", fs.NonNegative: "ineq"}
    described, bounds = [], None
    for constraint in constraints:
        if isinstance(constraint, fs.Box):
            upper = np.inf if constraint.upper is None else constraint.upper
            bounds = scipy.Bounds(np.full(len(x0), constraint.lower), np.full(len(x0), upper))
        else:
            value, jacobian = rows(constraint[0])
            described.append({"type": kinds[type(constraint[1])], "fun": value, "jac": jacobian})
    options = {"maxiter": 1000, "ftol": 1e-12}
    return lambda: scipy.minimize(
        with_gradient(fun),
        x0.numpy(),
        jac=True,
        method="SLSQP",
        bounds=bounds,
        constraints=described,
        options=options,
    )


def lbfgsb(scipy, fun: Callable[[Tensor], Tensor], x0: Tensor, steps: int = 1000) -> Run:
    bounds = scipy.Bounds(np.zeros(len(x0)), np.full(len(x0), np.inf))
    options = {"ftol": 0.0, "gtol": 1e-7, "maxiter": steps, "maxfun": 10 * steps}
    return lambda: scipy.minimize(
        with_gradient(fun), x0.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
