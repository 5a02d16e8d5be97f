"""Means of the members of a discrete set, which a falling temperature turns into a single one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from feasible.sets.charts import Chart

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
        scores = self.scores(latent) / self.temperature
        if self.gumbel is not None and self.training:
            scores = scores + self.gumbel.to(scores.dtype)
        return self.mean(scores)

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
        """Let every step shift the cooled scores by Gumbel noise, from a seed that torch's default generator gives."""
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
