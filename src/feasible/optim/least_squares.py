"""Linearised residuals, and the damped least-squares steps that they lead to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from feasible.optim.lsmr import lsmr

LARGEST_SPECTRUM = 1500
"""The smaller side up to which singular values are computed, where normal equations would lose the step."""


class System(Protocol):
    """A Jacobian: as a matrix, or by its products."""

    columns: int
    units: Tensor | None
    """What a step is measured in, entry by entry: μ weighs ``‖s / units‖²``; ``None``: 1."""

    def times(self, v: Tensor) -> Tensor:
        """``J v``."""

    def transposed(self, w: Tensor) -> Tensor:
        """``Jᵀ w``."""

    def solve(self, r: Tensor, damping: float, free: Tensor | None = None) -> Tensor:
        """``argmin_s ½‖J s + r‖² + damping/2 · ‖s/units‖²``, with zeros where an entry is not free."""

    def rank(self, damping: float) -> float | None:
        """``Σ σ²/(σ² + damping)``: how many directions the residual decides on, rather than the damping."""

    @property
    def size(self) -> float:
        """An upper bound, or an estimate, of the largest eigenvalue of ``JᵀJ``, in these units."""

    @property
    def least_damping(self) -> float:
        """Below it a step would be rounding."""


class Dense:
    """A Jacobian as a matrix; steps in the smaller of parameter and residual space.

    Normal equations by Cholesky where the damping is well above their rounding, else singular values from the
    triangle of a QR decomposition, which keep twice the digits.

    Args:
        jacobian: (rows, columns).
        units: what a step is measured in, entry by entry.
    """

    def __init__(self, jacobian: Tensor, units: Tensor | None = None) -> None:
        self.jacobian, self.units = jacobian, units
        self.columns = jacobian.shape[1]
        self.is_wide = len(jacobian) < self.columns
        self.scaled = jacobian if units is None else jacobian * units
        self.gram = self.scaled @ self.scaled.mT if self.is_wide else self.scaled.mT @ self.scaled
        self.size = float(torch.linalg.vector_norm(self.gram))
        self._part: tuple[Tensor, Dense] | None = None
        self._factor: tuple[float, Tensor] | None = None
        self._spectrum: tuple[Tensor, Tensor, Tensor] | None = None

    def times(self, v: Tensor) -> Tensor:
        """``J v``."""
        return self.jacobian @ v

    def transposed(self, w: Tensor) -> Tensor:
        """``Jᵀ w``."""
        return self.jacobian.mT @ w

    @property
    def least_damping(self) -> float:
        """Below it a step would be rounding."""
        eps = torch.finfo(self.jacobian.dtype).eps
        return self.size * (eps**2 if len(self.gram) <= LARGEST_SPECTRUM else self._unit)

    @property
    def _unit(self) -> float:
        """Where the normal equations lose their meaning, as a share of their size."""
        return 1e3 * torch.finfo(self.jacobian.dtype).eps

    def solve(self, r: Tensor, damping: float, free: Tensor | None = None) -> Tensor:
        """``argmin_s ½‖J s + r‖² + damping/2 · ‖s/units‖²``, with zeros where an entry is not free."""
        if free is not None and not bool(free.all()):
            if self._part is None or not torch.equal(self._part[0], free):
                units = None if self.units is None else self.units[free]
                self._part = (free, Dense(self.jacobian[:, free], units))
            step = self.jacobian.new_zeros(self.columns)
            step[free] = self._part[1].solve(r, damping)
            return step
        step = self._solve(r, damping)
        return step if self.units is None else step * self.units

    def _solve(self, r: Tensor, damping: float) -> Tensor:
        factor = self._cholesky(damping)
        if factor is None:
            left, values, right = self._decomposed()
            shrunk = torch.where(values > 0, values / (values.square() + damping), 0.0)
            return -(right @ (shrunk * (left.mT @ r)))
        if self.is_wide:
            return -(self.scaled.mT @ torch.cholesky_solve(r[:, None], factor)[:, 0])
        return -torch.cholesky_solve((self.scaled.mT @ r)[:, None], factor)[:, 0]

    def rank(self, damping: float) -> float:
        """``Σ σ²/(σ² + damping)``."""
        factor = self._cholesky(damping)
        if factor is None:
            squares = self._decomposed()[1].square()
            return float((squares / (squares + damping)).sum())
        inverse = torch.linalg.solve_triangular(factor, torch.eye(len(factor)).to(factor), upper=False)
        return max(0.0, len(factor) - damping * float(inverse.square().sum()))

    def _cholesky(self, damping: float) -> Tensor | None:
        """The triangle of the damped normal equations; ``None`` where they are not to be trusted."""
        if self._factor is not None and self._factor[0] == damping:
            return self._factor[1]
        if len(self.gram) <= LARGEST_SPECTRUM and damping <= self._unit * self.size:
            return None
        damped = self.gram.clone()
        damped.diagonal().add_(damping)
        factor: Tensor
        factor, failed = torch.linalg.cholesky_ex(damped)
        if bool(failed):
            return None
        self._factor = (damping, factor)
        return factor

    def _decomposed(self) -> tuple[Tensor, Tensor, Tensor]:
        """``J · units = left · diag(values) · rightᵀ``."""
        if self._spectrum is None:
            q, triangle = torch.linalg.qr(self.scaled.mT if self.is_wide else self.scaled)
            u, values, v = torch.linalg.svd(triangle.mT if self.is_wide else triangle, full_matrices=False)
            self._spectrum = (u, values, q @ v.mT) if self.is_wide else (q @ u, values, v.mT)
        return self._spectrum


class Products:
    """A Jacobian by its products: one backward pass for ``Jᵀ w``, two for ``J v``, memory as for one backward pass.

    Args:
        residual: computes the flat residual with its graph, and a factor for each row (``None``: 1); called again
            where the weights were written to since, and then hold the same values again.
        parameters: the weights.
        tolerance: of a solution, relative to the gradient.
        rounds: the most rounds a solution takes.
    """

    units: Tensor | None = None
    power_rounds = 8
    """Of the power method, for the size."""

    def __init__(
        self,
        residual: Callable[[], tuple[Tensor, Tensor | None]],
        parameters: Sequence[Tensor],
        tolerance: float,
        rounds: int,
    ) -> None:
        self._residual, self.parameters = residual, list(parameters)
        self.tolerance, self.most = tolerance, rounds
        self.columns = sum(parameter.numel() for parameter in parameters)
        self._size: float | None = None
        self._versions: list[int] | None = None
        self._differentiate()

    def _differentiate(self) -> None:
        """Make the graphs, unless those of these weights are there."""
        versions = [parameter._version for parameter in self.parameters]
        if versions == self._versions:
            return
        self._versions = versions
        with torch.enable_grad():
            self.rows, self.scale = self._residual()
            self._linear = []
            if not self.rows.requires_grad:
                return
            self._probe = torch.zeros_like(self.rows, requires_grad=True)
            parts = torch.autograd.grad(
                self.rows, self.parameters, self._probe, create_graph=True, allow_unused=True
            )
        self._linear = [
            (number, part) for number, part in enumerate(parts) if part is not None and part.requires_grad
        ]

    def times(self, v: Tensor) -> Tensor:
        """``J v``, as the derivative of ``Jᵀ w`` by w."""
        self._differentiate()
        pieces = torch.split(v, [parameter.numel() for parameter in self.parameters])
        if not self._linear:
            return v.new_zeros(len(self.rows))
        outputs = [part for _, part in self._linear]
        slopes = [pieces[number].view_as(part).to(part.dtype) for number, part in self._linear]
        (product,) = torch.autograd.grad(outputs, self._probe, slopes, retain_graph=True)
        return (product if self.scale is None else product * self.scale).to(v.dtype)

    def transposed(self, w: Tensor) -> Tensor:
        """``Jᵀ w``."""
        self._differentiate()
        scaled = (w if self.scale is None else w * self.scale).to(self.rows.dtype)
        return flat_vjp(self.rows, self.parameters, scaled).to(w.dtype)

    @property
    def size(self) -> float:
        """An estimate of the largest eigenvalue of ``JᵀJ``, by the power method."""
        if self._size is None:
            w, length = torch.ones_like(self.rows.detach()), 0.0
            for _ in range(self.power_rounds):
                length = float(torch.linalg.vector_norm(w))
                w = self.times(self.transposed(w / length)) if length else w
            self._size = float(torch.linalg.vector_norm(w))
        return self._size

    @property
    def least_damping(self) -> float:
        """No spectrum is known to set it by."""
        return torch.finfo(self.rows.dtype).tiny

    def solve(self, r: Tensor, damping: float, free: Tensor | None = None) -> Tensor:
        """``argmin_s ½‖J s + r‖² + damping/2 · ‖s/units‖²`` to the tolerance, with zeros where an entry is not free."""
        if free is None:
            return lsmr(self.times, self.transposed, -r, damping, self.tolerance, self.most)
        mask = free
        return lsmr(
            lambda v: self.times(v * mask),
            lambda w: self.transposed(w) * mask,
            *(-r, damping, self.tolerance, self.most),
        )

    def rank(self, damping: float) -> None:
        """Not known."""


def flat_vjp(residual: Tensor, parameters: Sequence[Tensor], w: Tensor) -> Tensor:
    """``Jᵀ w`` as one vector; the graph is kept."""
    parts = torch.autograd.grad(residual, parameters, w, retain_graph=True, allow_unused=True)
    pairs = zip(parts, parameters, strict=True)
    return torch.cat(
        [(torch.zeros_like(p) if part is None else part).reshape(-1) for part, p in pairs]
    ).detach()
