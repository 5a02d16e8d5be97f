"""The nearest parameters under linearised constraints: rank-revealing least squares, and an active set."""

from __future__ import annotations

import math
from copy import copy
from typing import NamedTuple

import torch
from torch import Tensor

from feasible.sets.active_set import nearest_under_inequalities
from feasible.sets.precision import roundoff
from feasible.solve.projection.triangle import LEAST, Triangle

TIGHT = 1e-12
"""Directions with singular values above this share of the largest are left alone by moves along the constraints."""
UNMOVABLE = 1e-10
"""Share of a row's gradient outside the equations' below which they decide on it."""
BLIND = 1e-6
"""Changes that outputs see less than this share of the largest count as seen that much, next to inequalities."""
ROUNDS = 50


class Spectrum:
    """``A = U diag(σ) Vᵀ`` with a right side; tall matrices are first made square by QR, some rows at a time."""

    def __init__(self, matrix: Tensor, right: Tensor) -> None:
        columns = matrix.shape[1]
        self.is_compressed = len(matrix) > 2 * columns + LEAST // 8
        if self.is_compressed:
            matrix, right = compressed(matrix, right)
        if len(matrix) < columns:
            q, triangle = torch.linalg.qr(matrix.mT)
            self.left, self.values, v = torch.linalg.svd(triangle.mT, full_matrices=False)
            self.across = v @ q.mT
        else:
            self.left, self.values, self.across = torch.linalg.svd(matrix, full_matrices=False)
        self.heights = self.left.mT @ right
        """The right side in the coordinates of U."""

    def with_right(self, right: Tensor) -> Spectrum:
        """The same matrix with another right side; not for what was made square."""
        twin = copy(self)
        twin.heights = self.left.mT @ right
        return twin

    def rank(self, rcond: float) -> int:
        """How many singular values are above this share of the largest."""
        largest = float(self.values[0]) if len(self.values) else 0.0
        return int((self.values > rcond * largest).sum()) if largest > 0 else 0

    def shortest(self, rank: int) -> Tensor:
        """``argmin ‖s‖`` over the least-squares solutions of ``A s = right``, within the first directions."""
        shortest: Tensor = self.across[:rank].mT @ (self.heights[:rank] / self.values[:rank])
        return shortest

    def damped(self, damping: float) -> Tensor:
        """``argmin ½‖A s − right‖² + damping/2 ‖s‖²``."""
        shrunk = torch.where(self.values > 0, self.values / (self.values.square() + damping), 0.0)
        damped: Tensor = self.across.mT @ (self.heights * shrunk)
        return damped

    @property
    def size(self) -> float:
        """The largest eigenvalue of ``AᵀA``."""
        return float(self.values[0]) ** 2 if len(self.values) else 0.0

    def dual(self, gradient: Tensor, rank: int) -> Tensor:
        """``argmin ‖gradient + Aᵀλ‖``, the shortest, within the first directions."""
        heights = (self.across[:rank] @ gradient) / self.values[:rank]
        dual: Tensor = -(self.left[:, :rank] @ heights)
        return dual

    def basis(self, rank: int) -> Tensor:
        """The first directions, (rank, columns)."""
        basis: Tensor = self.across[:rank]
        return basis


