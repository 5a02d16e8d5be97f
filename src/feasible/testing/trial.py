"""The method under test, what is known about it, and the small trainings that it is tried in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from feasible.methods.method import Method
from feasible.problem import Problem
from feasible.problem.constraint import Handle
from feasible.sets import (
    Box,
    Equal,
    FiniteSet,
    L2Ball,
    NonNegative,
    Set,
    Simplex,
    SpectralBall,
    Sphere,
    SumTo,
)

Kind = Literal["weight", "value", "sample", "index"]
"""What is constrained: a weight, or a value of the weights with ``per=`` one of the three."""

RESERVED = {"fingerprint", "step", "tolerance", "unit", "average"}
"""What a checkpoint keeps under these names is the problem's own."""

SHAPE = (2, 3)
LOWER = torch.tensor([[-1.0, 0.0, 0.25], [-2.0, 0.5, 0.0]], dtype=torch.float64)
MASK = torch.tensor([[True, False, True], [False, True, True]])

EXAMPLE_SETS: tuple[Set, ...] = (
    Box(-1, 1),
    NonNegative(),
    Box(LOWER, LOWER + 1),
    Box(0, 1).where(MASK),
    Equal(0.5),
    Simplex(),
    Simplex().flatten(0),
    SumTo(1.5),
    L2Ball(0.8),
    L2Ball(1.0, dim=None),
    SpectralBall(1.0),
    Sphere(),
    FiniteSet([-1, 0, 1]),
)
"""Sets of each sort; all hold tensors of shape (2, 3)."""


