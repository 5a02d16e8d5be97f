"""The rest of the weights trained on, with the discrete ones held and all other constraints enforced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Adam, Optimizer

from feasible.methods.project import Project
from feasible.problem.polish.objective import Loss, scalar
from feasible.problem.polish.targets import Held, Target
from feasible.problem.text import listing

if TYPE_CHECKING:
    from feasible.problem.constraint import Constraint
    from feasible.problem.problem import Problem

AnyOptimizer = Optimizer | Callable[[list[Tensor]], Optimizer] | None


def remaining(problem: Problem, targets: Sequence[Target]) -> dict[str, Tensor]:
    """The weights that are left to train, by name."""
    wholly = {id(target.slot) for target in targets if target.whole}
    return {
        slot.name: slot.refresh()
        for slot in problem.slots.values()
        if slot.refresh().requires_grad and id(slot) not in wholly
    }


def still_enforced(problem: Problem, targets: Sequence[Target]) -> list[Constraint]:
    """The constraints that act while the rest is retrained."""
    resting = {id(target.constraint) for target in targets}
    return [c for c in problem.constraints if c.enabled and id(c) not in resting]


def check_optimizer(optimizer: AnyOptimizer, left: dict[str, Tensor], targets: Sequence[Target]) -> None:
    """Raise ``ValueError`` unless it is an optimizer that moves something of what is left, downhill."""
    if optimizer is None or not (isinstance(optimizer, Optimizer) or callable(optimizer)):
        if optimizer is not None:
            raise ValueError(
                f"polish: expected a torch.optim optimizer or a function that makes one, got {optimizer!r}."
            )
        return
    if not isinstance(optimizer, Optimizer):
        return
    name = type(optimizer).__name__
    # Latent coordinates of discrete weights give way to the weights themselves.
    latent = {id(target.slot.leaf) for target in targets if not target.whole}
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if left and not held & ({id(leaf) for leaf in left.values()} | latent):
        raise ValueError(
            f"polish: this {name} holds none of the weights that are left to train ({listing(left, 5)}).\n"
            "  Make it from model.parameters(), or leave it out: Adam is the default."
        )
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise ValueError(
            f"polish: this {name} maximises, and polish lowers the loss. Negate the loss instead."
        )


def retrain(
    problem: Problem,
    targets: Sequence[Target],
    data: Iterable[Any],
    loss: Loss,
    call: Callable[..., Any],
    optimizer: AnyOptimizer,
    steps: int,
    lr: float,
) -> None:
    """So many steps over the batches, again and again."""
    with Held(targets) as held, _enforced(problem, targets):
        left = list(remaining(problem, targets).values())
        if not isinstance(optimizer, Optimizer):
            optimizer = Adam(left, lr=lr) if optimizer is None else optimizer(left)
        with _attached(problem, optimizer):
            batches = _again_and_again(data)
            for _ in range(steps):
                optimizer.step(_closure(problem, optimizer, held, loss, call, next(batches)))
                held.put_back()


def _closure(
    problem: Problem, optimizer: Optimizer, held: Held, loss: Loss, call: Callable[..., Any], batch: Any
) -> Callable[[], float]:
    def closure() -> float:
        with torch.enable_grad():
            optimizer.zero_grad()
            value = total_loss(problem, loss, call, batch)
            value.backward()  # type: ignore[no-untyped-call]
            held.mask_gradients()
        return value.detach()  # type: ignore[return-value]

    return closure


def total_loss(problem: Problem, loss: Loss, call: Callable[..., Any], batch: Any) -> Tensor:
    """The loss with the problem's terms, unless the user's function has added them itself."""
    before = problem._clock.moment.call
    value = scalar(loss(call, batch))
    return value if problem._clock.moment.call != before else problem.loss(value)


@contextmanager
def _enforced(problem: Problem, targets: Sequence[Target]) -> Iterator[None]:
    """The discrete constraints rest; weights whose chart is baked are projected instead."""
    own = {id(target.slot) for target in targets}
    resting = [target.constraint for target in targets]
    baked = [
        c
        for c in problem.constraints
        if c.slot is not None
        and c.enabled
        and c.method.latent
        and c.slot.chart is None
        and id(c.slot) not in own
    ]
    methods = [constraint.method for constraint in baked]
    try:
        for constraint in resting:
            constraint.switch(False)
        for constraint in baked:
            constraint.method = Project()
        problem.refresh()
        yield
    finally:
        for constraint in resting:
            constraint.switch(True)
        for constraint, method in zip(baked, methods, strict=True):
            constraint.method = method
        problem.refresh()


@contextmanager
def _attached(problem: Problem, optimizer: Optimizer) -> Iterator[None]:
    """The optimizer's steps enforce the constraints; one that remembers held weights forgets them."""
    if isinstance(optimizer, LBFGS):
        optimizer.state.clear()  # its curvature pairs span all parameters
    if optimizer in problem._clock.attachments:
        problem.detach(optimizer)
    problem.attach(optimizer, clock=True)
    try:
        yield
    finally:
        problem.detach(optimizer)


def _again_and_again(data: Iterable[Any]) -> Iterator[Any]:
    while True:
        count = 0
        for batch in data:
            count += 1
            yield batch
        if not count:
            raise ValueError("polish: data gives no batches when it is read again. Hand in a list.")
