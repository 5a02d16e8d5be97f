"""The best member of a discrete set for a linear layer: ``min Σ loss(A W + c, B)``, with a certificate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.sets import Set
from feasible.solve.exact.choices import Choices, Entries, Listed, Rows, Values, Whole, choices
from feasible.solve.exact.listed import try_all
from feasible.solve.exact.losses import Fit, Loss, check_loss, total
from feasible.solve.exact.mixed_integer import ROUNDING, Bounded, solve_entries, solve_rows
from feasible.solve.exact.result import Budget, ExactResult, ExactStatus
from feasible.solve.exact.squared import Found, fit_columns, fit_rows

__all__ = ["exact_linear_fit", "integer_least_squares"]

Array = NDArray[np.float64]


def integer_least_squares(
    A: Tensor,
    B: Tensor,
    set: Set,
    *,
    bias: bool = False,
    max_nodes: int | None = None,
    seconds: float | None = 60.0,
) -> ExactResult:
    """``argmin ‖A W − B‖²`` over the members W of a discrete set, with a certificate of optimality.

    Entries from lists are found by sphere decoding, a branch and bound over the triangular form of A; columns of
    W are independent of each other. The work can grow exponentially with the number of unknowns: it is small
    where the best fit is good, and large where A has many columns that others nearly explain. In that case the
    budget ends the search, and ``result.gap`` says how far the answer can be from the best one.

    Args:
        A: inputs, (n, d).
        B: targets, (n, m) or (n,).
        set: what W, of shape (d, m) or (d,) and of the dtype of A, must be in: ``FiniteSet``, ``Integers``
            (also unbounded where A has full column rank), ``OneHot``, ``Permutation``, ``Candidates``, or an
            elementwise one ``.where(mask)``, whose other entries are free.
        bias: whether a free number is added to every output.
        max_nodes: how many partial choices may be looked at; ``None``: any number.
        seconds: wall-clock limit; ``None``: none.

    Returns:
        The weight and its certificate; ``loss`` is the sum of squares.

    Raises:
        ValueError: the shapes do not fit, a number is not finite, or the set cannot hold such a weight.
        UnsupportedError: no exact search is known for the set.

    >>> from feasible import FiniteSet
    >>> A = torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.0, 1.0]])
    >>> result = integer_least_squares(A, torch.tensor([-0.9, 2.1, -1.2]), FiniteSet([-1, 0, 1]))
    >>> result.weight, result.proven, result.gap
    (tensor([ 1., -1.]), True, 0.0)

    Source: Agrell, Eriksson, Vardy & Zeger, *Closest point search in lattices* (2002).
    """
    return exact_linear_fit(A, B, set, loss="squared", bias=bias, max_nodes=max_nodes, seconds=seconds)


def exact_linear_fit(
    A: Tensor,
    B: Tensor,
    set: Set,
    *,
    loss: Loss = "squared",
    bias: bool = False,
    max_nodes: int | None = None,
    seconds: float | None = 60.0,
) -> ExactResult:
    """``argmin Σ loss(A W + c, B)`` over the members W of a discrete set; c is 0, or free with ``bias=True``.

    Squared: see ``integer_least_squares``. ``"l1"`` (``Σ|A W + c − B|``) and ``"hinge"``
    (``Σ max(0, 1 − B ⊙ (A W + c))``, every B being 1 or −1) are mixed-integer linear programs with a binary for
    every choice, solved by HiGHS; their optimum is proven up to a millionth of the data's size.
    Sets of listed matrices (``Candidates``, ``OneHot`` within an output) are tried one after the other.

    Args:
        A: inputs, (n, d).
        B: targets, (n, m) or (n,).
        set: what W, of shape (d, m) or (d,) and of the dtype of A, must be in.
        loss: ``"squared"``, ``"l1"`` or ``"hinge"``.
        bias: whether a free number is added to every output.
        max_nodes: how many partial choices may be looked at; ``None``: any number.
        seconds: wall-clock limit; ``None``: none.

    Returns:
        The weight and its certificate; ``loss`` is the sum over samples and outputs.

    Raises:
        ValueError: the shapes do not fit, a number is not finite, or the set cannot hold such a weight.
        UnsupportedError: no exact search is known for the set.
        ImportError: scipy is missing for ``"l1"`` or ``"hinge"``.

    >>> from feasible import OneHot
    >>> A = torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.0, 1.0]])
    >>> exact_linear_fit(A, torch.tensor([2.0, 1.0, 9.0]), OneHot(), loss="l1").weight
    tensor([0., 1.])
    """
    A, B = checked(A, "A"), checked(B, "B")
    if A.dim() != 2 or B.dim() not in (1, 2) or len(A) != len(B) or 0 in (*A.shape, *B.shape):
        raise ValueError(
            f"expected A of shape (n, d) and B of shape (n, m) or (n,), not empty; got {tuple(A.shape)} and "
            f"{tuple(B.shape)}."
        )
    dtype = A.dtype if A.is_floating_point() else torch.get_default_dtype()
    like = torch.zeros(A.shape[1:] + B.shape[1:], dtype=dtype)
    found = solve(A, B, choices(set, like, transposed=False), loss, bias, Budget(max_nodes, seconds))
    return found.result(lambda W: torch.from_numpy(W).reshape(like.shape).to(A.device, dtype))


def checked(value: Any, name: str) -> Tensor:
    """Real finite numbers as a tensor.

    Raises:
        ValueError: it holds something else.
    """
    x: Tensor = torch.as_tensor(value).detach()
    if x.is_complex():
        raise ValueError(f"{name} must hold real numbers, got {x.dtype}.")
    bad = int((~x.isfinite()).sum())
    if bad:
        raise ValueError(f"{name} must be finite, but {bad} of its {x.numel()} numbers are NaN or infinite.")
    return x


@dataclass(frozen=True)
class Solved:
    """The best W (d, m), and what is known of it."""

    W: Array
    bias: Array | None
    loss: float
    lower: float
    is_proven: bool
    budget: Budget

    def result(self, shaped: Any) -> ExactResult:
        """As users get it; ``shaped`` makes the weight and the bias what they have to be."""
        return ExactResult(
            weight=shaped(self.W),
            bias=None if self.bias is None else torch.from_numpy(self.bias),
            loss=self.loss,
            lower_bound=self.loss if self.is_proven else self.lower,
            status=ExactStatus.OPTIMAL if self.is_proven else ExactStatus.BUDGET,
            nodes=self.budget.nodes,
            seconds=self.budget.elapsed,
        )


def solve(
    A: Tensor,
    B: Tensor,
    allowed: Choices,
    loss: Loss,
    is_free: bool,
    budget: Budget,
    kept: Tensor | None = None,
) -> Solved:
    """The best W for inputs (n, d) and targets (n, m) or (n,), with a free or a kept bias (m,).

    Raises:
        ValueError: the loss is unknown, or does not fit the targets.
    """
    inputs = A.cpu().double().numpy()
    targets = B.cpu().double().reshape(len(B), -1).numpy()
    shift = np.zeros(targets.shape[1]) if kept is None else kept.cpu().double().numpy()
    check_loss(loss)
    if loss == "hinge" and not bool((np.abs(targets) == 1).all()):
        raise ValueError(
            "the hinge loss needs targets that are 1 or −1 for every output; "
            f"got {np.unique(targets)[:5].tolist()}."
        )
    fit = Fit(inputs, targets, loss, is_free, shift)
    if isinstance(allowed, Listed):
        W = try_all(fit, allowed, budget)
        found = Found(W, fit.bias(W), 0.0, True)
    elif loss == "squared":
        found = _squared(fit, allowed, budget)
    else:
        found = _mixed_integer(fit, allowed, budget)
    predictions = inputs @ found.W + (shift if found.bias is None else found.bias)
    value = float(total(predictions, targets, loss))
    proven = found.is_proven or found.lower >= value
    return Solved(found.W, found.bias, value, min(found.lower, value), proven, budget)


def _squared(fit: Fit, allowed: Entries | Rows, budget: Budget) -> Found:
    if isinstance(allowed, Entries):
        return fit_columns(fit.A, fit.B - fit.kept, allowed, fit.is_free, budget)
    return fit_rows(fit.A, fit.B - fit.kept, allowed, fit.is_free, budget)


def _mixed_integer(fit: Fit, allowed: Entries | Rows, budget: Budget) -> Found:
    """All outputs at once where rows couple them, else one after the other."""
    if isinstance(allowed, Rows):
        return _best_known(fit, solve_rows(fit, allowed, budget), allowed)
    parts = []
    for number in range(fit.B.shape[1]):
        values = [_short(row[number]) for row in allowed.values]
        single = fit.column(number)
        share = budget.share(fit.B.shape[1] - number)
        bounded = solve_entries(single, values, share)
        budget.nodes = share.nodes
        parts.append(_best_known(single, bounded, Entries([[value] for value in values])))
    return Found.together(parts)


def _short(values: Values) -> Array | None:
    if isinstance(values, Whole):
        raise UnsupportedError(
            "the l1 and hinge losses need a short list for every entry.\n"
            '  Give close bounds, as in Integers(-8, 7), or take loss="squared".'
        )
    return values


def _best_known(fit: Fit, bounded: Bounded, allowed: Entries | Rows) -> Found:
    """What HiGHS found, or the best fit of least squares where that is better than what it had time for."""
    W, lower = bounded.W, bounded.lower
    value = math.inf if W is None else float(fit.values(W))
    if W is not None and value - lower <= max(bounded.rounding, ROUNDING * value):
        return Found(W, fit.bias(W), lower, True)
    quick = _squared(fit, allowed, Budget(10_000, 1.0)).W
    best = quick if W is None or float(fit.values(quick)) < value else W
    return Found(best, fit.bias(best), lower, False)
