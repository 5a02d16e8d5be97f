"""Rates of a binary classifier, overall and by group, as values that a problem can require.

A score above the threshold selects a sample. A rate counts decisions, so it has no derivative: each function gives a
``Surrogate``, whose truth is the count and whose smooth part puts a slope in the place of every step. They can be
added, subtracted and multiplied by numbers::

    gap = rates.selection_rate(scores, where=a) - rates.selection_rate(scores, where=b)

``where`` picks the samples that count: a mask of the samples, or masks in rows, one a group (``rates.groups``), which
give a rate a group. A rate of no sample is NaN; it pulls at nothing and moves no multiplier.

Source: Cotter et al., *Optimization with non-differentiable constraints with applications to fairness, recall, churn,
and other goals*, JMLR 20 (2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from feasible.surrogate import Surrogate, stack

__all__ = [
    "accuracy",
    "false_negative_rate",
    "false_positive_rate",
    "groups",
    "precision",
    "recall",
    "selection_rate",
    "stack",
]

Smooth = Literal["sigmoid", "hinge"]


def accuracy(
    scores: Tensor,
    labels: Tensor,
    where: Tensor | None = None,
    *,
    threshold: float = 0.0,
    temperature: float = 1.0,
    smooth: Smooth = "sigmoid",
) -> Surrogate:
    """The share of samples that are decided as labelled: ``(TP + TN) / n``.

    Args:
        scores: one number a sample, such as a logit.
        labels: 0 or 1 (or bool) a sample.
        where: a bool mask of the samples that count, or one mask a row.
        threshold: a score above it selects the sample.
        temperature: the width of the smooth step, > 0; smaller is steeper and reaches fewer samples.
        smooth: ``"sigmoid"``: σ(m) for the step 1[m > 0]; ``"hinge"``: min(1, m), a lower bound of a right
            decision that pulls at every wrong one with the same force. m is the score's distance from the
            threshold in temperatures.

    Raises:
        ValueError: the shapes do not match, or an argument is out of range.

    >>> accuracy(torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1, 1, 0])).truth
    tensor(0.3333)
    """
    selected, rejected = _decisions(scores, threshold, temperature, smooth)
    positive, counted = _masks(scores, labels, where)
    right = Surrogate(
        torch.where(positive, selected.smooth, rejected.smooth),
        torch.where(positive, selected.truth, rejected.truth),
    )
    return _mean(right, counted)


def recall(
    scores: Tensor,
    labels: Tensor,
    where: Tensor | None = None,
    *,
    threshold: float = 0.0,
    temperature: float = 1.0,
    smooth: Smooth = "sigmoid",
) -> Surrogate:
    """The share of positive samples that are selected, the true positive rate: ``TP / (TP + FN)``.

    Args, errors: as of ``accuracy``.

    >>> recall(torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1, 1, 0])).truth
    tensor(0.5000)
    """
    selected, _ = _decisions(scores, threshold, temperature, smooth)
    positive, counted = _masks(scores, labels, where)
    return _mean(selected, counted & positive)


def false_negative_rate(
    scores: Tensor,
    labels: Tensor,
    where: Tensor | None = None,
    *,
    threshold: float = 0.0,
    temperature: float = 1.0,
    smooth: Smooth = "sigmoid",
) -> Surrogate:
    """The share of positive samples that are not selected, 1 − recall: ``FN / (TP + FN)``.

    Args, errors: as of ``accuracy``.

    >>> false_negative_rate(torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1, 1, 0])).truth
    tensor(0.5000)
    """
    return 1 - recall(scores, labels, where, threshold=threshold, temperature=temperature, smooth=smooth)


def false_positive_rate(
    scores: Tensor,
    labels: Tensor,
    where: Tensor | None = None,
    *,
    threshold: float = 0.0,
    temperature: float = 1.0,
    smooth: Smooth = "sigmoid",
) -> Surrogate:
    """The share of negative samples that are selected: ``FP / (FP + TN)``.

    Args, errors: as of ``accuracy``.

    >>> false_positive_rate(torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1, 1, 0])).truth
    tensor(1.)
    """
    _, rejected = _decisions(scores, threshold, temperature, smooth)
    positive, counted = _masks(scores, labels, where)
    return 1 - _mean(rejected, counted & ~positive)


def selection_rate(
    scores: Tensor,
    where: Tensor | None = None,
    *,
    threshold: float = 0.0,
    temperature: float = 1.0,
    smooth: Smooth = "sigmoid",
) -> Surrogate:
    """The share of samples that are selected, whatever their label: ``(TP + FP) / n``.

    Args, errors: as of ``accuracy``.

    >>> selection_rate(torch.tensor([2.0, -1.0, 0.5]), groups(torch.tensor([0, 0, 1]), 2)).truth
    tensor([0.5000, 1.0000])
    """
    selected, _ = _decisions(scores, threshold, temperature, smooth)
    return _mean(selected, _counted(scores, where))


def precision(
    scores: Tensor,
    labels: Tensor,
    where: Tensor | None = None,
    *,
    threshold: float = 0.0,
    temperature: float = 1.0,
) -> Surrogate:
    """The share of selected samples that are positive: ``TP / (TP + FP)``; NaN where none is selected.

    The smooth part is the ratio of the sums of sigmoids.

    Args, errors: as of ``accuracy``.

    >>> precision(torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1, 1, 0])).truth
    tensor(0.5000)
    """
    selected, _ = _decisions(scores, threshold, temperature, "sigmoid")
    positive, counted = _masks(scores, labels, where)

    def ratio(decision: Tensor) -> Tensor:
        return _divide(_sum(decision, counted & positive), _sum(decision, counted))

    smooth, truth = ratio(selected.smooth), ratio(selected.truth)
    return Surrogate(torch.where(truth.isnan(), torch.nan, smooth), truth)


def groups(ids: Tensor, count: int) -> Tensor:
    """A mask a group, as the rows of a bool tensor of shape (count, n): what ``where`` takes.

    Args:
        ids: the group of each sample, an integer from 0 to count − 1; another number is of no group.
        count: how many groups there are, also where a batch does not hold them all.

    Raises:
        ValueError: ids are no integers of shape (n,), or count is below 1.

    >>> groups(torch.tensor([0, 1, 0]), 2)
    tensor([[ True, False,  True],
            [False,  True, False]])
    """
    if ids.dim() != 1 or ids.is_floating_point() or ids.is_complex():
        raise ValueError(
            f"groups: ids must hold one integer a sample, got {ids.dtype} of shape {tuple(ids.shape)}."
        )
    if count < 1:
        raise ValueError(f"groups: count must be at least 1, got {count}.")
    return ids == torch.arange(count, device=ids.device).unsqueeze(1)


_STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hinge": lambda margin: margin.clamp_max(1.0),
}


def _decisions(
    scores: Tensor, threshold: float, temperature: float, smooth: Smooth
) -> tuple[Surrogate, Surrogate]:
    """Whether each sample is selected, and whether it is rejected."""
    if scores.dim() != 1 or not scores.is_floating_point():
        raise ValueError(
            f"rates: scores must hold one floating-point number a sample, shape (n,); "
            f"got {scores.dtype} of shape {tuple(scores.shape)}."
        )
    if not 0 < temperature < math.inf:
        raise ValueError(f"rates: temperature must be positive and finite, got {temperature!r}.")
    if smooth not in _STEPS:
        raise ValueError(f'rates: smooth must be "sigmoid" or "hinge", got {smooth!r}.')
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # counts in half precision are wrong
    # A score that is NaN gives NaN where it counts, and where it does not, no NaN reaches its gradient.
    lost = scores.isnan()
    margin, step = (torch.where(lost, threshold, scores) - threshold) / temperature, _STEPS[smooth]
    truth = torch.where(lost, torch.nan, (scores > threshold).to(scores))
    selected, rejected = (torch.where(lost, torch.nan, step(sign)) for sign in (margin, -margin))
    return Surrogate(selected, truth), Surrogate(rejected, 1 - truth)


def _masks(scores: Tensor, labels: Tensor, where: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which samples are positive, and which count."""
    if labels.shape != scores.shape:
        raise ValueError(
            f"rates: labels must have the shape of scores, {tuple(scores.shape)}; got {tuple(labels.shape)}."
        )
    # On a GPU the host would have to wait for the answer.
    if labels.device.type == "cpu" and not bool(((labels == 0) | (labels == 1)).all()):
        raise ValueError("rates: labels must be 0 or 1 (or bool). Convert −1 and 1 with labels > 0.")
    return labels == 1, _counted(scores, where)


def _counted(scores: Tensor, where: Tensor | None) -> Tensor:
    if where is None:
        return torch.ones_like(scores, dtype=torch.bool)
    if where.dtype != torch.bool or where.shape[-1:] != scores.shape:
        raise ValueError(
            f"rates: where must be a bool mask of shape (…, {len(scores)}), "
            f"got {where.dtype} of shape {tuple(where.shape)}."
        )
    return where


def _mean(decision: Surrogate, among: Tensor) -> Surrogate:
    """The share of decisions among the samples of each mask."""
    count = among.sum(-1)
    return Surrogate(
        _divide(_sum(decision.smooth, among), count), _divide(_sum(decision.truth, among), count)
    )


def _sum(decision: Tensor, among: Tensor) -> Tensor:
    return torch.where(among, decision, 0.0).sum(-1)


def _divide(total: Tensor, count: Tensor) -> Tensor:
    """The quotient; NaN, and a gradient of 0, where the count is 0."""
    is_empty = count == 0
    return torch.where(is_empty, torch.nan, total / torch.where(is_empty, 1.0, count))
