"""Time slabs: a domain cut along time, and a solution that consists of one model for each piece."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from feasible.errors import UnsupportedError
from feasible.pde.differentiation.jets import Jet
from feasible.pde.domains import Domain, Interval, TimeCylinder
from feasible.pde.inputs import taken

__all__ = ["Slabs", "Stretched", "slabs"]


def slabs(domain: Domain, count: int | Sequence[float]) -> tuple[Domain, ...]:
    """A domain, cut along time.

    Args:
        domain: a ``TimeCylinder``, or an ``Interval`` that is time.
        count: how many slabs of equal length, or the times between them.

    Raises:
        ValueError: the count is not positive, or the times do not rise inside the domain.
        UnsupportedError: the domain has no time.

    >>> from feasible import pde
    >>> slabs(pde.Interval(0, 3), 3)[1], slabs(pde.Interval(0, 3), [0.5])[1]
    (Interval(lower=1.0, upper=2.0), Interval(lower=0.5, upper=3.0))
    """
    begin, end = times(domain)
    if isinstance(count, int):
        if count < 1:
            raise ValueError(f"slabs: expected a positive number of slabs, got {count!r}.")
        inner = [begin + (end - begin) * k / count for k in range(1, count)]
    else:
        inner = [float(time) for time in count]
    edges = [begin, *inner, end]
    if not all(before < after for before, after in pairwise(edges)):
        raise ValueError(f"slabs: expected rising times between {begin:g} and {end:g}, got {inner}.")
    return tuple(between(domain, *pair) for pair in pairwise(edges))


def times(domain: Domain) -> tuple[float, float]:
    """When a domain begins and ends.

    Raises:
        UnsupportedError: it has no time.
    """
    if isinstance(domain, TimeCylinder):
        return float(domain.t0), float(domain.t1)
    if isinstance(domain, Interval):
        return float(domain.lower), float(domain.upper)
    raise UnsupportedError(
        f"slabs: {domain} has no time to cut.\n  Works with: TimeCylinder, and an Interval that is time."
    )


def between(domain: Domain, begin: float, end: float) -> Domain:
    """The part of a domain between two times."""
    if isinstance(domain, TimeCylinder):
        return replace(domain, t0=begin, t1=end)
    return replace(cast(Interval, domain), lower=begin, upper=end)


@final
class Stretched(nn.Module):
    """A model for one slab, which sees the slab's time stretched over that of the whole domain.

    ``u(x, t) = model(x, T₀ + (T₁ − T₀)(t − t₀)/(t₁ − t₀))``: a network whose scales suit the whole domain suits every
    slab, and weights carry over from one to the next.

    Args:
        model: of ``(x, *inputs)``; time is the last column of x.
        slab: where it is used.
        domain: the whole.

    >>> from feasible import pde
    >>> whole = pde.Interval(0, 4)
    >>> Stretched(nn.Identity(), pde.Interval(1, 2), whole)(torch.tensor([[1.0], [1.5], [2.0]])).T
    tensor([[0., 2., 4.]])
    """

    def __init__(self, model: nn.Module, slab: Domain, domain: Domain) -> None:
        super().__init__()
        self.model = model
        (begin, end), (first, last) = times(slab), times(domain)
        self.rate = (last - first) / (end - begin)
        self.shift = first - begin * self.rate

    def extra_repr(self) -> str:
        """The stretch."""
        return f"t ↦ {self.rate:g} t {self.shift:+g}"

    def forward(self, x: Tensor, *inputs: Any) -> Tensor:
        """The model at the stretched time."""
        time = self.rate * x[:, -1:] + self.shift
        return cast(Tensor, self.model(torch.cat([x[:, :-1], time], 1), *inputs))


@final
class Slabs(nn.Module):
    """A function of space and time that consists of one model for each time slab.

    It evaluates everywhere, derivatives too, and can be handed to ``System.report``. A point on an interface belongs
    to the earlier slab; before the first and after the last slab their models go on.

    Args:
        edges: the times at which slabs begin and end, rising; one more than models.
        models: of ``(x, *inputs)``; time is the last column of x.

    Raises:
        ValueError: edges do not rise, or are not one more than the models.

    >>> steps = Slabs([0.0, 1.0, 3.0], [nn.Identity(), nn.Softplus()])
    >>> steps(torch.tensor([[2.0], [1.0], [0.5]])).round(decimals=4)
    tensor([[2.1269],
            [1.0000],
            [0.5000]])
    >>> steps.jumps(torch.empty(1, 0)).round(decimals=4)
    tensor([[[0.3133]]])
    """

    def __init__(self, edges: Sequence[float], models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.edges = tuple(float(edge) for edge in edges)
        rises = all(a < b for a, b in pairwise(self.edges))
        if (
            not models
            or len(self.edges) != len(models) + 1
            or not rises
            or not math.isfinite(sum(self.edges))
        ):
            raise ValueError(
                f"Slabs: expected models and one more finite, rising edges; got {len(models)} models and {self.edges}."
            )
        self.models = nn.ModuleList(models)

    def forward(self, x: Tensor, *inputs: Any) -> Tensor:
        """Each point by the model of its slab."""
        time = plain(x)[:, -1].detach().contiguous()
        number = torch.bucketize(time, torch.tensor(self.edges[1:-1], dtype=time.dtype, device=time.device))
        order = number.argsort(stable=True)
        counts = torch.bincount(number, minlength=len(self.models)).tolist()
        parts = [
            model(x[rows], *taken(inputs, rows))
            for model, rows in zip(self.models, torch.split(order, counts), strict=True)
            if len(rows) or not len(time)
        ]
        return torch.cat(parts)[order.argsort()]

    @torch.no_grad()
    def jumps(self, x: Tensor, *inputs: Any) -> Tensor:
        """By how much the solution jumps at each interface, (interfaces, n, components).

        Args:
            x: places, (n, dim) without time; for an equation in time alone (1, 0).
            inputs: of the models, one row for each place.
        """
        found = []
        for edge, before, after in zip(self.edges[1:-1], self.models[:-1], self.models[1:], strict=True):
            at = torch.cat([x, x.new_full((len(x), 1), edge)], 1)
            found.append(after(at, *inputs) - before(at, *inputs))
        return torch.stack(found) if found else x.new_empty(0, len(x), 1)


def plain(x: Tensor | Jet) -> Tensor:
    """The values of points that may carry derivatives."""
    return x.value if isinstance(x, Jet) else x
