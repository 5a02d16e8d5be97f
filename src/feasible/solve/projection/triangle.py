"""Least squares for rows that come some at a time: only the triangle of their QR decomposition is kept."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 4096
"""So many rows, or twice the columns, are collected before they are put into the triangle."""


class Triangle:
    """``[A | b] = Q R`` for rows that are added, without Q.

    R holds all that least squares asks of A and b, with the digits of orthogonal transformations, which normal
    equations would halve.

    Args:
        columns: of A.
        device: where it is kept.

    Source: Golub & Van Loan, *Matrix Computations* (2013), sections 5.2 and 5.3.
    """

    def __init__(self, columns: int, device: torch.device) -> None:
        self.columns = columns
        self._triangle = torch.zeros(0, columns + 1, dtype=torch.float64, device=device)
        self._waiting: list[Tensor] = []

    def add(self, matrix: Tensor, right: Tensor) -> None:
        """Put in rows ``matrix`` (n, columns) with right sides (n); their order does not matter."""
        self._waiting.append(torch.cat([matrix, right[:, None]], 1))
        if sum(len(rows) for rows in self._waiting) >= max(LEAST, 2 * self.columns):
            self._put_in()

    def _put_in(self) -> None:
        rows = torch.cat([self._triangle, *self._waiting])
        self._waiting.clear()
        self._triangle = torch.linalg.qr(rows, mode="r").R

    def square(self) -> tuple[Tensor, Tensor]:
        """At most as many rows as columns + 1, with the same least squares."""
        if self._waiting:
            self._put_in()
        return self._triangle[:, : self.columns], self._triangle[:, self.columns]

    def is_full(self, rcond: float) -> bool:
        """Whether the inverse proves that no singular value is below this share of the largest."""
        matrix, _ = self.square()
        if len(matrix) < self.columns:
            return False
        one = torch.eye(self.columns, dtype=matrix.dtype, device=matrix.device)
        inverse = torch.linalg.solve_triangular(matrix[: self.columns], one, upper=True)
        norms = torch.linalg.matrix_norm(matrix) * torch.linalg.matrix_norm(inverse)
        return bool(rcond * norms < 1)

    def back_substituted(self) -> Tensor:
        """``argmin ‖A x − b‖``, for columns that are independent."""
        matrix, right = (part[: self.columns] for part in self.square())
        solution: Tensor = torch.linalg.solve_triangular(matrix, right[:, None], upper=True)[:, 0]
        return solution
