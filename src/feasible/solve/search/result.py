"""What a search found: the best choice, the ranking of all, and whether the data tell them apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from feasible.sets.set import short
from feasible.solve.search.choices import Table, spelled

__all__ = ["Ranked", "Ranking", "SearchInterrupted", "SearchResult"]

_SHOWN = 5
"""Rows that a printed result shows."""
_ENTRIES = 36
"""Larger tensors are shown by their shape."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """One choice in the ranking."""

    place: int
    """1 is the best; tied choices share the place of the first of them."""
    loss: float
    """The smallest over the starts; NaN where none ended with a finite one."""
    choice: dict[str, Tensor]
    """The chosen weights by name; 0 where a mask leaves an entry free."""
    losses: tuple[float, ...]
    """The final loss of each start."""
    tied: bool
    """Whether another choice shares the place."""
    size: int
    """How many choices this one stands for; 1 where none were merged."""

    @property
    def spread(self) -> float:
        """The largest minus the smallest of the finite losses over the starts."""
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        return max(finite) - min(finite) if finite else math.nan


class Ranking(Sequence[Ranked]):
    """The choices from the smallest final loss to the largest; those without a finite one come last.

    Rows are made when they are asked for. Equal losses stay in the order in which the sets list their members.
    """

    def __init__(self, table: Table, numbers: Tensor, losses: Tensor, tolerance: float) -> None:
        reached = torch.where(losses.isfinite(), losses, math.inf).amin(1)
        order = reached.argsort(stable=True)
        self._table = table
        self._numbers = numbers[order]
        self._losses = losses[order]
        self._reached: list[float] = reached[order].tolist()
        self._places = _shared_places(self._reached, tolerance)

    def __len__(self) -> int:
        return len(self._reached)

    @overload
    def __getitem__(self, index: int) -> Ranked: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Ranked, ...]: ...
    def __getitem__(self, index: int | slice) -> Ranked | tuple[Ranked, ...]:
        if isinstance(index, slice):
            return tuple(self[row] for row in range(*index.indices(len(self))))
        row = range(len(self))[index]
        place, number = self._places[row], int(self._numbers[row])
        neighbours = (*self._places[max(row - 1, 0) : row], *self._places[row + 1 : row + 2])
        loss = self._reached[row]
        return Ranked(
            place,
            loss if math.isfinite(loss) else math.nan,
            self._table.choice(number),
            tuple(self._losses[row].tolist()),
            place in neighbours,
            self._table.size(number),
        )

    def __iter__(self) -> Iterator[Ranked]:
        return (self[row] for row in range(len(self)))

    @property
    def diverged(self) -> int:
        """How many choices ended without a finite loss."""
        return sum(not math.isfinite(loss) for loss in self._reached)

    @property
    def tied_with_best(self) -> int:
        """How many choices share the first place."""
        return self._places.count(1)

    def __str__(self) -> str:
        return _table_of(self[:_SHOWN], len(self))

    def __repr__(self) -> str:
        return f"Ranking({len(self)} choices)"


@dataclass(frozen=True, eq=False, repr=False)
class SearchResult:
    """The outcome of an exhaustive search; prints as a short table."""

    best: dict[str, Tensor]
    """The best choice by name; it is loaded into the model with what was trained beside it.

    Of a weight that is chosen in part, the free entries are as trained.
    """
    loss: float
    """Its final loss: the mean over one pass through the batches after the last step, in eval mode."""
    ranking: Ranking
    """Every choice that was trained, best first."""
    count: int
    """How many choices were trained; where some were merged, one for each class."""
    members: int
    """How many choices those stand for."""
    starts: int
    """Random initialisations of each choice."""
    steps: int
    """Steps of the optimizer."""
    chunk: int
    """Models that were trained at a time: choices times starts."""
    seconds: float
    """Wall time."""
    diverged: int
    """How many choices ended without a finite loss."""
    complete: bool
    """Whether every choice was trained."""
    message: str
    """What was done, in a sentence."""
    warning: str
    """Why the best choice may not be the true one; empty where nothing speaks against it."""

    def __repr__(self) -> str:
        return f"SearchResult(loss={self.loss:.4g}, count={self.count}, complete={self.complete})"

    def __str__(self) -> str:
        return "\n".join(filter(None, (self.message, str(self.ranking), self.warning)))


class SearchInterrupted(KeyboardInterrupt):
    """A search was stopped by Ctrl-C; the best choice so far is in the model and ``result`` tells the rest.

    Choices whose training had not ended are not in ``result``.
    """

    def __init__(self, result: SearchResult) -> None:
        super().__init__(result.message)
        self.result = result


def make_result(
    best: dict[str, Tensor], table: Table, losses: Tensor, steps: int, chunk: int, seconds: float, ties: float
) -> SearchResult:
    """Rank the choices with at least one final loss; NaN in ``losses`` (choices × starts) is one that diverged.

    Models that were not trained hold −inf.
    """
    trained = (losses != -math.inf).any(1)
    ended = torch.where(losses == -math.inf, math.nan, losses)
    ranking = Ranking(table, trained.nonzero().squeeze(1), ended[trained], ties)
    complete = bool((losses != -math.inf).all())
    first = ranking[0]
    starts = losses.shape[1]
    return SearchResult(
        best,
        first.loss,
        ranking,
        len(ranking),
        sum(table.size(number) for number in trained.nonzero().squeeze(1).tolist())
        if not complete
        else table.total,
        starts,
        steps,
        chunk,
        seconds,
        ranking.diverged,
        complete,
        _message(table, ranking, complete, starts, steps, seconds),
        _warning(ranking, starts, ties),
    )


def _message(table: Table, ranking: Ranking, complete: bool, starts: int, steps: int, seconds: float) -> str:
    merged = f", which stand for {spelled(table.total)}," if table.total != len(table) else ""
    of = "all" if complete else f"interrupted: {len(ranking):,} of"
    restarted = f" from {starts} starts" if starts > 1 else ""
    lost = f"; {ranking.diverged:,} without a finite loss" if ranking.diverged else ""
    return (
        f"{of} {len(table):,} choices{merged} trained for {steps:,} steps{restarted} in {seconds:.3g} s{lost}"
    )


def _warning(ranking: Ranking, starts: int, ties: float) -> str:
    """Whether the data and the training tell the best choice from the next."""
    first = ranking[0]
    if first.tied:
        return (
            f"not identifiable: {ranking.tied_with_best} choices share the smallest loss, {first.loss:.4g}, up to a "
            f"share of {ties:g}."
        )
    if len(ranking) == 1 or starts == 1 or not math.isfinite(ranking[1].loss):
        return ""
    second = ranking[1]
    if second.loss - first.loss > first.spread:
        return ""
    return (
        f"not identifiable: the runner-up's loss, {second.loss:.4g}, lies within the spread of the best choice over "
        f"its {starts} starts, {first.loss:.4g} to {first.loss + first.spread:.4g}. More steps may tell them apart."
    )


def _shared_places(reached: Sequence[float], tolerance: float) -> list[int]:
    """Places from 1; a loss within the tolerance of the first of its group shares that one's place."""
    places: list[int] = []
    leader = math.nan
    for row, loss in enumerate(reached):
        if loss == leader or abs(loss - leader) <= tolerance * max(abs(loss), abs(leader)):
            places.append(places[-1])
        else:
            places.append(row + 1)
            leader = loss
    return places


def _table_of(rows: Sequence[Ranked], total: int) -> str:
    head = ("place", "loss", "choice")
    lines = [
        (f"{row.place}{' tied' if row.tied else ''}", f"{row.loss:.4g}", _shown(row.choice, row.size))
        for row in rows
    ]
    widths = [max(len(line[column]) for line in (head, *lines)) for column in (0, 1)]
    shown = [f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in (head, *lines)]
    rest = [f"  … and {total - len(rows):,} more"] if total > len(rows) else []
    return "\n".join([*shown, *rest])


def _shown(choice: dict[str, Tensor], size: int) -> str:
    parts = (f"{name} = {_entries(value)}" for name, value in choice.items())
    return ", ".join(parts) + (f"  (one of {size})" if size > 1 else "")


def _entries(value: Tensor) -> str:
    return _nested(value.tolist()) if value.numel() <= _ENTRIES else short(value)


def _nested(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_nested, value)) + "]"
    return f"{value:g}"
