"""The clock: hooks around an optimizer's step, and when a step counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from feasible.errors import UnsupportedError
from feasible.methods.method import Method
from feasible.methods.moments import Moments
from feasible.methods.slot import Slot
from feasible.optim.constrained import TakesSets
from feasible.problem.constraint import Constraint
from feasible.problem.exact_steps import ExactSteps
from feasible.problem.measures import Reading
from feasible.problem.ranks import is_distributed
from feasible.problem.window import Moment
from feasible.sets import Set


@dataclass(eq=False)
class Group:
    """Weights of one set, method, device, dtype and age (and rate): they are projected together."""

    method: Method
    set: Set
    constraints: list[Constraint]
    slots: list[Slot]
    _raw: dict[int, Tensor] = field(default_factory=dict)
    """Memory for the gradients as they were: fresh memory at every step would cost more than the copy."""

    def replace_gradients(self, optimizer: Optimizer) -> None:
        """Show the optimizer what the method puts in the place of the gradients."""
        # Under a fused scaler gradients are still scaled here; the set maps descent directions in true units.
        scale = getattr(optimizer, "grad_scale", None)
        plain_weights, plain_gradients = [], []
        for constraint, slot in zip(self.constraints, self.slots, strict=True):
            weight = slot.leaf
            grad = weight.grad
            if grad is None:
                continue
            sign = constraint.sign
            if scale is not None or sign < 0 or grad.is_sparse:
                self._replace_one(constraint, weight, grad, sign, scale)
                continue
            if not self.set.separable:
                constraint.raw_gradient = self._copy(slot, grad)
            plain_weights.append(weight)
            plain_gradients.append(grad)
        if plain_weights:
            self.method.gradient_(plain_weights, plain_gradients, self.set, self._rate)

    def _replace_one(
        self, constraint: Constraint, weight: Tensor, grad: Tensor, sign: float, scale: Tensor | None
    ) -> None:
        """Sparse, scaled or ascended gradients: to a dense descent direction in true units and back."""
        factor = sign if scale is None else sign / scale
        dense = (grad.to_dense() if grad.is_sparse else grad) * factor
        constraint.raw_gradient = dense.clone()
        self.method.gradient_([weight], [dense], self.set, self._rate)
        dense = dense / factor
        if grad.is_sparse:
            indices = grad.coalesce().indices()
            weight.grad = torch.sparse_coo_tensor(
                indices, dense[tuple(indices)], grad.shape, is_coalesced=True, check_invariants=False
            )
        else:
            grad.copy_(dense)

    @property
    def _rate(self) -> float:
        """The learning rate; a rate in a tensor would have to be read back, and counts as small."""
        rate = self.constraints[0].options.get("lr", 0.0)
        return 0.0 if isinstance(rate, Tensor) else float(rate)

    def _copy(self, slot: Slot, grad: Tensor) -> Tensor:
        kept = self._raw.get(id(slot))
        if kept is None or kept.shape != grad.shape or kept.dtype != grad.dtype:
            kept = self._raw[id(slot)] = torch.empty_like(grad)
        return kept.copy_(grad)


@dataclass(eq=False)
class Attachment:
    """One optimizer, its hooks, and the weights it owns."""

    optimizer: Optimizer
    moments: Moments
    hooks: list[RemovableHandle] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    mapping: list[Group] = field(default_factory=list)
    closure_runs: int = 0
    searches: bool = False
    """Whether a step has ever run its closure more than once: such an optimizer minimises within its steps,
    and one that is content with a single run has already arrived."""
    planned_for: int = -1
    handed: list[Constraint] = field(default_factory=list)
    """Constraints whose weights the optimizer holds in their sets by itself."""
    held: list[Tensor] = field(default_factory=list)
    """The constrained weights that took no gradients when the constraints last changed."""
    exact: ExactSteps | None = None
    """What acts on the step itself, where anything does."""
    holder: TakesSets | None = field(init=False)
    """The optimizer, if it holds weights in sets by itself."""

    def __post_init__(self) -> None:
        self.holder = self.optimizer if isinstance(self.optimizer, TakesSets) else None

    def parameters(self) -> list[Tensor]:
        """Everything that the optimizer steps."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def plan(self, constraints: Sequence[Constraint]) -> None:
        """Group what this optimizer owns; called again whenever constraints or parameter groups change."""
        options = {
            id(parameter): group for group in self.optimizer.param_groups for parameter in group["params"]
        }
        owned = []
        for constraint in constraints:
            if constraint.slot is not None and id(constraint.slot.refresh()) in options:
                constraint.follow_weight()
                constraint.options = options[id(constraint.slot.leaf)]
                owned.append(constraint)
        self.hand_over(owned)
        self.groups = group_weights([constraint for constraint in owned if constraint not in self.handed])
        self.mapping = [group for group in self.groups if group.method.replaces_gradients(group.set)]
        self.planned_for = len(self.optimizer.param_groups)

    def hand_over(self, constraints: Sequence[Constraint]) -> None:
        """Let an optimizer that can hold weights in sets do so; it lets go those that it held before."""
        if self.holder is None:
            return
        before = [constraint.slot.leaf for constraint in self.handed if constraint.slot is not None]
        self.handed = [c for c in constraints if c.enabled and c.method.holds and _can_hold(self.holder, c)]
        now = []
        for constraint in self.handed:
            assert constraint.slot is not None
            now.append(constraint.slot.leaf)
            self.holder.constrain_(constraint.slot.leaf, constraint.bound)
        for leaf in before:
            is_own = any(leaf is parameter for parameter in self.parameters())
            if is_own and not any(leaf is other for other in now):
                self.holder.constrain_(leaf, None)

    def note_gradients(self) -> None:
        """The gradients of weights that the optimizer holds itself are what the report wants to see."""
        for constraint in self.handed:
            assert constraint.slot is not None
            grad = constraint.slot.leaf.grad
            plain = None if grad is None or grad.is_sparse else grad
            constraint.raw_gradient = plain if plain is None or constraint.sign > 0 else -plain

    def forget_held(self, constraints: Sequence[Constraint]) -> None:
        """Weights that take no gradients from now on must not be moved by what the optimizer remembers."""
        known = {id(weight) for weight in self.held}
        constrained = {id(c.slot.leaf) for c in constraints if c.slot is not None and c.enabled}
        self.held = [p for p in self.parameters() if not p.requires_grad and id(p) in constrained]
        if any(id(weight) not in known for weight in self.held):
            self.moments.forget_curvature()

    def replace_gradients(self) -> None:
        """Before the step."""
        if self.exact is not None:
            self.exact.replace_gradients()
        with torch.no_grad():
            for group in self.mapping:
                group.replace_gradients(self.optimizer)

    def correct(self, skipped: Tensor | None) -> None:
        """After the step; ``skipped``: a mask on the device, where only that knows whether there was one."""
        correct(self.groups, self.moments, skipped)


