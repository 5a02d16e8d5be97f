"""How each discrete set is relaxed: which mean of its members the coordinates stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from feasible.sets.precision import wide
from feasible.sets.relaxation import Relaxation
from feasible.sets.sinkhorn import sinkhorn
from feasible.sets.units import along

if TYPE_CHECKING:
    from feasible.sets.candidates import Candidates
    from feasible.sets.combinatorial import OneHot
    from feasible.sets.set import Set
    from feasible.sets.transport import Permutation


class OneHotRelaxation(Relaxation):
    """``softmax(z / T)`` along a dimension."""

    def __init__(self, set: OneHot) -> None:
        super().__init__()
        self.set = set

    def mean(self, scores: Tensor) -> Tensor:
        """The vectors at these logits."""
        return along(self.set.dim, scores, lambda rows: torch.softmax(rows, -1))

    def member(self, latent: Tensor) -> Tensor:
        """1 at the largest coordinate, the first of several."""
        return self.set.project(latent)

    def coordinates(self, x: Tensor) -> Tensor:
        """The entries as logits: a unit vector begins with somewhat more than half of the weight."""
        return along(self.set.dim, x, lambda rows: _spread_to(rows, -1, rows.shape[-1]))


class PermutationRelaxation(Relaxation):
    """``exp(z / T)`` with rows and columns scaled until all of them sum to 1.

    Source: Mena, Belanger, Linderman & Snoek, *Learning latent permutations with Gumbel-Sinkhorn networks* (2018).
    """

    def __init__(self, set: Permutation) -> None:
        super().__init__()
        self.set = set

    def mean(self, scores: Tensor) -> Tensor:
        """Sinkhorn's doubly stochastic matrix."""
        return sinkhorn(scores)

    def member(self, latent: Tensor) -> Tensor:
        """The exact assignment on the coordinates."""
        return self.set.project(latent)

    def coordinates(self, x: Tensor) -> Tensor:
        """The entries as logits, as for unit vectors."""
        return _spread_to(x.flatten(-2), -1, x.shape[-1]).reshape(x.shape)


class CandidatesRelaxation(Relaxation):
    """``Σ pᵢ cᵢ`` with ``p = softmax(z / T)``: one coordinate a candidate."""

    stack: Tensor

    def __init__(self, set: Candidates) -> None:
        super().__init__()
        self.set = set
        self.register_buffer("stack", set.stack, persistent=False)

    def mean(self, scores: Tensor) -> Tensor:
        """The weighted mean of the candidates."""
        share = torch.softmax(scores, -1).to(self.stack.dtype)
        return (share @ self.stack.reshape(len(self.stack), -1)).reshape(self.stack.shape[1:])

    def member(self, latent: Tensor) -> Tensor:
        """The candidate with the largest coordinate, not the nearest to the mean."""
        chosen = self.stack.index_select(0, latent.argmax().reshape(1)).squeeze(0)
        return torch.where(latent.isnan().any(), torch.full_like(chosen, math.nan), chosen)

    def coordinates(self, x: Tensor) -> Tensor:
        """Minus the squared distances, in units of their mean excess over the least."""
        distance = self.set.bind(x).distances(x).square()
        excess = distance - distance.amin()
        others = max(len(excess) - 1, 1)
        unit = excess.sum() / others
        return -math.log(max(len(excess), 2)) * excess / torch.where(unit > 0, unit, 1.0)

    def relative_slope(self, latent: Tensor) -> Tensor:
        """``p (1 − p)`` of each candidate, relative to that of an even choice."""
        if self.phase == "held":
            return torch.zeros_like(latent)
        share = torch.softmax(latent.detach() / self.temperature, -1)
        return share * (1 - share) * len(share) ** 2 / max(len(share) - 1, 1)


class NearestRelaxation(Relaxation):
    """For each entry the mean of the values ``v`` under ``softmax(−(z − v)² / (2 u² T))``, u being their mean gap.

    Source: Agustsson et al., *Soft-to-hard vector quantization for end-to-end learning compressible
    representations* (2017).
    """

    values: Tensor

    def __init__(self, set: Set, values: Sequence[float]) -> None:
        super().__init__()
        self.set = set
        self.unit = (values[-1] - values[0]) / max(len(values) - 1, 1) or 1.0
        self.ends = (values[0] - self.unit / 2, values[-1] + self.unit / 2)
        self.register_buffer("values", torch.tensor(values, dtype=torch.float64), persistent=False)

    def scores(self, latent: Tensor) -> Tensor:
        """For each entry one score a value, in a last dimension."""
        values = self.values.to(wide(latent).dtype)
        return ((wide(latent).unsqueeze(-1) - values) / self.unit).square() * -0.5

    def mean(self, scores: Tensor) -> Tensor:
        """The mean of the values, entry by entry."""
        return torch.softmax(scores, -1) @ self.values.to(scores.dtype)

    def forward(self, latent: Tensor) -> Tensor:
        """The soft weight in its own dtype."""
        return super().forward(latent).to(latent.dtype)

    def member(self, latent: Tensor) -> Tensor:
        """The nearest value."""
        return self.set.project(latent)

    def coordinates(self, x: Tensor) -> Tensor:
        """The entries themselves; those outside of the values' range move to where they still learn."""
        return x.clamp(*self.ends)

    def _inverse(self, x: Tensor) -> Tensor:
        return self.coordinates(x)  # in the units of the values, at every temperature

    def relative_slope(self, latent: Tensor) -> Tensor:
        """The variance of the values in units of that between two neighbours."""
        if self.phase == "held":
            return torch.zeros_like(latent)
        scores = self.scores(latent.detach()) / self.temperature
        values = self.values.to(scores.dtype) / self.unit
        share = torch.softmax(scores, -1)
        deviation = values - (share @ values).unsqueeze(-1)
        return (4 * (share * deviation.square()).sum(-1)).to(latent.dtype)


def _spread_to(rows: Tensor, dim: int, count: int) -> Tensor:
    """Rows times log(count), those of a range above 1 shortened: a member gets about half of the weight."""
    if rows.numel() == 0:
        return rows
    span = rows.amax(dim, keepdim=True) - rows.amin(dim, keepdim=True)
    return rows * (math.log(max(count, 2)) / span.clamp_min(1))
