"""Local search over discrete weights: single moves, then pairs of them, on the true loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from feasible.problem.polish.objective import Objective, SpentError
from feasible.problem.polish.ranking import Curvature, rank
from feasible.problem.polish.trials import Pool

_FIRST = 128
"""Moves after which the best second one is looked for."""
_PAIRS = (32, 256)
"""At least and at most so many pairs are computed in a round."""
_GRADIENT = 3
_KICK = 4
"""Moves in a kick: more than the pairs that follow take back at once."""


class Search:
    """Moves are accepted when the loss on all data falls, so that it never rises.

    A round computes the loss after each of the most promising moves (all of them, where they are few) and takes,
    of the sorted improvements, the first 1, 2, 4, … together that are best. Where no single move helps, pairs
    are looked for: the gradient after a first move tells what every second one would add, to second order
    exactly, since ``½ Δᵀ H Δ`` of each is known from its own trial.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._curvature = Curvature(objective.targets)
        self.loss = objective.loss()

    def run(self, pairs: bool, share: float = 1.0) -> bool:
        """Until nothing improves, or that share of the budget's evaluations is used; whether it came to the end."""
        budget = self._objective.budget
        try:
            while budget.used < share * budget.evaluations:
                if not self._round(pairs):
                    return True
        except SpentError:
            pass
        return False

    def kick(self, times: int) -> bool:
        """Leave the optimum by some random moves, descend again, keep what is better; whether all were made."""
        generator = torch.Generator().manual_seed(0)
        targets = self._objective.targets
        for _ in range(times):
            before, loss = [target.values() for target in targets], self.loss
            finished = self._shake(generator) and self.run(pairs=True)
            if not self.loss < loss - self._margin:
                self.loss = loss
                with torch.no_grad():
                    for target, values in zip(targets, before, strict=True):
                        target.slot.leaf.copy_(values)
            if not finished:
                return False
        return True

    def _shake(self, generator: torch.Generator) -> bool:
        """Some random moves; whether the budget allowed them."""
        try:
            pool, scores = rank(self._objective.targets, self._objective.gradient(), self._curvature)
            order = scores.sort(stable=True).indices[: max(8, len(scores) // 2)]
            drawn = order[torch.randperm(len(order), generator=generator)[: 4 * _KICK]].unsqueeze(1)
            chosen = _disjoint(pool, drawn)[:_KICK].reshape(-1)
            trial = pool.trials(chosen, torch.zeros_like(chosen), 1)
            loss = float(self._objective.losses(trial)[0])
        except SpentError:
            return False
        with torch.no_grad():
            trial.apply(0, self._objective.targets)
        self.loss = loss
        return loss == loss

    @property
    def _margin(self) -> float:
        """What rounding may change: less is no improvement."""
        dtype = self._objective.targets[0].slot.leaf.dtype
        dtype = torch.promote_types(dtype, torch.float32)
        return 8 * torch.finfo(dtype).eps * abs(self.loss)

    def _round(self, pairs: bool) -> bool:
        gradients = self._objective.gradient()
        pool, scores = rank(self._objective.targets, gradients, self._curvature)
        order = scores.sort(stable=True).indices
        tried = order[: max(8, min(1024, self._objective.budget.evaluations // 16))]
        found = self._found(self._objective.losses(pool.each(tried)))
        self._learn(pool, tried, found)
        better = tried[self._improving(found)]
        promised = self._promised(pool, order[len(tried) :])
        chosen = _disjoint(pool, torch.cat([better, promised]).unsqueeze(1))
        orders = [chosen, chosen[self._in_turn(pool, chosen)]] if len(promised) else [chosen]
        if len(chosen) and self._take(pool, orders):
            return True
        return pairs and self._pair(pool, tried, found)

    def _found(self, losses: Tensor) -> Tensor:
        change = losses - self.loss
        return torch.where(change.isnan(), torch.inf, change)

    def _improving(self, found: Tensor) -> Tensor:
        """The places of improvements, the best first."""
        order = found.sort(stable=True).indices
        return order[found[order] < -self._margin]

    def _learn(self, pool: Pool, tried: Tensor, found: Tensor) -> None:
        second = found - pool.slopes[tried]
        for number, (start, end) in enumerate(zip(pool.starts, pool.starts[1:])):
            own = (tried >= start) & (tried < end)
            moves = pool.moves[number][(tried[own] - start).to(pool.moves[number].index.device)]
            self._curvature.learn(number, moves, pool.sizes[tried[own]], second[own])

    def _promised(self, pool: Pool, others: Tensor) -> Tensor:
        """Of the moves that are not tried by themselves those that promise an improvement, the best first."""
        means = torch.tensor([self._curvature.mean(number) for number in range(len(pool.moves))])
        target = torch.bucketize(others, torch.tensor(pool.starts[1:]), right=True)
        scores = pool.slopes[others] + 0.5 * means[target].double() * pool.sizes[others]
        order = scores.sort(stable=True).indices
        return others[order[scores[order] < 0]]

    def _in_turn(self, pool: Pool, chosen: Tensor) -> Tensor:
        """The best move of every row of the weights first, then the second best, …: rows interact least."""
        rows = pool.rows(chosen[:, 0], [target.slot.leaf for target in self._objective.targets])
        order = rows.sort(stable=True).indices
        counts = torch.unique_consecutive(rows[order], return_counts=True)[1]
        starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
        turn = torch.empty_like(rows)
        turn[order] = torch.arange(len(rows)) - starts
        return turn.sort(stable=True).indices

    def _take(self, pool: Pool, orders: Sequence[Tensor]) -> bool:
        """Of rows of moves in some orders, the best first, as many as lower the loss most."""
        best, least = None, self.loss - self._margin
        for chosen in orders:
            trials = pool.prefixes(chosen)
            losses = self._objective.losses(trials)
            place = int(torch.where(losses.isnan(), torch.inf, losses).argmin())
            if float(losses[place]) < least:
                best, least = next(trials.split(1, place)), float(losses[place])
        if best is None:
            return False
        with torch.no_grad():
            best.apply(0, self._objective.targets)
        self.loss = least
        return True

    def _pair(self, pool: Pool, tried: Tensor, found: Tensor) -> bool:
        """The best pairs of moves; each round of them costs as much as some hundred single ones."""
        finite = found.isfinite()
        tried, found = tried[finite], found[finite]
        most = min(_FIRST, self._objective.budget.left // (2 * _GRADIENT))
        first = found.sort(stable=True).indices[:most]
        if not len(first):
            return False
        gradients = self._objective.gradients(pool.each(tried[first]))
        second = found - pool.slopes[tried]
        scores = found[first].unsqueeze(1) + self._slopes(pool, tried, gradients) + second
        scores = _forbid(scores, first, pool.units(tried))
        order = scores.reshape(-1).sort(stable=True).indices
        order = order[scores.reshape(-1)[order].isfinite()]
        count = min(max(int((scores < 0).sum()), _PAIRS[0]), _PAIRS[1])
        places = order[:count]
        pairs = torch.stack([tried[first[places // len(tried)]], tried[places % len(tried)]], 1)
        if not len(pairs):
            return False
        trial = torch.arange(len(pairs)).repeat_interleave(2)
        losses = self._objective.losses(pool.trials(pairs.reshape(-1), trial, len(pairs)))
        better = pairs[self._improving(self._found(losses))]
        return bool(len(better)) and self._take(pool, [_disjoint(pool, better)])

    def _slopes(self, pool: Pool, tried: Tensor, gradients: Sequence[Tensor]) -> Tensor:
        """First-order change of every tried move at each of the gradients."""
        slopes = torch.zeros(len(gradients[0]), len(tried), dtype=torch.float64)
        for number, (start, end) in enumerate(zip(pool.starts, pool.starts[1:])):
            own = (tried >= start) & (tried < end)
            moves = pool.moves[number][(tried[own] - start).to(pool.moves[number].index.device)]
            change = moves.change(self._objective.targets[number].slot.leaf.detach()).double()
            for row, gradient in zip(slopes, gradients[number], strict=True):
                row[own] = (gradient.reshape(-1)[moves.index].double() * change).sum(1).cpu()
        return slopes


def _disjoint(pool: Pool, rows: Tensor) -> Tensor:
    """Of rows of moves, the best first, those that share no unit with one before them."""
    if not len(rows):
        return rows
    taken: set[tuple[int, int]] = set()
    kept = []
    units = pool.units(rows.reshape(-1))
    width = rows.shape[1]
    for number in range(len(rows)):
        own = [unit for one in units[number * width : (number + 1) * width] for unit in one]
        if taken.isdisjoint(own):
            taken.update(own)
            kept.append(number)
    return rows[kept]


def _forbid(scores: Tensor, first: Tensor, units: Sequence[Sequence[tuple[int, int]]]) -> Tensor:
    """Infinite where two moves exclude each other, and where the same pair comes again in the other order."""
    owners: dict[tuple[int, int], list[int]] = {}
    for place, own in enumerate(units):
        for unit in own:
            owners.setdefault(unit, []).append(place)
    scores = scores.clone()
    for number, place in enumerate(first.tolist()):
        for unit in units[place]:
            scores[number, owners[unit]] = torch.inf
        scores[number, first[:number]] = torch.inf
    return scores
