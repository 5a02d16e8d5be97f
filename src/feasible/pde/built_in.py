"""Conditions that hold by construction: the network is wrapped so that whatever it computes satisfies them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from feasible.errors import UnsupportedError
from feasible.pde.condition import Condition, OnPart
from feasible.pde.conditions import Dirichlet, Initial, Neumann, Periodic, Robin
from feasible.pde.domains import Domain
from feasible.pde.plans import Axis, Plan, Side, enter
from feasible.pde.samplers import grid
from feasible.pde.values import is_by_row, known

__all__ = ["Hard", "hard"]

Model = Callable[..., Tensor]
AS_ROWS = "Rows of a System hold any condition: System(equation, domain, conditions)."
CHECKED = 5
"""Points along each direction of a face where conditions are compared."""


def hard(model: Model, *conditions: Condition, check: bool = True) -> Hard:
    """The model, changed so that the conditions hold exactly for all weights.

    ``u = G + H N``: G satisfies the conditions, and H maps any function to one that satisfies them with zeros
    instead of values. On a face at distance φ, H multiplies by φ for a value; for a slope it is
    ``(1 − φ²) N(on the face) + φ² N``, which loses no smooth solution and needs no derivative of N; a value and a slope
    together multiply by φ². Along each coordinate one such map, applied one after the other. The values inside
    are carried over by Hermite polynomials and, where faces meet, by Boolean sums. A Robin condition is a slope that
    takes the value on the face with it: in the place of 1 − φ² stands a polynomial with slope −α/β.

    A periodic coordinate is replaced by the sine and cosine of its angle ``2π (x − lower) / length``, in its place and
    in this order: the model then takes one column more, and u is periodic with all its derivatives.

    Args:
        model: of ``(x, *inputs)``, (n, m); a module, so that its parameters are found.
        conditions: ``Dirichlet``, ``Initial``, ``Neumann`` and ``Robin`` on faces, ``Dirichlet`` on a circle, and
            ``Periodic`` for coordinates without other conditions.
        check: compare the conditions where they meet (values must be functions of x alone).

    Returns:
        A module; ``derivatives`` works on it as on any other.

    Raises:
        UnsupportedError: a condition cannot be built in.
        ValueError: conditions belong to several domains, occur twice, or conflict where they meet.

    >>> from feasible import pde
    >>> line = pde.Interval(0, 1)
    >>> model = hard(nn.Linear(1, 1), pde.Dirichlet(line, "left", 2.0), pde.Neumann(line, "right", 3.0))
    >>> u = pde.derivatives(model, torch.tensor([[0.0], [1.0]]))
    >>> bool((u.value[0] - 2).abs() < 1e-6), bool((u.gradient[1] - 3).abs() < 1e-6)
    (True, True)

    Source: Lagaris, Likas & Fotiadis, *Artificial neural networks for solving ordinary and partial differential
    equations* (1998); Sukumar & Srivastava, *Exact imposition of boundary conditions with distance functions* (2022).
    """
    parts = [readable(condition) for condition in conditions]
    if not parts:
        raise ValueError("hard: expected at least one condition, got none.")
    domain = parts[0].domain
    for condition in parts:
        if condition.domain != domain:
            raise ValueError(f"hard: {condition.name} belongs to {condition.domain}, not to {domain}.")
    wrapped = Hard(model, domain, parts)
    if check:
        wrapped.compare()
    return wrapped


def readable(condition: Condition) -> OnPart:
    """A condition that can be built in.

    Raises:
        UnsupportedError: it cannot.
    """
    if not isinstance(condition, (Dirichlet, Neumann, Robin, Initial, Periodic)):
        raise UnsupportedError(
            f"hard: {condition.name} cannot be built into a network.\n"
            f"  Works with: Dirichlet, Neumann, Robin, Initial, Periodic. {AS_ROWS}"
        )
    is_curved = condition.domain.face(condition.part) is None
    if is_curved and not isinstance(condition, Dirichlet):
        raise UnsupportedError(
            f"hard: {condition.name} is on a curved part, where slopes cannot be built in.\n"
            f"  Works with: Dirichlet there; Neumann and Robin on the faces of intervals and rectangles. {AS_ROWS}"
        )
    if isinstance(condition.value, Tensor) and is_by_row(condition.value):
        raise UnsupportedError(
            f"hard: {condition.name} has its values at some points alone; what is built in holds at all points.\n"
            f"  Give a function of x. {AS_ROWS}"
        )
    if isinstance(condition, Periodic) and condition.component is not None:
        raise UnsupportedError(
            f"hard: {condition.name} is about one component, but all of them share the coordinate.\n  {AS_ROWS}"
        )
    return condition


@final
class Hard(nn.Module):
    """A model that satisfies conditions by construction; ``hard`` makes it.

    Args:
        model: the network.
        domain: where.
        conditions: that can be built in.
    """

    def __init__(self, model: Model, domain: Domain, conditions: Sequence[OnPart]) -> None:
        super().__init__()
        self.model = model
        self.domain = domain
        self.conditions = tuple(conditions)
        self._periodic = self._angles()
        components = {c.component for c in conditions}
        self._components = sorted(each for each in components if each is not None)
        self._plans = {c: self._plan(c) for c in [None, *self._components]}

    def forward(self, x: Tensor, *inputs: Any) -> Tensor:
        """``G + H N``."""
        found: dict[tuple[tuple[int, float], ...], Tensor] = {}

        def network(at: Tensor, key: tuple[tuple[int, float], ...]) -> Tensor:
            if key not in found:
                value = self.model(self._by_angle(at), *inputs)
                found[key] = value if value.dim() == 2 else value.unsqueeze(1)
            return found[key]

        if not self._components:
            return self._fitting(network(x, ()), self._plans[None].apply(network, x, inputs))
        whole = network(x, ())
        if self._components[-1] >= whole.shape[1]:
            raise ValueError(
                f"hard: a condition is about component {self._components[-1]}, the network has {whole.shape[1]}, 0 to "
                f"{whole.shape[1] - 1}."
            )
        columns = []
        for component in range(whole.shape[1]):
            plan = self._plans.get(component, self._plans[None])

            def one(at: Tensor, key: tuple[tuple[int, float], ...], number: int = component) -> Tensor:
                return network(at, key)[:, number : number + 1]

            columns.append(only(component, plan.apply(one, x, inputs)))
        return self._fitting(whole, torch.cat(columns, 1))

    @staticmethod
    def _fitting(network: Tensor, value: Any) -> Tensor:
        """The value, if it has as many components as the network.

        Raises:
            ValueError: it has more.
        """
        if value.shape[1] != network.shape[1]:
            raise ValueError(
                f"hard: the network has {network.shape[1]} components, the values that are built in have "
                f"{value.shape[1]}."
            )
        return cast(Tensor, value)

    @torch.no_grad()
    def compare(self) -> None:
        """Raise where conditions contradict each other on a part that they share.

        Raises:
            ValueError: they do.
        """
        for condition in self.conditions:
            x = grid(self.domain, CHECKED, condition.part, dtype=torch.float64)
            off = condition.raw(self._lift, x).abs()
            columns = 1 if condition.component is not None else self._lift(x).shape[1]
            size = 1 + float(known(condition.name, condition.value, x, (), columns).abs().max())
            if not bool((off <= 1e-6 * size).all()):
                row = int(off.amax(1).argmax())
                raise ValueError(
                    f"hard: {condition.name} conflicts with another condition where they meet, by "
                    f"{float(off.max()):.2g} at {x[row].tolist()}.\n"
                    "  Mend the values, or require one of them instead of building it in (check=False keeps the last)."
                )

    def _lift(self, x: Tensor) -> Tensor:
        """The conditions alone, without the network, for as many components as they speak of."""
        zero = torch.zeros_like(x[:, :1])
        lifts = {component: zero + plan.lift(x, ()) for component, plan in self._plans.items()}
        width = max(1 + max(self._components, default=0), *(each.shape[1] for each in lifts.values()))
        return torch.cat([only(number, lifts.get(number, lifts[None])) for number in range(width)], 1)

    def _angles(self) -> dict[int, tuple[float, float]]:
        """The periodic coordinates: where each begins, and how many turns a unit of it is.

        Raises:
            UnsupportedError: such a coordinate has other conditions, too.
        """
        found: dict[int, tuple[float, float]] = {}
        faces = [(each, self.domain.face(each.part)) for each in self.conditions]
        for condition, face in faces:
            if isinstance(condition, Periodic) and face is not None:
                if face.axis in found:
                    raise ValueError(f"hard: {condition.name} is given twice.")
                low, high = (corner[face.axis] for corner in self.domain.bounds)
                found[face.axis] = low, 1 / (high - low)
        for condition, face in faces:
            if not isinstance(condition, Periodic) and face is not None and face.axis in found:
                raise UnsupportedError(
                    f"hard: {condition.name} is on a face that a periodic coordinate does not have.\n"
                    f"  Build in one of them. {AS_ROWS}"
                )
        return found

    def _by_angle(self, x: Tensor) -> Tensor:
        """The coordinates, sines and cosines in the place of periodic ones."""
        if not self._periodic:
            return x
        columns = []
        for number in range(self.domain.dim):
            column = x[:, number : number + 1]
            if number in self._periodic:
                low, turns = self._periodic[number]
                angle = 2 * math.pi * turns * (column - low)
                columns += [torch.sin(angle), torch.cos(angle)]
            else:
                columns.append(column)
        return torch.cat(columns, 1)

    def _plan(self, component: int | None) -> Plan:
        """What is built in for one output."""
        shared = [c for c in self.conditions if not isinstance(c, Periodic)]
        own = [c for c in shared if c.component is None or c.component == component]
        axes: dict[int, Axis] = {}
        curved: Dirichlet | None = None
        for condition in own:
            face = self.domain.face(condition.part)
            if face is None:
                if curved is not None:
                    raise ValueError(f"hard: {condition.name} is given twice.")
                curved = cast(Dirichlet, condition)
                continue
            low, high = (corner[face.axis] for corner in self.domain.bounds)
            axis = axes.setdefault(face.axis, Axis(face.axis, low, high))
            side = next((s for s in axis.sides if s.face == face), None)
            if side is None:
                side = Side(face)
                axis.sides.append(side)
            enter(side, condition)
        # Slopes first: nothing has to be differentiated for the first coordinate.
        ordered = sorted(
            axes.values(), key=lambda axis: (all(s.slope is None for s in axis.sides), axis.number)
        )
        return Plan(ordered, curved, self.domain)


def only(component: int, rows: Any) -> Any:
    """One component; where all have the same, that."""
    return rows if rows.shape[1] == 1 else rows[:, component : component + 1]
