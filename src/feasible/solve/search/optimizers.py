"""Which optimizers may step stacked members: those that treat every entry by itself, which is tried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from feasible.errors import UnsupportedError

Factory = Callable[[list[Tensor]], Optimizer]

STEPS = 3
"""Steps that two members are tried for."""
DIFFERENCE = 0.01
"""What a member may move differently beside another, as a share of its move: more than rounding explains."""


def adam(parameters: list[Tensor]) -> Optimizer:
    """What a search takes where no optimizer is given: Adam at a rate of 0.01."""
    return Adam(parameters, lr=0.01)


def check_factory(factory: object) -> None:
    """Raise ``ValueError`` unless it can make optimizers."""
    if isinstance(factory, Optimizer) or not callable(factory):
        got = f"one {type(factory).__name__}" if isinstance(factory, Optimizer) else repr(factory)
        raise ValueError(
            f"optimizer must be a function that makes an optimizer for given parameters, got {got}.\n"
            "  For example lambda parameters: torch.optim.Adam(parameters, lr=1e-2)."
        )


def make(factory: Factory, leaves: list[Tensor]) -> Optimizer:
    """The optimizer of these leaves.

    Raises:
        ValueError: it is none, or holds other parameters.
    """
    made = factory(leaves)
    if not isinstance(made, Optimizer):
        raise ValueError(f"optimizer(parameters) must give a torch.optim.Optimizer, got {made!r}.")
    held = [id(parameter) for group in made.param_groups for parameter in group["params"]]
    if sorted(held) != sorted(map(id, leaves)):
        raise ValueError(
            f"optimizer(parameters) gave a {type(made).__name__} that does not hold just the parameters handed to it."
            "\n  Make it from the argument: lambda parameters: torch.optim.Adam(parameters, lr=1e-2)."
        )
    return made


def check_elementwise(factory: Factory, values: Sequence[Tensor]) -> int:
    """Bytes of state that one member needs; a member must step beside another as it does alone.

    Raises:
        UnsupportedError: it does not, or the optimizer needs a closure.
    """
    if not values:
        return 0
    alone = [value.clone().requires_grad_() for value in values]
    paired = [torch.stack([value, value]).requires_grad_() for value in values]
    first, second = make(factory, alone), make(factory, paired)
    name = type(first).__name__
    if any(group.get("maximize") for group in first.param_groups):
        raise UnsupportedError(
            f"{name}(maximize=True): the search ranks by the smallest loss. Negate the loss."
        )
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        for leaf, pair in zip(alone, paired):
            pair.grad = torch.randn(pair.shape, generator=generator).to(pair)
            leaf.grad = pair.grad[0].clone()
            pair.grad[1] *= 100
        try:
            first.step()
            second.step()
        except TypeError:
            raise _coupled(name, "it needs a closure and measures one loss for all") from None
        except RuntimeError as error:
            raise _coupled(name, str(error)) from error
    for value, leaf, pair in zip(values, alone, paired):
        moved, apart = (leaf - value).abs(), (leaf - pair[0]).abs()
        if leaf.numel() and not bool(apart.amax() <= DIFFERENCE * moved.amax()):
            raise _coupled(name, "a member moves otherwise beside another than alone")
    return sum(
        entry.numel() * entry.element_size()
        for state in first.state.values()
        for entry in state.values()
        if isinstance(entry, Tensor)
    )


def _coupled(name: str, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name} cannot train all choices at once: {why}.\n"
        "  Works with optimizers that treat every entry by itself: SGD, Adam, AdamW, RMSprop, Adagrad, …"
    )
