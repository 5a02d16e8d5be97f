"""The residual of a closure, and its Jacobian in the form that is cheapest for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from feasible.optim.least_squares import Dense, Products, System, flat_vjp
from feasible.optim.parts import ProductsOfParts
from feasible.optim.per_sample import NotPerSampleError, PerSample
from feasible.optim.randomness import Replay
from feasible.optim.vector import Vector

Form = Literal["auto", "per-sample", "batched", "products"]
Closure = Callable[[], Any] | Sequence[Callable[[], Any]]
Weights = Tensor | Sequence[Tensor | float]

DENSE_SIDE = 3000
"""The smaller side up to which systems are factorised."""
DENSE_BYTES = 2**30
"""What a Jacobian may take."""
CHUNK_NUMBERS = 2**25
"""About how many numbers a batch of vector–Jacobian products holds at a time."""
CHUNK_ROWS = 128


class Residual:
    """A closure whose result is made one flat vector, with the same random numbers in every call.

    Args:
        closure: returns a tensor, or several of them; or a list of closures, whose results are joined.
        weights: of the squares; a tensor that broadcasts to the result, or one for each of several.
        device: of the weights.
    """

    def __init__(self, closure: Closure, weights: Weights | None, device: torch.device) -> None:
        closures = [closure] if callable(closure) else list(closure)
        if not closures:
            raise ValueError("LevenbergMarquardt: the list of closures is empty.")
        self._closures = [torch.enable_grad()(each) for each in closures]
        self._weights = weights
        self.is_parted = len(self._closures) > 1
        """Whether it came in parts, so that there need be only one graph at a time."""
        self._replay = Replay(device)
        self.factor: Tensor | None = None
        """The square roots of the weights, one for each row of the last result."""
        self.is_number = False
        """Whether the last result was one number without a dimension, as a mean is."""

    def __call__(self) -> Tensor:
        """The rows, without their weights, and with their graph."""
        return self._joined([part for closure in self._closures for part in self._evaluated(closure)])

    def parts(self) -> list[Callable[[], Tensor]]:
        """The rows of each closure, flat, without their weights, and with their graph."""
        return [partial(self._flat, closure) for closure in self._closures]

    def seen(self) -> Tensor:
        """The rows, without their weights and without a graph: there is only one at a time."""
        results = (part.detach() for closure in self._closures for part in self._evaluated(closure))
        return self._joined(list(results))

    def at(self, dtype: torch.dtype) -> Tensor:
        """The rows with their weights, without their graph."""
        rows = self.seen().to(dtype)
        return rows if self.factor is None else rows * self.factor

    def _evaluated(self, closure: Callable[[], Any]) -> list[Tensor]:
        """What a closure returns, as a list of tensors."""
        with self._replay:
            result = closure()
        parts = list(result) if isinstance(result, (tuple, list)) else [result]
        if not parts or not all(isinstance(part, Tensor) and part.is_floating_point() for part in parts):
            kinds = ", ".join(
                str(part.dtype) if isinstance(part, Tensor) else type(part).__name__ for part in parts
            )
            raise ValueError(
                "LevenbergMarquardt: the closure must return the residual, a real floating-point tensor of any shape "
                f"(or a tuple of them), got {kinds or 'nothing'}.\n  Return y − f(x) itself, not its squares, and "
                "call no backward."
            )
        return parts

    def _flat(self, closure: Callable[[], Any]) -> Tensor:
        return _join(self._evaluated(closure))

    def _joined(self, parts: list[Tensor]) -> Tensor:
        self.is_number = len(parts) == 1 and parts[0].dim() == 0
        if self._weights is not None:
            self.factor = self._root(parts)
        return _join(parts)

    def _root(self, parts: Sequence[Tensor]) -> Tensor:
        weights = self._weights
        each = [weights] if isinstance(weights, (Tensor, float, int)) else list(weights or ())
        if len(each) != len(parts):
            raise ValueError(
                f"LevenbergMarquardt: got {len(each)} weights for a residual of {len(parts)} tensors, not one each."
            )
        roots = []
        for weight, part in zip(each, parts, strict=True):
            given = torch.as_tensor(weight, dtype=part.dtype, device=part.device).detach()
            if not bool((given >= 0).all()):
                raise ValueError("LevenbergMarquardt: weights must be ≥ 0 and no NaN.")
            try:
                roots.append(given.sqrt().expand(part.shape).reshape(-1))
            except RuntimeError:
                raise ValueError(
                    f"LevenbergMarquardt: weights of shape {tuple(given.shape)} do not broadcast to the residual's "
                    f"shape {tuple(part.shape)}."
                ) from None
        return torch.cat(roots)


class Linearisation:
    """Jacobians of residuals; remembers the form that fits, and which samples belong to which rows.

    Args:
        vector: the weights.
        form: ``"auto"``: per sample where that can be shown to be right, else batched vector–Jacobian products,
            and products alone where a matrix would be too large.
        chunk_size: how many products are batched; ``None``: what memory suggests.
        tolerance: of iterative solutions.
        rounds: the most rounds of an iterative solution.
    """

    def __init__(
        self, vector: Vector, form: Form, chunk_size: int | None, tolerance: float, rounds: int
    ) -> None:
        self.vector, self.form, self.chunk_size = vector, form, chunk_size
        self.tolerance, self.rounds = tolerance, rounds
        self.per_sample = PerSample(vector.parameters)
        self.objection: str | None = None
        """Why Jacobians are not put together per sample, in half a sentence."""
        self.used: str | None = None
        """The form that was used last."""
        self._count: int | None = None

    @torch.no_grad()
    def at(self, residual: Residual, lengths: Tensor | None = None) -> tuple[Tensor, System]:
        """The residual and its Jacobian at the present weights, with the rows' weights.

        Args:
            residual: what is linearised.
            lengths: the largest norm that each column has had, brought up to date in place; a step is then measured
                in their reciprocals.

        Raises:
            ValueError: the residual does not depend on the weights, or is not of the form that was asked for.
        """
        if self._count is None:
            self._count = len(residual.seen())
        if self._wants_products():
            self.used = "products"
            system = self._products(residual)
            self._count = len(system.rows)
            rows = system.rows.detach().to(self.vector.dtype)
            return rows if residual.factor is None else rows * residual.factor, system
        rows, jacobian = (part.to(self.vector.dtype) for part in self._matrix(residual))
        self._count = len(rows)
        if residual.factor is not None:
            rows, jacobian = rows * residual.factor, jacobian * residual.factor[:, None]
        return rows, Dense(jacobian, None if lengths is None else units(jacobian, lengths))

    def _products(self, residual: Residual) -> Products:
        options = self.vector.parameters, self.tolerance, self.rounds
        if residual.is_parted:
            rows = residual.seen()
            return ProductsOfParts(residual.parts(), rows, residual.factor, *options)
        return Products(lambda: (differentiable(residual()), residual.factor), *options)

    def _wants_products(self) -> bool:
        if self.form != "auto":
            return self.form == "products"
        rows, columns = self._count or 0, sum(self.vector.sizes)
        size = rows * columns * self.vector.dtype.itemsize
        return min(rows, columns) > DENSE_SIDE or size > DENSE_BYTES

    def _matrix(self, residual: Residual) -> tuple[Tensor, Tensor]:
        parameters = self.vector.parameters

        def plain(c: Tensor) -> tuple[Tensor, Tensor]:
            rows = differentiable(residual())
            return rows.detach(), flat_vjp(rows, parameters, c)

        if self.form != "batched" and self.objection is None:
            self.used = "per-sample"
            try:
                return self.per_sample.jacobian(residual, plain)
            except NotPerSampleError as error:
                self.objection = str(error)
        if self.form == "per-sample":
            raise ValueError(
                f'LevenbergMarquardt: jacobian="per-sample" does not fit this residual: {self.objection}.\n'
                '  Use jacobian="auto", or return residuals that share samples as separate tensors of a tuple.'
            )
        self.used = "batched"
        rows = differentiable(residual())
        return rows.detach(), batched_jacobian(rows, parameters, self.chunk_size)


def _join(parts: Sequence[Tensor]) -> Tensor:
    """Tensors of any shape as one vector."""
    with torch.enable_grad():
        return parts[0].reshape(-1) if len(parts) == 1 else torch.cat([part.reshape(-1) for part in parts])


def units(jacobian: Tensor, lengths: Tensor) -> Tensor:
    """The reciprocals of the columns' largest norms so far; 1 where a column has always been zero."""
    torch.maximum(lengths, torch.linalg.vector_norm(jacobian, dim=0), out=lengths)
    return torch.where(lengths > 0, lengths.reciprocal(), 1.0)