@dataclass(frozen=True)
class MethodSubject:
    """A method with the sets to try it on and the claims that its author makes.

    Args:
        method: the method.
        sets: sets that hold tensors of shape (2, 3): those it serves are tried, the others must be refused.
        smooth: whether the derivative of its term is continuous.
        normal: whether its multiplier lies in a normal cone all the time, not only at the solution.
        holds: when a method with a guarantee has its weights in the set: after every step, or after ``finish``.
        solves: how near plain gradient descent comes to the solution of a convex problem, and to the
            multiplier where the method has one; ``None``: only that the violation gets smaller.
        steps: how many steps of gradient descent that takes.
        rate: their learning rate.
        device: where the tensors are.
    """

    method: Method
    sets: Sequence[Set] = EXAMPLE_SETS
    smooth: bool = True
    normal: bool = True
    holds: Literal["always", "finally"] = "always"
    solves: float | None = None
    steps: int = 300
    rate: float = 0.1
    device: str = "cpu"

    @property
    def served(self) -> list[Set]:
        """The sets that the method does not object to."""
        return [set for set in self.sets if self.method.objection(set) is None]

    def kinds(self, set: Set) -> tuple[Kind, ...]:
        """What it can be put on; samples only where the set does not tie them to each other."""
        if not self.method.for_values:
            return ("weight",)
        kinds: tuple[Kind, ...] = ("weight", "value")
        if within_rows(set):
            kinds = (
                ("weight", "value", "sample")
                if self.method.linearises
                else ("weight", "value", "sample", "index")
            )
        return kinds if self.method.for_weights else kinds[1:]

    @property
    def has_term(self) -> bool:
        """Whether it adds anything to the loss."""
        return self.overrides("pull")

    @property
    def promises(self) -> bool:
        """Whether it keeps weights in their sets, rather than only drawing them there."""
        return self.method.guarantee != "encouraged"

    def overrides(self, verb: str) -> bool:
        """Whether the method has a verb of its own."""
        return getattr(type(self.method), verb) is not getattr(Method, verb)

    def point(
        self, seed: int = 0, shape: Sequence[int] = SHAPE, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """A point that is most likely outside of every set."""
        generator = torch.Generator().manual_seed(seed)
        return (2 * torch.randn(tuple(shape), generator=generator, dtype=torch.float64)).to(
            self.device, dtype
        )

    def shapes(self, set: Set) -> list[tuple[int, ...]]:
        """Several shapes that the set can hold."""
        found: list[tuple[int, ...]] = []
        for shape in (SHAPE, (4, 3), (3,), (2, 2, 3), (), (1,), (0, 3)):
            try:
                set.bind(self.point(shape=shape))
            except ValueError:
                continue
            found.append(shape)
        return found

    def expect(self, condition: object, sentence: str, set: Set | None = None, where: str = "") -> None:
        """Raise an ``AssertionError`` that tells which method failed, on which set, and in which words."""
        if not bool(condition):
            on = f" on {set!r}" if set is not None else ""
            raise AssertionError(f"{self.method!r}{on}: {sentence}{f' ({where})' if where else ''}.")


class Weights(nn.Module):
    """A model of nothing but weights."""

    def __init__(self, starts: Sequence[Tensor]) -> None:
        super().__init__()
        for number, start in enumerate(starts):
            self.register_parameter(f"w{number}", nn.Parameter(start.clone()))
        self.count = len(starts)

    def all(self) -> list[Tensor]:
        """The weights, as the model computes with them."""
        return [getattr(self, f"w{number}") for number in range(self.count)]


def descent(parameters: Sequence[Tensor], rate: float) -> Optimizer:
    """Plain gradient steps."""
    return SGD(parameters, lr=rate)


class Trial:
    """One small training: weights that are drawn to ``targets``, constrained unless ``set`` is ``None``.

    Args:
        subject: the method and what is known about it.
        set: what the weights, or the value, must be in.
        kind: what is constrained; a value is the first weight itself.
        starts: where the weights begin; ``subject.point()`` where it is left out.
        targets: where the task draws them; where they begin, if left out.
        make: makes the optimizer.
        rate: the learning rate; the subject's where it is left out.
    """

    def __init__(
        self,
        subject: MethodSubject,
        set: Set | None,
        kind: Kind = "weight",
        starts: Sequence[Tensor] | None = None,
        targets: Sequence[Tensor] | None = None,
        make: Callable[[Sequence[Tensor], float], Optimizer] = descent,
        rate: float | None = None,
    ) -> None:
        self.subject, self.set, self.kind = subject, set, kind
        starts = [subject.point()] if starts is None else starts
        self.targets = list(starts if targets is None else targets)
        self.model = Weights(starts)
        self.problem = Problem(self.model)
        self.handle = None if set is None else self._declare(set)
        self.optimizer = make(list(self.model.parameters()), subject.rate if rate is None else rate)

    def _declare(self, set: Set) -> Handle:
        method, kind = self.subject.method, self.kind
        try:
            if kind == "weight":
                return self.problem.constrain("*", set, by=method)
            size: Any = {"size": len(self.targets[0])} if kind == "index" else {}
            return self.problem.require("value", set, by=method, per=kind, **size)
        except Exception as error:
            sentence = f"it has no objection, but the declaration raises {type(error).__name__}: {error}"
            raise AssertionError(f"{method!r} on {set!r}: {sentence} ({kind}).") from error

    def attach(self) -> Trial:
        """Let the problem act on the optimizer's steps."""
        self.problem.attach(self.optimizer)
        return self

    @property
    def weight(self) -> Tensor:
        """The first weight, without its history."""
        return self.model.all()[0].detach()

    @property
    def state(self) -> dict[str, Tensor]:
        """What the method remembers."""
        return {
            key: value.clone()
            for constraint in self.problem.constraints
            for key, value in constraint.state.items()
            if key not in RESERVED
        }

    def task(self) -> Tensor:
        """Half the squared distance to the targets."""
        pairs = zip(self.model.all(), self.targets, strict=True)
        return torch.stack([(weight - target).square().sum() / 2 for weight, target in pairs]).sum()

    @torch.no_grad()
    def total(self) -> float:
        """The task's loss and what the method adds to it, now."""
        return float(self.loss())

    def loss(self, spoil: float | None = None) -> Tensor:
        """What is to become small; ``spoil``: a number that the first entry of the value has instead of its own."""
        if self.handle is None or self.kind == "weight":
            return self.problem.loss(self.task())
        value = self.model.all()[0] * 1
        if spoil is not None:
            value = torch.cat([value.new_full((1,), spoil), value.reshape(-1)[1:]]).reshape(value.shape)
        index = torch.arange(len(value), device=value.device) if value.dim() else None
        return self.problem.loss(self.task(), value=(value, index) if self.kind == "index" else value)

    def step(self, spoil: float | None = None) -> None:
        """One step of the optimizer; what it raises is a fault."""
        try:
            self._step(spoil)
        except Exception as error:
            self.expect(False, f"a step raises {type(error).__name__}: {error}")

    def _step(self, spoil: float | None) -> None:

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self.loss(spoil)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            return loss

        if isinstance(self.optimizer, torch.optim.LBFGS):
            self.optimizer.step(closure)  # type: ignore[no-untyped-call]
            return
        closure()
        self.optimizer.step()

    def run(self, steps: int) -> Trial:
        """Several steps."""
        for _ in range(steps):
            self.step()
        return self

    def distance(self) -> float:
        """How far the weights are from the set."""
        assert self.set is not None
        worst = [self.set.bind(w.detach()).distance(w.detach()) for w in self.model.all() if w.numel()]
        return max(float(distance.max()) for distance in worst)

    def contains(self) -> bool:
        """Whether all weights are in the set, as far as its own tolerance goes."""
        assert self.set is not None
        return all(bool(self.set.bind(w.detach()).contains(w.detach()).all()) for w in self.model.all())

    def expect(self, condition: object, sentence: str) -> None:
        """As the subject's, with the set and what is constrained."""
        dtype = str(self.weight.dtype).removeprefix("torch.")
        where = f"{self.kind} of shape {tuple(self.weight.shape)}, {dtype}, {type(self.optimizer).__name__}"
        self.subject.expect(condition, sentence, self.set, where)


def trials(subject: MethodSubject, **arguments: Any) -> Iterator[Trial]:
    """An attached trial of every kind with every set that the method serves."""
    for set in subject.served:
        for kind in subject.kinds(set):
            yield Trial(subject, set, kind, **arguments).attach()


def within_rows(set: Set) -> bool:
    """Whether every sample along dimension 0 is in the set, or not, by itself."""
    return set.unit in ("entry", "vector along -1")
