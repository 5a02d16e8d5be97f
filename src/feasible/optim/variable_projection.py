"""Variable projection: parameters that a residual is affine in are eliminated by least squares."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from feasible.optim.least_squares import Dense
from feasible.optim.residuals import Linearisation, Residual
from feasible.optim.vector import Vector


class Pseudoinverse:
    """``A⁺`` without the singular values below √ε of the largest.

    Directions that small would need parameters so large that no step of the others fits their linear model.

    Args:
        matrix: A, (rows, columns).
    """

    def __init__(self, matrix: Tensor) -> None:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        largest = float(values[0]) if len(values) else 0.0
        self.rank = int((values > math.sqrt(torch.finfo(matrix.dtype).eps) * largest).sum())
        self.size = largest**2
        self.basis = left[:, : self.rank]
        """Orthonormal columns that span the range of A."""
        self._inverse = right[: self.rank].mT / values[: self.rank]

    def times(self, r: Tensor) -> Tensor:
        """``A⁺ r``: the shortest of the least-squares solutions."""
        shortest: Tensor = self._inverse @ (self.basis.mT @ r)
        return shortest

    def without(self, r: Tensor) -> Tensor:
        """``(I − A A⁺) r``: what A cannot express."""
        rest: Tensor = r - self.basis @ (self.basis.mT @ r)
        return rest


class Eliminated:
    """A Jacobian ``[J, A]`` for steps (s, d) in which d is eliminated, and only s is damped.

    ``min_d ½‖J s + A d + r‖²`` leaves ``½‖P J s + P r‖²`` with ``P = I − A A⁺``: Kaufman's Jacobian ``P J`` of the
    reduced residual. Its gradient ``(P J)ᵀ r`` is exact where d is optimal.

    Args:
        jacobian: (rows, columns), of all parameters.
        linear: which columns are eliminated, (columns,) of bool.
        units: of the steps, entry by entry; ``None``: 1.
    """

    def __init__(self, jacobian: Tensor, linear: Tensor, units: Tensor | None = None) -> None:
        self.jacobian, self.linear, self.units = jacobian, linear, units
        self.columns = jacobian.shape[1]
        self.curved = jacobian[:, ~linear]
        self.inverse = Pseudoinverse(jacobian[:, linear])
        self.rest = Dense(self.inverse.without(self.curved), None if units is None else units[~linear])
        self.size = self.rest.size or self.inverse.size
        self.least_damping = self.rest.least_damping

    def times(self, v: Tensor) -> Tensor:
        """``J s + A d``."""
        return self.jacobian @ v

    def transposed(self, w: Tensor) -> Tensor:
        """``(Jᵀ w, Aᵀ w)``."""
        return self.jacobian.mT @ w

    def solve(self, r: Tensor, damping: float, free: Tensor | None = None) -> Tensor:
        """``argmin ½‖J s + A d + r‖² + damping/2 · ‖s/units‖²``, with zeros in s where an entry is not free."""
        s = self.rest.solve(r, damping, None if free is None else free[~self.linear])
        return self.completed(self.spread(s), r)

    def completed(self, step: Tensor, r: Tensor) -> Tensor:
        """A step s with the d that belongs to it."""
        step[self.linear] = -self.inverse.times(r + self.curved @ step[~self.linear])
        return step

    def spread(self, s: Tensor) -> Tensor:
        """(s, 0)."""
        step = s.new_zeros(self.columns)
        step[~self.linear] = s
        return step

    def rank(self, damping: float) -> float:
        """That of A, and ``Σ σ²/(σ² + damping)`` of what is left."""
        return self.inverse.rank + self.rest.rank(damping)


class Reduced:
    """The Jacobian ``P J`` of what is left, for steps (s, 0): what is minimised over s in sets.

    Args:
        whole: the system in which d is eliminated.
    """

    def __init__(self, whole: Eliminated) -> None:
        self.whole, self.units, self.size = whole, whole.units, whole.rest.size

    def times(self, v: Tensor) -> Tensor:
        """``P J s``."""
        return self.whole.rest.times(v[~self.whole.linear])

    def transposed(self, w: Tensor) -> Tensor:
        """``((P J)ᵀ w, 0)``."""
        return self.whole.spread(self.whole.rest.transposed(w))


class Elimination:
    """Keeps some of an optimizer's parameters at their least-squares optimum.

    Args:
        linear: those that are eliminated.
        vector: all of the optimizer.
        work: computes Jacobians by the linear ones.
    """

    def __init__(self, linear: Vector, vector: Vector, work: Linearisation) -> None:
        own = {id(parameter) for parameter in linear.parameters}
        self.vector, self.key = linear, (vector.key, linear.key)
        self.mask = torch.cat(
            [torch.full((p.numel(),), id(p) in own, device=p.device) for p in vector.parameters]
        )
        self._work = work

    def eliminated(self, system: object) -> Eliminated:
        """The system in which they are.

        Raises:
            ValueError: it has no matrix.
        """
        dense = self._dense(system)
        return Eliminated(dense.jacobian, self.mask, dense.units)

    def settle(self, residual: Residual) -> Tensor:
        """Move the parameters to their least-squares optimum; they keep their bits where that does not descend.

        One Gauss–Newton step: the optimum itself where the residual is affine in them.

        Returns:
            The residual where they are then.
        """
        x = self.vector.read()
        r, system = self._work.at(residual)
        matrix = self._dense(system).jacobian
        if not bool(r.isfinite().all() and matrix.isfinite().all()):
            return r
        self.vector.write(x - Pseudoinverse(matrix).times(r))
        there = residual.at(r.dtype)
        if bool(there @ there < r @ r):
            return there
        self.vector.write(x)
        return r

    def _dense(self, system: object) -> Dense:
        if isinstance(system, Dense):
            return system
        raise ValueError(
            "LevenbergMarquardt: linear parameters are eliminated with the Jacobian as a matrix, which is too large "
            'here, or jacobian="products" was asked for.\n  Use fewer rows at a time, or no linear group.'
        )
