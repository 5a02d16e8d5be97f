"""What every method is: a frozen specification of how a constraint is enforced."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from feasible.methods.moments import Moments
from feasible.methods.slot import Slot
from feasible.sets import Set
from feasible.sets.set import needed_fields

State = dict[str, Tensor]
"""Everything a method remembers about one constraint: saved and moved with the problem."""

Guarantee = Literal["by construction", "projected", "encouraged"]


class Pull(NamedTuple):
    """What a method adds to the loss at one point: a value, and its gradient with respect to the point."""

    amount: Tensor
    gradient: Tensor


@dataclasses.dataclass(frozen=True)
class Method(ABC):
    """A way to enforce ``value ∈ set``; the verbs that a method does not need stay empty.

    A method never keeps state of its own: ``bind`` makes it, the problem holds it, and ``update`` returns
    the next one.
    """

    guarantee: ClassVar[Guarantee] = "encouraged"
    """What the method promises of a weight; the report checks it."""
    holds: ClassVar[bool] = False
    """Whether it does nothing but keep a weight in its set, which some optimizers do better by themselves."""
    hard: ClassVar[bool] = False
    """Whether it moves the weight itself: at most one such method per tensor."""
    latent: ClassVar[bool] = False
    """Whether it puts other coordinates under the weight, before the optimizer is made."""
    for_values: ClassVar[bool] = True
    """Whether it can serve a value that a training step computes, not only a weight."""
    for_weights: ClassVar[bool] = True
    """Whether it can serve a weight, not only a value."""
    linearises: ClassVar[bool] = False
    """Whether it acts on the step by the value's Jacobian, and adds nothing to the loss."""
    has_multiplier: ClassVar[bool] = False
    """Whether it learns a multiplier; over samples it then works on their reduced distance."""
    needs: ClassVar[tuple[str, ...]] = ()
    """The optional functions of a set that it uses."""
    on_saturation: ClassVar[str] = "are saturated and no longer learn; Reparametrize(revive=True)"
    """What the report says of entries that no longer answer to their coordinates."""
    repeatable: ClassVar[bool] = True
    """Whether ``correct`` a second time in the same step changes nothing more, as projecting twice."""
    convex_only: ClassVar[bool] = False
    """Whether a non-convex set is refused rather than served as a heuristic."""

    @classmethod
    def example(cls) -> Method:
        """A method of this kind for tables of what there is: 1 for every number that it needs."""
        return cls(**dict.fromkeys(needed_fields(cls), 1.0))

    @property
    def automatic(self) -> bool:
        """Whether the user left its numbers to the problem, which then chooses the units of distances."""
        return False

    # -- before training ---------------------------------------------------------------------------

    def objection(self, set: Set) -> str | None:
        """Why this method cannot serve the set, in half a sentence; ``None`` where it can."""
        for capability in self.needs:
            if not set.offers(capability):
                return f"it needs the set's {capability}, which {set!r} does not have"
        if self.convex_only and not set.convex:
            return f"it needs a convex set, and {set!r} is not"
        return None

    def bind(self, value: Tensor, set: Set) -> State:
        """The state before the first step, for a value of this shape."""
        return {}

    def start(self, x: Tensor, set: Set) -> Tensor:
        """Where a weight begins; ``x`` itself where nothing has to move."""
        return x

    def install(self, slot: Slot, set: Set) -> None:
        """Change how the weight is stored."""

    def uninstall(self, slot: Slot, set: Set) -> None:
        """Take back what ``install`` did; the weight keeps its value."""

    def settle(self, slot: Slot, set: Set) -> Tensor:
        """What the weight becomes at the end of the training; what it is now, unless the method projects."""
        x = slot.value().detach()
        return self.start(x, set) if self.guarantee == "projected" else x

    def guarantee_at(self, step: int) -> Guarantee:
        """What is promised of a weight after so many steps; less than ``guarantee`` while a schedule runs."""
        return self.guarantee

    def stage(self, step: int) -> str:
        """How far a schedule is after so many steps, for the report; empty where there is nothing to say."""
        return ""

    # -- in the loss -------------------------------------------------------------------------------

    def pull(self, mean: Tensor, set: Set, state: State, step: int) -> Pull | None:
        """Value and gradient of the term at ``mean``; ``None``: this method adds nothing to the loss."""
        return None

    def update(
        self, mean: Tensor, set: Set, state: State, step: int, full: bool, pull: Pull | None = None
    ) -> State:
        """The tensors of the state that change when the clock has ticked.

        ``full``: take the whole step. ``pull``: what ``pull`` returned for this very mean and state, if it
        is still known.
        """
        return {}

    def multiplier(self, mean: Tensor, set: Set, state: State) -> Tensor | None:
        """The multiplier of the value, in its shape and in the normal cone, if the method has one."""
        return state.get("multiplier")

    # -- around the optimizer's step, for all weights of one set at once ------------------------------

    def gradient_(self, points: Sequence[Tensor], gradients: Sequence[Tensor], set: Set, rate: float) -> None:
        """Replace, in place, what the optimizer is shown as the gradients; ``rate`` is its learning rate."""

    def acts_after_step(self, set: Set) -> bool:
        """Whether ``correct`` ever has anything to do."""
        return type(self).correct is not Method.correct

    def corrects(self, step: int) -> bool:
        """Whether ``correct`` is due after this step."""
        return True

    def replaces_gradients(self, set: Set) -> bool:
        """Whether ``gradient_`` has anything to do."""
        return False

    def correct(self, slots: Sequence[Slot], moments: Moments, set: Set, step: int) -> None:
        """Mend the weights in place after the optimizer has moved them, in step number ``step`` (from 0)."""

    def follow(self, slot: Slot, set: Set, step: int) -> None:
        """Bring how the weight is stored to where a schedule is after so many steps.

        Called when the weight is declared, after every tick of the clock, and when a checkpoint is loaded.
        """


def annealing(step: int, steps: int) -> str:
    """The stage of a method that rounds after so many steps."""
    return f"annealing: {step:,} of {steps:,} steps; finish() rounds" if step < steps else ""


def attach_gradient(value: Tensor, pull: Pull) -> Tensor:
    """A scalar of value ``amount`` whose derivative with respect to ``value`` is ``gradient``."""
    amount, gradient = pull
    if value.dtype != gradient.dtype:
        value = value.to(gradient.dtype)
    if value.dim() == gradient.dim() == 0:
        return torch.addcmul(amount, value - value.detach(), gradient)
    inner = value.reshape(()) * gradient.reshape(()) if value.numel() == 1 else _inner(value, gradient)
    return (inner - inner.detach()) + amount


def _inner(a: Tensor, b: Tensor) -> Tensor:
    if a.is_contiguous() and b.is_contiguous() and type(a) is type(b) is Tensor:
        return torch.dot(a.view(-1), b.view(-1))
    return (a * b).sum()


def state_like(value: Tensor) -> Tensor:
    """Zeros of the value's shape, in float32 at least: multipliers must not lose small steps."""
    dtype = torch.promote_types(value.dtype, torch.float32)
    return torch.zeros_like(value, dtype=dtype, memory_format=torch.preserve_format).detach()
