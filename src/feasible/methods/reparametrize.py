"""Reparametrization: the weight is a function of free coordinates, so that it cannot leave its set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.methods.method import Method
from feasible.methods.moments import Moments
from feasible.methods.slot import Slot, remember_order
from feasible.sets import Set
from feasible.sets.charts import DEAD_SLOPE, FAINT_SLOPE, Chart

__all__ = ["Reparametrize"]


@final
@dataclass(frozen=True)
class Reparametrize(Method):
    """The weight is ``chart(z)`` and the optimizer moves z, which is free.

    Args:
        chart: which of the set's charts; ``None`` takes the set's default.
        revive: lift entries back whose slope has vanished and whose gradient wants them to move inside.

    Raises:
        UnsupportedError: the set has no chart, or the problem holds bare tensors.
        ValueError: the set has no chart of this name.

    >>> import torch, feasible as fs
    >>> model = torch.nn.Linear(2, 1)
    >>> problem = fs.Problem(model)
    >>> _ = problem.constrain("weight", fs.NonNegative(), by=fs.Reparametrize("softplus"))
    >>> bool((model.weight > 0).all())
    True

    Source: the charts are textbook maps; the parametrization interface is ``torch.nn.utils.parametrize``.
    """

    chart: str | None = None
    revive: bool = False

    guarantee = "by construction"
    hard = True
    latent = True
    for_values = False
    needs = ("chart",)

    def objection(self, set: Set) -> str | None:
        """A set without a chart cannot be parametrized; an unknown chart is a ``ValueError`` at once."""
        objection = super().objection(set)
        if objection is None:
            try:
                set.chart(self.chart)
            except UnsupportedError as error:
                return str(error)
        return objection

    def start(self, x: Tensor, set: Set) -> Tensor:
        """The nearest member; the chart moves it inside where its boundary has no coordinates."""
        return set.project(x)

    def install(self, slot: Slot, set: Set) -> None:
        """One chart and one leaf of coordinates for all modules that own the weight."""
        for module, _ in slot.owners:
            remember_order(module)
        chart = set.chart(self.chart).to(slot.leaf.device)
        assert isinstance(chart, Chart)
        slot.install(chart)

    def uninstall(self, slot: Slot, set: Set) -> None:
        """The weight is a plain parameter again."""
        slot.bake()

    def acts_after_step(self, set: Set) -> bool:
        """Only to revive."""
        return self.revive

    def correct(self, slots: Sequence[Slot], moments: Moments, set: Set, step: int) -> None:
        """Lift flat entries that want to move inside, and keep all from fading beyond hearing."""
        for slot in slots:
            latent, chart = slot.leaf, slot.chart
            assert chart is not None
            chart.floor_(latent, torch.ones_like(latent, dtype=torch.bool), FAINT_SLOPE)
            if latent.grad is None:
                continue
            flat = chart.saturated(latent)
            lifted = latent.clone()
            chart.floor_(lifted, flat, DEAD_SLOPE)
            # Downhill, −gradient, must agree with the way that the lift goes.
            wanted = flat & ((lifted - latent) * -latent.grad > 0)
            chart.floor_(latent, wanted, DEAD_SLOPE)
            moments.clear(latent, wanted)
