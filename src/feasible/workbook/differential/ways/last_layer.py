"""Random features and one linear solve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

import feasible as fs
from feasible import pde
from feasible.workbook.differential.checks import above_zero, at_least
from feasible.workbook.differential.monitor import Monitor
from feasible.workbook.differential.networks.network import ACTIVATIONS
from feasible.workbook.differential.problems.problem import Posed
from feasible.workbook.differential.rows import Rows, averaged
from feasible.workbook.differential.ways.way import Solved, Way

__all__ = ["LastLayer"]

PART = 1000
"""Rows whose Jacobian is there at a time; larger parts are slower, for they leave the cache."""


@final
@dataclass(frozen=True)
class LastLayer(Way):
    """Hidden layers stay as they are drawn; the last one solves all rows by ``project_parameters``.

    Where the problem is linear it is one rank-revealing solve, else Gauss–Newton steps, which also find unknown
    coefficients. Rows that cannot all hold are solved by least squares.

    Args:
        spread: whether ``pde.init_features_`` spreads the features of a single hidden layer over the domain before
            the solve. Their scale is found by a search where the problem is linear, and by a rule of thumb where it is
            not. Deeper networks stay as they are.
        scale: in the place of the search; one number, or one for each input.
        ridge: rows ``ridge · c = 0`` beside the others keep the last layer's weights c small: a smooth solution
            where no other row sees it.

    Raises:
        InputError: a scale is not positive, or the ridge is negative.
    """

    spread: bool = True
    scale: float | tuple[float, ...] | None = None
    ridge: float = 0.0

    def __post_init__(self) -> None:
        above_zero(self, "scale")
        at_least(self, ridge=0)

    def solve(self, posed: Posed, network: nn.Module, monitor: Monitor, generator: torch.Generator) -> Solved:
        """Features, then the solve."""
        monitor.look(network, 0)
        solved_for = ["*readout.*", *posed.unknowns]
        constraints: list[Any] = [
            (partial(_share, part, len(part) / len(rows)), fs.Equal(0.0))
            for rows in posed.rows
            for part in rows.parts(PART)
        ]
        if self.ridge:
            constraints.append((partial(_weighed, self.ridge), fs.Equal(0.0)))
        if self.spread:
            with monitor.section("features"):
                self._spread(posed, network, constraints, generator)
        sets = [(name, unknown.set) for name, unknown in posed.unknowns.items()]
        with monitor.section("solve"):
            result = fs.project_parameters(network, [*constraints, *sets], solved_for)
        monitor.look(network, 1)
        rank = "" if result.rank is None else f", rank {result.rank}"
        return Solved(network, ("one solve" if result.is_affine else "Gauss–Newton") + rank)

    def _spread(
        self, posed: Posed, network: nn.Module, constraints: list[Any], generator: torch.Generator
    ) -> None:
        layer, activation = _only_hidden(network)
        if layer is None or activation is None:
            if self.scale is not None:
                raise ValueError("LastLayer: a scale needs a network with one hidden layer.")
            return
        is_searched = self.scale is None and posed.is_linear
        search: dict[str, Any] = {"model": network, "constraints": constraints, "parameters": "*readout.*"}
        pde.init_features_(
            layer, _box(posed), self.scale, activation=activation, generator=generator,
            **(search if is_searched else {}),
        )  # fmt: skip


def _only_hidden(network: nn.Module) -> tuple[nn.Linear | None, str | None]:
    """The hidden layer and the name of its activation, where there is just one."""
    modules = {name.rpartition(".")[2]: module for name, module in network.named_modules()}
    layer = modules.get("hidden1")
    if "hidden2" in modules or not isinstance(layer, nn.Linear):
        return None, None
    behind = modules.get("activation1")
    return layer, next((name for name, kind in ACTIVATIONS.items() if isinstance(behind, kind)), None)


def _weighed(ridge: float, model: nn.Module) -> Tensor:
    """The last layer's weights, times the ridge."""
    weights = [parameter for name, parameter in model.named_parameters() if "readout" in name]
    return ridge * torch.cat([weight.reshape(-1) for weight in weights])


def _share(part: Rows, share: float, model: nn.Module) -> Tensor:
    """Some of the rows whose mean square counts: so much of them all."""
    return math.sqrt(share) * averaged(part, model)


def _box(posed: Posed) -> Any:
    """Where the features are spread: over the domain and, beside it, over the inputs of the equation's rows."""
    if not posed.inputs:
        return posed.domain
    width = posed.test[0].shape[1] + posed.inputs
    columns = [torch.cat(rows.columns, 1)[:, :width] for rows in posed.of_kind("equation")]
    places = torch.cat(columns)
    return places.amin(0), places.amax(0)
