"""Least squares under bounds: ``ProjectedLBFGS`` against scipy's L-BFGS-B, to the same objective."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.optimize
import scipy.sparse
import torch
from torch import Tensor

import feasible as fs

from .timing import Line, against

PRECISION = 1e-8
"""How far above the minimum both sides may stop, relative to it."""
GOALS = {"small": 3.0, "large": 1.5}


class Arrived(Exception):  # noqa: N818
    """The objective has been reached."""


@dataclass(frozen=True)
class LeastSquares:
    """``½ ‖A x − b‖²`` for x between bounds."""

    dense: np.ndarray | None
    sparse: scipy.sparse.csr_matrix | None
    target: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """A, its transpose and b."""
        b = torch.from_numpy(self.target)
        if self.dense is not None:
            a = torch.from_numpy(self.dense)
            return a, a.T, b
        return *(as_tensor(m) for m in (self.sparse, self.sparse.T.tocsr())), b

    def numpy(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient by hand."""
        a = self.dense if self.dense is not None else self.sparse
        residual = a @ x - self.target
        return 0.5 * float(residual @ residual), a.T @ residual

    def torch(self, x: Tensor) -> Tensor:
        """The value, for autograd."""
        residual = Product.apply(x, *self.tensors[:2]) - self.tensors[2]
        return 0.5 * torch.dot(residual, residual)

    @cached_property
    def least(self) -> float:
        """The minimum."""
        return self.scipy(self.numpy).fun

    def scipy(self, function: Callable[[np.ndarray], object]) -> scipy.optimize.OptimizeResult:
        """L-BFGS-B, until it or ``function`` ends it."""
        return scipy.optimize.minimize(
            function,
            np.clip(0.0, self.lower, self.upper),
            jac=True,
            method="L-BFGS-B",
            bounds=scipy.optimize.Bounds(self.lower, self.upper),
            options={"ftol": 0, "gtol": 1e-9, "maxiter": 100_000, "maxfun": 100_000, "maxcor": 10},
        )


class Product(torch.autograd.Function):
    """``A x`` with the transpose at hand: torch's own derivative of a sparse product would be dense."""

    @staticmethod
    def forward(ctx, x, a, transposed):
        ctx.transposed = transposed
        return a @ x

    @staticmethod
    def backward(ctx, gradient):
        return ctx.transposed @ gradient, None, None


def as_tensor(matrix: scipy.sparse.csr_matrix) -> Tensor:
    """The same matrix for torch."""
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
    parts = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    return torch.sparse_csr_tensor(*parts, matrix.shape, check_invariants=False)


def small(n: int = 500) -> LeastSquares:
    """Non-negative least squares with a dense design of 2n rows."""
    generator = np.random.default_rng(0)
    design = generator.standard_normal((2 * n, n))
    target = design @ generator.standard_normal(n).clip(0) + generator.standard_normal(2 * n)
    return LeastSquares(design, None, target, np.zeros(n), np.full(n, np.inf))


def large(n: int = 200_000) -> LeastSquares:
    """A sparse design of ten entries a column, every entry with two bounds of its own."""
    generator = np.random.default_rng(0)
    design = scipy.sparse.random(n, n, density=10 / n, format="csr", random_state=generator)
    design.data = generator.standard_normal(design.nnz)
    design = (design + scipy.sparse.identity(n)).tocsr()
    target = design @ generator.standard_normal(n) + generator.standard_normal(n)
    return LeastSquares(None, design, target, -generator.random(n), generator.random(n))


def main() -> Iterator[Line]:
    """Lines of ratios."""
    for name, problem, rounds in (("small", small(), 15), ("large", large(), 5)):
        yield from compare(name, problem, rounds)


def compare(name: str, problem: LeastSquares, rounds: int) -> Iterator[Line]:
    """One problem: the peer with the gradient by hand, and with torch's."""
    enough = problem.least * (1 + PRECISION)
    calls: dict[str, int] = {}

    def watched(who: str, function: Callable[[object], tuple[float, object]]) -> Callable[[object], object]:
        def run(x: object) -> object:
            calls[who] += 1
            value, gradient = function(x)
            if value <= enough:
                raise Arrived
            return value, gradient

        return run

    def by_torch(x: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.from_numpy(x).requires_grad_()
        value = problem.torch(leaf)
        value.backward()
        return value.item(), leaf.grad.numpy()

    def peer(who: str, function: Callable[[object], object]) -> Callable[[], None]:
        def run() -> None:
            calls[who] = 0
            try:
                problem.scipy(watched(who, function))
            except Arrived:
                return
            raise AssertionError(f"{who} did not arrive")

        return run

    def ours() -> None:
        calls["feasible"] = 0
        start = torch.clamp(torch.zeros(len(problem.lower), dtype=torch.float64), *bounds)
        x = start.requires_grad_()
        optimizer = fs.optim.ProjectedLBFGS(
            [x],
            sets=fs.Box(*bounds),
            max_iter=100_000,
            max_eval=100_000,
            tolerance_grad=1e-9,
            tolerance_change=0.0,
        )

        def closure() -> Tensor:
            x.grad = None
            value = problem.torch(x)
            value.backward()
            calls["feasible"] += 1
            if value.item() <= enough:
                raise Arrived
            return value

        try:
            optimizer.step(closure)
        except Arrived:
            return
        raise AssertionError("feasible did not arrive")

    bounds = (torch.from_numpy(problem.lower), torch.from_numpy(problem.upper))
    n, goal = len(problem.lower), GOALS[name]
    by_hand, by_autograd = "scipy L-BFGS-B, gradient by hand", "scipy L-BFGS-B, gradient by torch"
    peers = {by_hand: peer(by_hand, problem.numpy), by_autograd: peer(by_autograd, by_torch)}
    work = f"bounded least squares, n = {n:,}, to {PRECISION:g}"
    for line in against(work, ours, peers, dict.fromkeys(peers, goal), rounds=rounds):
        note = f"{calls['feasible']} evaluations against {calls[line.peer]}"
        yield Line(line.work, line.peer, line.ratios, line.goal, note)
