"""Soft members of discrete sets: means of members, which a falling temperature turns into single ones."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from feasible.sets.charts import Chart
from feasible.sets.precision import wide
from feasible.sets.units import along

if TYPE_CHECKING:
    from feasible.sets.candidates import Candidates
    from feasible.sets.combinatorial import OneHot
    from feasible.sets.set import Set
    from feasible.sets.transport import Permutation

DIFFERENTIATED_ROUNDS = 20
"""Rounds of Sinkhorn's iteration that gradients go through; those before only find where it ends."""
MOST_ROUNDS = 400
ENOUGH = 1e-3
"""How far row sums may be from 1 before the differentiated rounds."""


Phase = Literal["soft", "rounded", "choosing", "held"]
"""A mean of members; the member of largest score; the same, to be kept from now on; what was kept."""


class Relaxation(Chart):
    """The mean of the members under ``softmax(scores(z) / temperature)``; once decided, the one of largest score.

    The temperature follows from the step; ``chosen``, and the seed of the noise if there is any, are saved with the
    model.
    """

    chosen: Tensor
    """The member, once it is decided: whatever decay and momentum may do to z, it stays."""
    temperature: Tensor
    gumbel: Tensor | None
    seed: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.phase: Phase = "soft"
        self._noise = 0.0
        self._step = 0
        self._shape: torch.Size = torch.Size()
        self.register_buffer("chosen", None)
        self.register_buffer("temperature", torch.ones(()), persistent=False)
        self.register_buffer("gumbel", None, persistent=False)
        self.register_buffer("seed", None)

    # -- what each set says ------------------------------------------------------------------------

    @abstractmethod
    def mean(self, scores: Tensor) -> Tensor:
        """The soft weight at these scores, which have been divided by the temperature."""

    @abstractmethod
    def member(self, latent: Tensor) -> Tensor:
        """The member of largest score."""

    @abstractmethod
    def coordinates(self, x: Tensor) -> Tensor:
        """Where to begin from ``x``, at temperature 1: a member is favoured, and not yet certain."""

    def scores(self, latent: Tensor) -> Tensor:
        """The coordinates themselves."""
        return latent

    # -- the chart ---------------------------------------------------------------------------------

    def forward(self, latent: Tensor) -> Tensor:
        """The soft weight, or the member once it is decided."""
        if self.phase in ("rounded", "choosing"):
            member = self.member(latent.detach())
            if self.phase == "choosing":
                self.chosen = member
            return member
        if self.phase == "held":
            never = torch.zeros((), dtype=torch.bool, device=latent.device)
            return torch.where(never, latent.sum(), self.chosen)  # gradients arrive, and are 0
        scores = self.scores(latent)
        if self.gumbel is not None and self.training:
            scores = scores + self.gumbel.to(scores.dtype)
        return self.mean(scores / self.temperature)

    def right_inverse(self, x: Tensor) -> Tensor:
        """Coordinates from which ``x``, or what is nearest to it, is favoured."""
        latent = self._inverse(x.detach()).to(x.dtype)
        self._shape = self.scores(latent).shape
        self.chosen = self.member(latent)
        return latent

    def _inverse(self, x: Tensor) -> Tensor:
        return self.coordinates(x) * self.temperature.to(x.device)

    def relative_slope(self, latent: Tensor) -> Tensor:
        """How far each coordinate is from being decided; 0 once it is."""
        if self.phase == "held":
            return torch.zeros_like(latent)
        return self.openness(self.mean(self.scores(latent.detach()) / self.temperature))

    def openness(self, mean: Tensor) -> Tensor:
        """``p (1 − p)`` of a soft weight, relative to its largest value."""
        return 4 * mean * (1 - mean)

    # -- the schedule ------------------------------------------------------------------------------

    def add_noise(self, noise: float) -> None:
        """Let every step shift the scores by Gumbel noise, from a seed that torch's default generator gives."""
        self._noise = noise
        self.seed = torch.randint(2**62, ())

    def follow(self, temperature: float, step: int) -> None:
        """Take over what the schedule says after so many steps.

        New tensors replace the old ones, which a graph of the last step may still hold.
        """
        self._step = step
        self.temperature = torch.full_like(self.temperature, temperature)
        self._draw()

    def _draw(self) -> None:
        """Noise of this step: the same for every look at the weight, and the same again after a resume."""
        if self.seed is None:
            self.gumbel = None
            return
        generator = torch.Generator().manual_seed((int(self.seed) + self._step) % 2**63)
        waits = torch.empty(self._shape).exponential_(generator=generator)
        self.gumbel = (-self._noise * waits.log()).to(self.temperature.device)

    def _load_from_state_dict(self, *arguments: Any, **named: Any) -> None:
        super()._load_from_state_dict(*arguments, **named)
        self._draw()


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


def sinkhorn(scores: Tensor) -> Tensor:
    """The doubly stochastic matrices ``exp(scores + u + v)`` with a number u a row and v a column.

    Works in logarithms. Gradients go through the last rounds only, which is where they come from once the
    iteration has settled.
    """
    if scores.numel() == 0:
        return scores
    logs = wide(scores)
    with torch.no_grad():
        shift = _settled(logs.detach())
    logs = logs + shift
    for _ in range(DIFFERENTIATED_ROUNDS):
        logs = logs - logs.logsumexp(-1, keepdim=True)
        logs = logs - logs.logsumexp(-2, keepdim=True)
    return logs.exp().to(scores.dtype)


def _settled(logs: Tensor) -> Tensor:
    """What rows and columns have to be shifted by, nearly."""
    balanced = logs
    for round in range(MOST_ROUNDS):
        sums = balanced.logsumexp(-1, keepdim=True)
        balanced = balanced - sums
        balanced = balanced - balanced.logsumexp(-2, keepdim=True)
        # A NaN is never larger: it ends the rounds at once. Looking costs a synchronisation.
        if round % 10 == 9 and not bool((sums.abs() > ENOUGH).any()):
            break
    return balanced - logs


def _spread_to(rows: Tensor, dim: int, count: int) -> Tensor:
    """Rows times log(count), those of a range above 1 shortened: a member gets about half of the weight."""
    if rows.numel() == 0:
        return rows
    span = rows.amax(dim, keepdim=True) - rows.amin(dim, keepdim=True)
    return rows * (math.log(max(count, 2)) / span.clamp_min(1))


def relaxations_of(chart: nn.Module | None) -> list[Relaxation]:
    """The relaxation in a chart, inside of masks and views."""
    modules = [] if chart is None else chart.modules()
    return [module for module in modules if isinstance(module, Relaxation)]


@contextmanager
def phase(chart: nn.Module | None, wanted: Phase) -> Iterator[None]:
    """The relaxation in a chart is in another phase for a moment."""
    found = relaxations_of(chart)
    before = [relaxation.phase for relaxation in found]
    for relaxation in found:
        relaxation.phase = wanted
    try:
        yield
    finally:
        for relaxation, was in zip(found, before, strict=True):
            relaxation.phase = was
