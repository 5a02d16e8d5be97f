"""Limited memory of curvature: the last displacements and the changes of the gradient along them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.float64]

SAVED = ("pairs", "gram", "order", "newest", "free")
"""What a checkpoint holds of the pairs."""

ALIGNED = 1e-8
"""The least cosine between displacement and change of the gradient: below it rounding may have made its sign."""


class CurvaturePairs:
    """Pairs (s, y) of displacements and changes of the gradient, and products with what BFGS makes of them.

    All scalar products among the vectors are kept (over the free entries alone, where a mask is given), and the
    recursion runs on their coefficients: two passes over the memory a direction, however many pairs there are.

    Args:
        capacity: how many pairs are kept.
        like: a vector of the length, dtype and device of the pairs.
        balanced: take ``‖s‖ / ‖y‖`` as the size of the inverse Hessian rather than ``sᵀy / yᵀy``, which noise
            in y makes too small.

    Source: Nocedal, *Updating quasi-Newton matrices with limited storage* (1980); on coefficients: Byrd, Nocedal &
    Schnabel, *Representations of quasi-Newton matrices* (1994), theorem 2.2.
    """

    def __init__(self, capacity: int, like: Tensor, balanced: bool = False) -> None:
        self.capacity, self.balanced = capacity, balanced
        self.rows = like.new_zeros(2 * capacity, like.numel())
        """Row i is a displacement, row capacity + i the change of the gradient along it."""
        self.gram: Matrix = np.zeros((2 * capacity, 2 * capacity))
        self.order: list[int] = []
        """Places of the pairs, from the oldest to the newest."""
        self.free: Tensor | None = None
        """The entries over which ``gram`` sums; ``None``: all."""
        self._usable: list[int] | None = None
        self._newest = 1.0

    def __len__(self) -> int:
        return len(self.order)

    def learn(self, s: Tensor, y: Tensor) -> None:
        """Remember a pair if it curves upwards beyond rounding; the oldest one makes room."""
        new = torch.stack([s, y])
        (ss, sy), (_, yy) = as_array(new @ new.T).tolist()
        if not sy > ALIGNED * math.sqrt(ss * yy):
            return
        self._newest = math.sqrt(ss / yy) if self.balanced else sy / yy
        m, order = self.capacity, self.order
        place = order.pop(0) if len(order) == m else len(order)
        order.append(place)
        self.rows[place::m] = new
        if self.free is not None:
            new.mul_(self.free)
        products = as_array(self.rows @ new.T)
        self.gram[:, place::m] = products
        self.gram[place::m, :] = products.T
        self._usable = None

    def clear(self) -> None:
        """Forget everything."""
        self.order.clear()
        self.rows.zero_()
        self.gram[:] = 0
        self.free = self._usable = None

    def restrict(self, free: Tensor | None) -> None:
        """Let the scalar products sum over these entries only."""
        if not self.order:
            self.free = free
            return
        before = self.free
        if free is None and before is None:
            return
        self._usable = None
        if free is not None and before is not None:
            changed = (free != before).nonzero().view(-1)
            if 4 * changed.numel() < free.numel():
                if changed.numel():
                    columns = self.rows[:, changed]
                    sign = torch.where(free[changed], 1.0, -1.0).to(columns)
                    self.gram += as_array((columns * sign) @ columns.T)
                self.free = free
                return
        chosen = self.rows if free is None else self.rows * free
        self.gram = as_array(chosen @ self.rows.T)
        self.free = free

    def usable(self) -> list[int]:
        """Places of the pairs that curve upwards beyond rounding over the free entries, the oldest first."""
        if self._usable is None:
            m, squares = self.capacity, self.gram.diagonal()
            aligned = self.gram.diagonal(m) > ALIGNED * np.sqrt(np.abs(squares[:m] * squares[m:]))
            chosen = aligned.tolist()
            self._usable = [place for place in self.order if chosen[place]]
        return self._usable

    def scale(self) -> float | None:
        """The size of the inverse Hessian, from the newest usable pair; ``None`` without one."""
        usable = self.usable()
        return self._size(usable[-1]) if usable else None

    def newest_scale(self) -> float | None:
        """As ``scale``, from the newest pair as it was learned, over all entries."""
        return self._newest if self.order else None

    def _size(self, place: int) -> float:
        s, y = place, self.capacity + place
        if self.balanced:
            return math.sqrt(self.gram[s, s] / self.gram[y, y])
        return float(self.gram[s, y] / self.gram[y, y])

    def newton(self, g: Tensor) -> Tensor | None:
        """``H g`` over the free entries, H the BFGS approximation of the inverse Hessian; ``None`` without pairs."""
        gamma = self.scale()
        if gamma is None:
            return None
        if self.free is not None:
            g = g * self.free
        coefficients = self._coefficients(as_array(self.rows @ g), gamma)
        direction = g * gamma
        direction.addmv_(self.rows.T, torch.from_numpy(coefficients).to(self.rows))
        return direction if self.free is None else direction.mul_(self.free)

    def _coefficients(self, products: Matrix, gamma: float) -> Matrix:
        """What multiplies the rows in ``H g``: the two loops as two triangular systems."""
        s = self.usable()
        y = [place + self.capacity for place in s]
        columns = self.gram[:, y]
        sy, yy = columns[s], columns[y]
        later = np.linalg.inv(np.triu(sy))
        p = later @ products[s]
        bent = sy.diagonal() * p + gamma * (yy @ p - products[y])
        coefficients = np.zeros(2 * self.capacity)
        coefficients[s] = bent @ later
        coefficients[y] = -gamma * p
        return coefficients

    def hessian(self) -> CompactHessian:
        """The BFGS approximation of the Hessian that the pairs describe; needs all entries free."""
        return CompactHessian(self)

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        state = {
            "pairs": self.rows.clone(),
            "gram": torch.from_numpy(self.gram.copy()),
            "order": list(self.order),
            "newest": self._newest,
        }
        return state if self.free is None else {**state, "free": self.free.clone()}

    def load(self, state: dict[str, Any]) -> None:
        """What ``state`` has saved.

        Raises:
            ValueError: it was saved from other weights, or with another number of pairs.
        """
        if state["pairs"].shape != self.rows.shape:
            raise ValueError(
                f"the checkpoint holds curvature of shape {tuple(state['pairs'].shape)}, but the weights need "
                f"{tuple(self.rows.shape)}.\n  Load it into an optimizer of the same weights."
            )
        self.rows.copy_(state["pairs"])
        self.gram = state["gram"].cpu().numpy().copy()
        self.order, self._newest = list(state["order"]), state["newest"]
        self.free, self._usable = state.get("free"), None


class CompactHessian:
    """``B = σ 1 − U M⁻¹ Uᵀ`` with ``U = [σ S, Y]``: products with the BFGS matrix of the pairs.

    Source: Byrd, Nocedal & Schnabel, *Representations of quasi-Newton matrices* (1994), theorem 2.3.
    """

    def __init__(self, pairs: CurvaturePairs) -> None:
        m = pairs.capacity
        index = np.array(pairs.usable())
        places = np.concatenate([index, m + index])
        gram = pairs.gram[np.ix_(places, places)]
        count = len(index)
        ss, sy = gram[:count, :count], gram[:count, count:]
        self.sigma = float(gram[-1, -1] / sy[-1, -1])
        strict = np.tril(sy, -1)
        middle = np.block([[self.sigma * ss, strict], [strict.T, -np.diag(np.diag(sy))]])
        weight = np.concatenate([np.full(count, self.sigma), np.ones(count)])
        inverse = np.linalg.inv(middle)
        core = weight[:, None] * inverse * weight
        self.core = torch.from_numpy((core + core.T) / 2).to(pairs.rows)
        self.rows = pairs.rows if count == m else pairs.rows[places.tolist()]
        if count == m:
            self.core = self._reordered(places)

    def _reordered(self, places: NDArray[np.intp]) -> Tensor:
        """The core for the rows as they lie in memory."""
        back = torch.from_numpy(np.argsort(places)).to(self.core.device)
        return self.core[back][:, back]

    def times(self, v: Tensor) -> Tensor:
        """``B v``."""
        return torch.addmv(self.sigma * v, self.rows.T, self.core @ (self.rows @ v), alpha=-1)


def as_array(x: Tensor) -> Matrix:
    """As float64 on the host."""
    return x.double().cpu().numpy()