def _can_hold(optimizer: TakesSets, constraint: Constraint) -> bool:
    """Whether the optimizer takes the set; weights without gradients stay where they are under any."""
    assert constraint.slot is not None
    return constraint.slot.leaf.requires_grad or optimizer.objection(constraint.bound) is None


def group_weights(constraints: Sequence[Constraint]) -> list[Group]:
    """Constraints on weights whose method acts around the step, by all that lets them be treated at once."""
    groups: dict[tuple[Any, ...], Group] = {}
    for constraint in constraints:
        method, slot = constraint.method, constraint.slot
        if slot is None or not constraint.enabled:
            continue
        replaces = method.replaces_gradients(constraint.bound)
        if not (replaces or method.acts_after_step(constraint.bound)):
            continue
        rates = id(constraint.options) if replaces else None
        key = (method, constraint.bound, slot.leaf.device, slot.leaf.dtype, rates, constraint.ticks)
        group = groups.setdefault(key, Group(method, constraint.bound, [], []))
        group.constraints.append(constraint)
        group.slots.append(slot)
    return list(groups.values())


def correct(groups: Sequence[Group], moments: Moments, skipped: Tensor | None = None) -> None:
    """Let every method mend its weights."""
    with torch.no_grad():
        for group in groups:
            step = group.constraints[0].ticks  # the same for all of them
            if not group.method.corrects(step):
                continue
            is_kept = skipped is not None and not group.method.repeatable
            before = [slot.leaf.clone() for slot in group.slots] if is_kept else []
            group.method.correct(group.slots, moments, group.set, step)
            for slot, weight in zip(group.slots, before, strict=False):
                assert skipped is not None
                slot.leaf.copy_(torch.where(skipped, weight, slot.leaf))