def differentiable(rows: Tensor) -> Tensor:
    """The rows, if they have a graph."""
    if not rows.requires_grad:
        raise ValueError(
            "LevenbergMarquardt: the residual does not depend on the parameters.\n"
            "  Compute it from them in the closure, without detach() and no_grad()."
        )
    return rows


def batched_jacobian(rows: Tensor, parameters: Sequence[Tensor], chunk_size: int | None = None) -> Tensor:
    """(rows, weights) by batched vector–Jacobian products, a chunk of rows at a time."""
    count, columns = len(rows), sum(parameter.numel() for parameter in parameters)
    numbers = count * math.sqrt(columns)
    chunk = chunk_size or max(1, min(CHUNK_ROWS, int(CHUNK_NUMBERS / max(numbers, 1))))
    jacobian = rows.new_zeros(count, columns)
    for start in range(0, count, chunk):
        size = min(chunk, count - start)
        slopes = rows.new_zeros(size, count)
        slopes.diagonal(start).fill_(1)
        parts = torch.autograd.grad(
            rows, parameters, slopes, is_grads_batched=True, retain_graph=True, allow_unused=True
        )
        offset = 0
        for part, parameter in zip(parts, parameters, strict=True):
            if part is not None:
                jacobian[start : start + size, offset : offset + parameter.numel()] = part.reshape(size, -1)
            offset += parameter.numel()
    return jacobian.detach()
