"""Which moves promise most: their first-order change of the loss plus what is known of its curvature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from feasible.problem.polish.targets import Target
from feasible.problem.polish.trials import Pool
from feasible.sets.moves import Moves, neighbours

_MOST = 2**16
"""Moves of one target that are kept; of moves that change many entries fewer."""
_ENTRIES = 2**24


class Curvature:
    """Second derivatives of the loss along entries, learnt from moves whose loss has been computed.

    A move Δ that changes the loss by d has ``½ Δᵀ H Δ ≈ d − ⟨∇, Δ⟩``; where entries share a move, they share
    it. Entries that no move has told about count as the mean of the others.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        self._entries = [
            torch.full((t.entries.numel(),), torch.nan, dtype=torch.float64, device=t.entries.device)
            for t in targets
        ]

    def along(self, number: int, moves: Moves, change: Tensor) -> Tensor:
        """``½ Δᵀ H Δ`` for each move of a target, NaN where an entry is unknown."""
        return 0.5 * (self._entries[number][moves.index] * change.double().square()).sum(1)

    def mean(self, number: int) -> float:
        """The mean over a target's known entries; 0 where none is."""
        mean = float(self._entries[number].nanmean())
        return mean if mean == mean else 0.0

    def learn(self, number: int, moves: Moves, size: Tensor, second: Tensor) -> None:
        """Moves of squared length ``size`` have the second-order change ``second``."""
        known = second.isfinite()
        each = (2 * second / size)[known].to(self._entries[number].device)
        index = moves.index[known.to(moves.index.device)]
        self._entries[number][index] = each.unsqueeze(1).expand_as(index)


@torch.no_grad()
def rank(targets: Sequence[Target], gradients: Sequence[Tensor], curvature: Curvature) -> tuple[Pool, Tensor]:
    """The most promising moves of every target, and the change of the loss that each promises."""
    kept = [
        _best(number, target, gradient.reshape(-1), curvature)
        for number, (target, gradient) in enumerate(zip(targets, gradients, strict=True))
    ]
    columns = torch.cat([one.columns.cpu() for one in kept])
    slopes, sizes, scores = columns.unbind(1)
    return Pool([one.moves for one in kept], slopes, sizes), scores


@dataclass
class _Kept:
    moves: Moves
    columns: Tensor
    """Slope, squared length and score of each move."""

    def best(self, most: int) -> _Kept:
        if len(self.moves) <= most:
            return self
        chosen = self.columns[:, 2].sort(stable=True).indices[:most].sort().values
        return _Kept(self.moves[chosen], self.columns[chosen])


def _best(number: int, target: Target, gradient: Tensor, curvature: Curvature) -> _Kept:
    x, mean = target.slot.leaf.detach(), curvature.mean(number)
    kept: _Kept | None = None
    for moves in neighbours(target.set, x):
        change = moves.change(x)
        slope = (gradient[moves.index].double() * change.double()).sum(1)
        size = change.double().square().sum(1)
        known = curvature.along(number, moves, change)
        score = slope + torch.where(known.isnan(), 0.5 * mean * size, known)
        found = _Kept(moves, torch.stack([slope, size, score], 1))
        most = max(1, min(_MOST, _ENTRIES // max(moves.index.shape[1], 1)))
        kept = found.best(most) if kept is None else _joined(kept, found).best(most)
    if kept is None:
        places = torch.empty(0, 1, dtype=torch.long, device=x.device)
        return _Kept(Moves(places, x.new_empty(0, 1), places), x.new_empty(0, 3, dtype=torch.float64))
    return kept


def _joined(first: _Kept, second: _Kept) -> _Kept:
    pairs = zip(*((m.index, m.value, m.unit) for m in (first.moves, second.moves)), strict=True)
    index, value, unit = (torch.cat(pair) for pair in pairs)
    return _Kept(Moves(index, value, unit), torch.cat([first.columns, second.columns]))