def compressed(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """A square system with the same least-squares solutions, from QR decompositions of chunks of the rows."""
    columns = matrix.shape[1]
    triangle = Triangle(columns, matrix.device)
    size = max(LEAST, 2 * columns)
    for rows, part in zip(torch.split(matrix, size), torch.split(right, size), strict=True):
        triangle.add(rows, part)
    return triangle.square()


class Metric(NamedTuple):
    """Outputs, linearised: ``½‖O s + gap‖²`` is what a move s costs."""

    jacobian: Tensor
    gap: Tensor
    rcond: float
    """Share of the largest singular value below which outputs do not tell moves apart."""


class Step(NamedTuple):
    """Where the linearised constraints lead."""

    move: Tensor
    active: Tensor
    """+1 for rows at their upper bound, −1 for rows at their lower one, 2 for equations."""
    rank: int
    metric_rank: int | None
    left: float
    """Norm of the rows' violation that the linearisation leaves."""


class Linearised:
    """``low ≤ rows + J s ≤ high``.

    Args:
        rows: their present values.
        jacobian: (rows, parameters).
        low, high: bounds; equal ones are equations.
        known: the spectrum of the equations' slopes, where it has been worked out.
    """

    def __init__(
        self, rows: Tensor, jacobian: Tensor, low: Tensor, high: Tensor, known: Spectrum | None = None
    ) -> None:
        self.rows, self.jacobian, self.low, self.high = rows, jacobian, low, high
        self.is_equation = low == high
        equations = self.is_equation
        right = (low - rows)[equations]
        reusable = known is not None and not known.is_compressed
        self.spectrum = (
            known.with_right(right) if known and reusable else Spectrum(jacobian[equations], right)
        )
        self.others = (~equations).nonzero().squeeze(1)

    def at(self, rows: Tensor) -> Linearised:
        """The same slopes around other values."""
        return Linearised(rows, self.jacobian, self.low, self.high, self.spectrum)

    def step(self, toward: Tensor | None, metric: Metric | None, rcond: float, along: float) -> Step:
        """The move that satisfies the rows and comes nearest to a wanted one.

        Args:
            toward: the wanted move; ``None``: none at all.
            metric: what distances are measured by; ``None``: the parameters themselves.
            rcond: share of the largest singular value below which equations are not solved for.
            along: the same for the directions that count as free of equations.
        """
        rank = self.spectrum.rank(rcond)
        whole = self.spectrum.shortest(rank)
        basis = self.spectrum.basis(self.spectrum.rank(min(along, rcond)))
        free = _Free(basis)
        seen, metric_rank = None, None
        if metric is not None:
            seen = _Seen(metric, whole, free)
            metric_rank = seen.rank
            beside = seen.best()
        else:
            beside = torch.zeros_like(whole) if toward is None else free(toward - whole)
        active = self.is_equation.long() * 2
        move = whole + beside
        if len(self.others):
            found = self._with_inequalities(whole, beside, free, seen)
            move, active = (self._least_violation(rcond), active) if found is None else found
            rank = self._active_rank(active, rcond)
        return Step(move, active, rank, metric_rank, self.violation(move))

    def violation(self, move: Tensor) -> float:
        """Norm of ``excess``."""
        return float(torch.linalg.vector_norm(self.excess(move)))

    def excess(self, move: Tensor) -> Tensor:
        """What the rows have too much of (positive) or lack (negative) after a move."""
        heights = self.rows + self.jacobian @ move
        return (heights - self.high).clamp_min(0) - (self.low - heights).clamp_min(0)

    def _with_inequalities(
        self, whole: Tensor, beside: Tensor, free: _Free, seen: _Seen | None
    ) -> tuple[Tensor, Tensor] | None:
        """The nearest point to ``beside`` among free moves that satisfy the inequalities; ``None``: there is none."""
        slopes = self.jacobian[self.others]
        heights = self.rows[self.others] + slopes @ whole
        moving = free(slopes)
        lengths = torch.linalg.vector_norm(moving, dim=1)
        fixed = lengths <= UNMOVABLE * torch.linalg.vector_norm(slopes, dim=1)
        normals = moving if seen is None else seen.divided(moving)
        sizes = torch.linalg.vector_norm(normals, dim=1)
        sizes = torch.where(fixed | (sizes == 0), 1.0, sizes)
        normals = torch.where(fixed[:, None], 0.0, normals / sizes[:, None])
        room = torch.cat([self.high[self.others] - heights, heights - self.low[self.others]])
        offsets = torch.where(fixed.repeat(2), math.inf, room / sizes.repeat(2))
        start = beside if seen is None else seen.times(beside)
        point, active, feasible = nearest_under_inequalities(
            start[None], torch.cat([normals, -normals]), offsets[None], roundoff(torch.float64)
        )
        if not bool(feasible):
            return None
        part = point[0] if seen is None else seen.divided(point[0])
        sides = self.is_equation.long() * 2
        upper, lower = active[0].chunk(2)
        sides[self.others] = upper.long() - lower.long()
        return whole + free(part), sides

    def violated(self) -> Spectrum:
        """Equations and violated inequalities, as least squares for the move that satisfies them."""
        excess = self.excess(torch.zeros_like(self.jacobian[0]))
        chosen = (excess != 0) | self.is_equation
        return Spectrum(self.jacobian[chosen], -excess[chosen])

    def _least_violation(self, rcond: float) -> Tensor:
        """A move with the smallest sum of squared violations, where no move satisfies all rows.

        Newton's method on a piecewise quadratic function: least squares on the rows that are violated.
        """
        move = torch.zeros_like(self.jacobian[0])
        excess = self.excess(move)
        for _ in range(ROUNDS):
            chosen = (excess != 0) | self.is_equation
            spectrum = Spectrum(self.jacobian[chosen], -excess[chosen])
            way = spectrum.shortest(spectrum.rank(rcond))
            before, share = float(excess.square().sum()), 1.0
            while share > 1e-6 and float(self.excess(move + share * way).square().sum()) >= before:
                share /= 2
            if share <= 1e-6:
                break
            move = move + share * way
            excess = self.excess(move)
            if float(excess.square().sum()) > (1 - 1e-12) * before:
                break
        return move

    def _active_rank(self, active: Tensor, rcond: float) -> int:
        rows = self.jacobian[active != 0]
        if not len(rows):
            return 0
        values = torch.linalg.svdvals(rows)
        return int((values > max(rcond, 1e-15) * values[0]).sum()) if float(values[0]) > 0 else 0


class _Free:
    """The projection of moves onto those that leave equations as they are."""

    def __init__(self, basis: Tensor) -> None:
        self.basis = basis

    def __call__(self, moves: Tensor) -> Tensor:
        for _ in range(2):  # the second pass takes what rounding left in the first
            moves = moves - (moves @ self.basis.mT) @ self.basis
        return moves


class _Seen:
    """Free moves by what they do to the outputs: ``O N = U diag(σ) Vᵀ``."""

    def __init__(self, metric: Metric, whole: Tensor, free: _Free) -> None:
        self.free = free
        self.spectrum = Spectrum(free(metric.jacobian), -(metric.gap + metric.jacobian @ whole))
        self.rank = self.spectrum.rank(metric.rcond)
        values = self.spectrum.values
        self.floor = (
            max(BLIND, metric.rcond) * float(values[0]) if len(values) and float(values[0]) > 0 else 1.0
        )
        self.scales = values.clamp_min(self.floor)

    def best(self) -> Tensor:
        """The free move after which outputs have changed least, the shortest of them."""
        return self.free(self.spectrum.shortest(self.rank))

    def times(self, moves: Tensor) -> Tensor:
        """Moves, with lengths as the outputs see them."""
        basis = self.spectrum.across
        longer: Tensor = self.floor * moves + ((moves @ basis.mT) * (self.scales - self.floor)) @ basis
        return longer

    def divided(self, moves: Tensor) -> Tensor:
        """The inverse of ``times``."""
        basis = self.spectrum.across
        shorter: Tensor = (
            moves / self.floor + ((moves @ basis.mT) * (1 / self.scales - 1 / self.floor)) @ basis
        )
        return shorter
