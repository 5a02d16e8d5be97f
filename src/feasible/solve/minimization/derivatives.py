"""Gradients and Jacobians as NumPy arrays: one backward for a scalar, one batched backward for all rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from feasible.solve.minimization.unknowns import Unknowns, Vector

Matrix = NDArray[np.float64]
LOOP = 6
"""Up to this many rows one backward each is faster than a batched one."""
MEMORY = 2**24
"""Entries of the Jacobian that one batched backward works on."""


class Derivatives:
    """With respect to the unknowns; where torch cannot batch a backward, rows go one by one from then on."""

    def __init__(self, unknowns: Unknowns) -> None:
        self.unknowns = unknowns
        self.loop_reason = ""
        self.dtype: type[np.floating[Any]] = np.float64
        """Of gradients and Jacobians: float32 holds all of what torch says of many unknowns in single precision."""

    @property
    def note(self) -> str:
        """Why rows are differentiated one by one, if they are."""
        return (
            self.loop_reason and f"Rows were differentiated one by one, since torch says: {self.loop_reason}"
        )

    def gradient(self, output: Tensor, leaves: Sequence[Tensor]) -> Vector:
        """Gradient of a scalar; graphs are kept, for objective and constraints may share one."""
        if not output.requires_grad:
            return np.zeros(self.unknowns.count, self.dtype)
        gradients = torch.autograd.grad(
            output, leaves, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return self.unknowns.flat(gradients, self.dtype)

    def jacobian(self, rows: Sequence[Tensor], leaves: Sequence[Tensor]) -> Matrix:
        """Gradients of flat tensors, one row an entry."""
        total = sum(row.numel() for row in rows)
        moving = [(row, start) for row, start in _placed(rows) if row.requires_grad]
        if not moving:
            return np.zeros((total, self.unknowns.count), self.dtype)
        output = torch.cat([row for row, _ in moving]) if len(moving) > 1 else moving[0][0]
        places = np.concatenate([np.arange(start, start + row.numel()) for row, start in moving])
        if len(places) > LOOP and not self.loop_reason:
            try:
                return _spread(self._batched(output, leaves), places, total)
            except (RuntimeError, UserWarning) as error:
                self.loop_reason = str(error).splitlines()[0]
        jacobian = np.empty((len(places), self.unknowns.count), self.dtype)
        for index in range(len(places)):
            gradients = torch.autograd.grad(
                output[index], leaves, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            jacobian[index] = self.unknowns.flat(gradients, self.dtype)
        return _spread(jacobian, places, total)

    def _batched(self, output: Tensor, leaves: Sequence[Tensor]) -> Matrix:
        """All rows by batched backwards, as many at once as memory allows."""
        count = output.numel()
        chunk = max(1, min(count, MEMORY // self.unknowns.count))
        unit = torch.eye(count, dtype=output.dtype, device=output.device)
        jacobian = np.empty((count, self.unknowns.count), self.dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns where it would only loop in a slower way
            for start in range(0, count, chunk):
                gradients = torch.autograd.grad(
                    output,
                    leaves,
                    unit[start : start + chunk],
                    retain_graph=True,
                    is_grads_batched=True,
                    allow_unused=True,  # materialize_grads would make zeros without a dimension for the rows
                )
                for at, part in zip(self.unknowns.slices, gradients, strict=True):
                    whole = torch.from_numpy(jacobian[start : start + chunk, at])
                    whole.copy_(torch.zeros(()) if part is None else part.reshape(part.shape[0], -1))
        return jacobian


def _spread(rows: Matrix, places: NDArray[np.intp], total: int) -> Matrix:
    """The rows at their places among others that are zero."""
    if len(places) == total:
        return rows
    result = np.zeros((total, rows.shape[1]), rows.dtype)
    result[places] = rows
    return result


def _placed(rows: Sequence[Tensor]) -> Iterable[tuple[Tensor, int]]:
    start = 0
    for row in rows:
        yield row, start
        start += row.numel()
