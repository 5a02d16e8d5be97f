"""Steps of an optimizer that exact multipliers bring to the constraints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from feasible.methods.moments import Moments
from feasible.methods.multiplier_system import Rows, Solution
from feasible.problem.linearised import form_of, projection
from feasible.problem.window import Moment

if TYPE_CHECKING:
    from feasible.methods.exact_multipliers import ExactMultipliers
    from feasible.problem.constraint import Constraint


class Part(NamedTuple):
    """One constraint in a system."""

    constraint: Constraint
    value: Tensor
    jacobian: Tensor
    share: float


class ExactSteps:
    """The constraints of one optimizer that act on its steps.

    The optimizer takes its own step, whatever it makes of gradients; what it moved stands for ``−P ∇f``. Then
    ``−P Jᵀλ`` is added, with the P that it used. Where P is to be the identity, gradients are replaced before.
    """

    def __init__(self, optimizer: Optimizer, moments: Moments, moment: Moment) -> None:
        self.optimizer, self.moments, self.moment = optimizer, moments, moment
        self.constraints: list[Constraint] = []
        self._before: Tensor | None = None

    def parameters(self) -> list[Tensor]:
        """What the optimizer moves."""
        return [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]

    @property
    def rate(self) -> float:
        """The largest learning rate of the groups: a contraction is counted in it."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    # -- before the step ----------------------------------------------------------------------------

    @torch.no_grad()
    def start(self) -> None:
        """Keep the weights as they are; refuse a rate that cannot be right before anything moves."""
        for constraint in self.constraints:
            method_of(constraint).contraction(constraint.ticks, self.rate)
        if any(method_of(c).preconditioner == "optimizer" for c in self.constraints):
            self._before = flat(self.parameters())

    @torch.no_grad()
    def replace_gradients(self) -> None:
        """``∇f + Jᵀλ`` with P = 1, for the constraints that want it so."""
        chosen = [c for c in self.constraints if method_of(c).preconditioner == "identity"]
        rate, parameters = self.rate, self.parameters()
        if not chosen or rate == 0:
            return
        scale = getattr(self.optimizer, "grad_scale", None)
        factor = 1.0 if scale is None else 1 / scale
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        gradient = flat(gradients) * factor
        force = torch.zeros_like(gradient)
        for found in self._solved(chosen, -rate * gradient, torch.full_like(gradient, rate).sqrt()):
            force += found.force.mean(0) / rate**0.5
        for parameter, own in zip(parameters, pieces(force / factor, parameters), strict=True):
            parameter.grad = own.clone() if parameter.grad is None else parameter.grad.add_(own)

    # -- after the step -----------------------------------------------------------------------------

    @torch.no_grad()
    def finish(self, skipped: Tensor | None) -> None:
        """Add ``−P Jᵀλ``, and ``Jᵀλ`` to the gradients that the report looks at."""
        chosen = [c for c in self.constraints if method_of(c).preconditioner == "optimizer"]
        before, self._before = self._before, None
        parameters = self.parameters()
        if not chosen or before is None or self.rate == 0:
            return
        moved = flat(parameters) - before
        root = self._root()
        step, force = torch.zeros_like(moved), torch.zeros_like(moved)
        for found in self._solved(chosen, moved, root):
            pull = found.force.mean(0)
            step += root * pull
            force += torch.where(root > 0, pull / root, 0.0)
        if skipped is not None:
            step = torch.where(skipped, 0.0, step)
        for parameter, own, gained in zip(
            parameters, pieces(step, parameters), pieces(force, parameters), strict=True
        ):
            parameter.sub_(own)
            if parameter.grad is not None and not parameter.grad.is_sparse:
                parameter.grad.add_(gained)

    def _root(self) -> Tensor:
        """√P of every weight; 0 where the optimizer has not moved it."""
        found = []
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:
                    P = self.moments.preconditioner(parameter, group)
                    found.append(torch.zeros_like(parameter) if P is None else P)
        return flat(found).sqrt_()

    # -- systems ------------------------------------------------------------------------------------

    def _solved(self, constraints: Sequence[Constraint], moved: Tensor, root: Tensor) -> list[Solution]:
        """The solutions of all systems; constraints with the same settings share one."""
        together: dict[object, list[Part]] = {}
        for constraint in constraints:
            method, linear = method_of(constraint), constraint.linearised
            system = linear.system(constraint, self.moment)
            share = method.contraction(constraint.ticks, self.rate)
            if system is None or share == 0 or system[1].shape[-1] != len(moved):
                continue
            own = constraint.name if form_of(constraint) == "sample" else ""
            key = (method.damping, method.truncation, method.projecting, own)
            together.setdefault(key, []).append(Part(constraint, *system, share))
        return [
            found for parts in together.values() if (found := self._solve(parts, moved, root)) is not None
        ]

    def _solve(self, parts: Sequence[Part], moved: Tensor, root: Tensor) -> Solution | None:
        method = method_of(parts[0].constraint)
        rows = stacked(parts, method.projecting)
        found = method.direction(rows, moved.to(rows.value.dtype), root.to(rows.value.dtype))
        # Nothing that is broken moves a weight; one sum tells of all.
        if not bool(found.force.sum().isfinite() & found.multiplier.sum().isfinite()):
            return None
        start = 0
        for part in parts:
            stop = start + part.value.shape[-1]
            self._note(part.constraint, found, found.multiplier[:, start:stop], method.damping_of(rows))
            start = stop
        return found

    def _note(self, constraint: Constraint, found: Solution, multiplier: Tensor, damping: float) -> None:
        if form_of(constraint) != "reduced":
            multiplier = multiplier.reshape(constraint.linearised.shape)
            if "multiplier" in constraint.state:
                constraint.state["multiplier"] = multiplier.to(constraint.state["multiplier"])
        else:
            multiplier = multiplier.reshape(())
        constraint.linearised.note(found, multiplier, damping)


def method_of(constraint: Constraint) -> ExactMultipliers:
    """Its method, which acts on the step."""
    return constraint.method  # type: ignore[return-value]


def stacked(parts: Sequence[Part], projecting: bool) -> Rows:
    """All rows of some constraints, one after the other; each constraint in units of its own."""
    projections = [
        projection(part.constraint, part.value, part.constraint.linearised.shape) for part in parts
    ]
    sizes = [part.value.shape[-1] for part in parts]
    values = torch.cat([part.value for part in parts], -1)
    share = torch.cat([values.new_full((size,), part.share) for part, size in zip(parts, sizes, strict=True)])

    def project(x: Tensor) -> Tensor:
        columns = zip(projections, torch.split(x, sizes, -1), strict=True)
        return torch.cat([torch.zeros_like(y) if own is None else own(y) for own, y in columns], -1)

    is_free = all(own is None for own in projections)
    return Rows(
        values,
        torch.cat([part.jacobian for part in parts], -2),
        share,
        None if is_free else project,
        projecting,
    )


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All entries in a row, in float32 at least."""
    row = torch.cat([tensor.reshape(-1) for tensor in tensors])
    return row.to(torch.promote_types(row.dtype, torch.float32))


def pieces(row: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The same row in the shapes and dtypes of the weights."""
    parts = torch.split(row, [tensor.numel() for tensor in like])
    return [part.reshape(tensor.shape).to(tensor) for part, tensor in zip(parts, like, strict=True)]