class Skips:
    """Steps that a fused optimizer skipped by itself, as ``optimizer.found_inf`` tells without blocking."""

    def __init__(self) -> None:
        self._pending: list[tuple[Tensor, Any]] = []

    def of(self, optimizer: Optimizer) -> tuple[bool, Tensor | None]:
        """Whether the step is known to be skipped, and else a mask that the device will know."""
        found = getattr(optimizer, "found_inf", None)
        if found is None:
            return False, None
        if found.device.type == "cpu":
            return bool(found), None
        mask = found.reshape(()) > 0
        host = torch.empty((), dtype=torch.bool, pin_memory=True)
        host.copy_(mask, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._pending.append((host, event))
        return False, mask

    def known(self) -> int:
        """How many earlier steps turned out to be skipped, as far as the device has told by now."""
        done = [(host, event) for host, event in self._pending if event.query()]
        self._pending = [pair for pair in self._pending if pair not in done]
        return sum(bool(host) for host, _ in done)


class Clock:
    """Attached optimizers, the window they open and close, and the tick."""

    def __init__(
        self, tick: Callable[[bool, Tensor | None], None], constraints: Callable[[], Sequence[Constraint]]
    ) -> None:
        self.moment = Moment()
        self.attachments: dict[Optimizer, Attachment] = {}
        self.leader: Attachment | None = None
        """The attachment whose steps move multipliers and schedules."""
        self.skips = Skips()
        self._tick = tick
        self._constraints = constraints
        self._backward_ran = False
        self._closures = 0

    @property
    def optimizers(self) -> list[Optimizer]:
        """What is attached."""
        return list(self.attachments)

    @property
    def plain_rate(self) -> float | None:
        """The rate of plain gradient steps, momentum included; ``None`` where an optimizer finds its own."""
        if self.leader is None or not isinstance(self.leader.optimizer, torch.optim.SGD):
            return None
        groups = self.leader.optimizer.param_groups
        rates = [float(group["lr"]) / max(1 - float(group["momentum"]), 1e-3) for group in groups]
        return max(rates)

    # -- windows -----------------------------------------------------------------------------------

    def open_window(self) -> None:
        """Called by ``loss``: drop what a step that never came has left behind."""
        self.moment.call += 1
        if self.moment.closure is None and self._backward_ran and self._no_gradients():
            self.close_window()

    def linearise(self, read: Sequence[tuple[Constraint, Reading]]) -> None:
        """Called by ``loss``: take the Jacobians of values whose method acts on the step of the clock optimizer.

        Raises:
            UnsupportedError: several processes train together.
        """
        for constraint, reading in read:
            if constraint.method.linearises and self.leader is not None:
                if is_distributed():
                    raise UnsupportedError(
                        f"{type(constraint.method).__name__} on {constraint.name}: every rank would solve for its own "
                        "rows, and their weights would drift apart.\n  Use AugmentedLagrangian across processes."
                    )
                parameters = [p for p in self.leader.parameters() if p.requires_grad]
                constraint.linearised.record(constraint, reading, parameters, self.moment)

    def _prepare_exact(self, attachment: Attachment) -> None:
        chosen = [c for c in self._constraints() if c.enabled and c.method.linearises]
        attachment.exact = None
        if chosen and attachment is self.leader:
            attachment.exact = ExactSteps(attachment.optimizer, attachment.moments, self.moment)
            attachment.exact.constraints = chosen
            attachment.exact.start()

    def watch(self, loss: Tensor) -> None:
        """Notice when a backward pass goes through this loss (a hook on its node is the cheapest there is)."""
        if loss.grad_fn is not None:
            loss.grad_fn.register_prehook(partial(self._mark_backward, self.moment.call))

    def _mark_backward(self, call: int, gradients: object) -> None:
        self._backward_ran = True
        self.moment.backed.add(call)

    def _no_gradients(self) -> bool:
        # Without an attached optimizer nobody says which gradients count: only the tick closes the window.
        return bool(self.attachments) and all(
            p.grad is None for attachment in self.attachments.values() for p in attachment.parameters()
        )

    def close_window(self) -> None:
        """Called by the tick."""
        self.moment.window += 1
        self.moment.backed.clear()
        self._backward_ran = False

    # -- hooks -------------------------------------------------------------------------------------

    def attach(self, optimizer: Optimizer, leads: bool) -> Attachment:
        """Follow the optimizer's steps, once it is hooked."""
        attachment = self.attachments[optimizer] = Attachment(optimizer, Moments(optimizer))
        attachment.forget_held(self._constraints())
        if leads or self.leader is None:
            self.leader = attachment
        return attachment

    def hook(self, attachment: Attachment) -> None:
        """Hook into the optimizer's steps."""
        attachment.hooks = [
            attachment.optimizer.register_step_pre_hook(self._before_step),
            attachment.optimizer.register_step_post_hook(self._after_step),
        ]

    def detach(self, optimizer: Optimizer) -> None:
        """Remove the hooks; if the optimizer was the clock, the next one attached becomes it."""
        attachment = self.attachments.pop(optimizer)
        for hook in attachment.hooks:
            hook.remove()
        attachment.hand_over([])
        if self.leader is attachment:
            self.leader = next(iter(self.attachments.values()), None)

    def replan(self) -> None:
        """Constraints have come or gone."""
        for attachment in self.attachments.values():
            attachment.planned_for = -1
            attachment.forget_held(self._constraints())

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        attachment = self.attachments[optimizer]
        if attachment.planned_for != len(optimizer.param_groups):
            attachment.plan(self._constraints())
        attachment.closure_runs = 0
        self._prepare_exact(attachment)
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            if attachment.mapping or attachment.exact is not None:
                attachment.replace_gradients()
            return None
        wrapped = self._wrap(closure, attachment)
        if len(args) > 1:
            return (args[0], wrapped, *args[2:]), kwargs
        return args, {**kwargs, "closure": wrapped}

    def _wrap(self, closure: Callable[[], Any], attachment: Attachment) -> Callable[[], Any]:
        """The closure with its values recorded as one evaluation and its gradients replaced at the end."""
        self._closures += 1
        number = self._closures

        def run() -> Any:
            attachment.closure_runs += 1
            attachment.searches |= attachment.closure_runs > 1
            self.moment.closure = number
            try:
                result = closure()
            except BaseException:
                self.close_window()  # this step will never come: its values go with it
                raise
            finally:
                self.moment.closure = None
            attachment.replace_gradients()
            return result

        return run

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        attachment = self.attachments[optimizer]
        skipped, mask = self.skips.of(optimizer)
        if attachment.exact is not None and not skipped:
            attachment.exact.finish(mask)
        if attachment.groups and not skipped:
            attachment.correct(mask)
        attachment.note_gradients()
        if attachment is not self.leader:
            return
        if skipped:
            self.close_window()
        else:
            searches = attachment.searches if attachment.holder is None else attachment.holder.searches
            self._tick(searches and attachment.closure_runs > 0, mask)
