"""How many inputs may violate a constraint, given how many of a sample did."""

from __future__ import annotations

import math

import torch

CONFIDENCE = 0.95
HALVINGS = 100
"""The bound is found to the last bits of a double."""


def largest_share(violated: int, points: int, confidence: float = CONFIDENCE) -> float:
    """The one-sided upper Clopper–Pearson bound on the share of violated inputs.

    The largest p for which at most ``violated`` of ``points`` independent draws is no less likely than
    ``1 − confidence``: exact for every p and every number of points. For no violation it is
    ``1 − (1 − confidence)^(1/points)``, about 3 in ``points``.

    Args:
        violated: how many of the points were violated.
        points: how many were drawn, independently and not for training.
        confidence: how often, over repeated draws, the bound holds at least.

    Raises:
        ValueError: ``violated`` is not between 0 and ``points``.

    >>> round(largest_share(0, 360), 6), round(largest_share(4, 360), 6)
    (0.008287, 0.025245)

    Source: Clopper & Pearson, *The use of confidence or fiducial limits* (1934).
    """
    if not 0 <= violated <= points:
        raise ValueError(f"expected 0 ≤ violated ≤ points, got {violated} of {points}.")
    if violated == points:
        return 1.0
    if violated == 0:
        return -math.expm1(math.log1p(-confidence) / points)
    low, high = violated / points, 1.0
    for _ in range(HALVINGS):
        share = (low + high) / 2
        low, high = (share, high) if _at_most(violated, points, share) > 1 - confidence else (low, share)
    return high


def _at_most(violated: int, points: int, share: float) -> float:
    """The chance of at most ``violated`` in ``points`` draws, where each is violated with chance ``share``."""
    if share >= 1:
        return 0.0
    # Further below the mean than this the chance is less than e⁻²⁰⁰ (Hoeffding).
    first = max(0, violated - math.ceil(10 * math.sqrt(points)))
    count = torch.arange(first, violated + 1, dtype=torch.float64)
    rest = points - count
    ways = math.lgamma(points + 1) - torch.lgamma(count + 1) - torch.lgamma(rest + 1)
    return float((ways + count * math.log(share) + rest * math.log1p(-share)).exp().sum())
