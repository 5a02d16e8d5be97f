"""Nested forward-mode differentiation, for models that jets have no rules for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import jvp
from torch.overrides import TorchFunctionMode

from feasible.pde.differentiation.jets import VALUE, Index, partial

Function = Callable[[Tensor], Tensor]


def nested(function: Function, x: Tensor, coordinates: Sequence[int]) -> dict[Index, Tensor]:
    """A mixed partial derivative and all that it is made of.

    Args:
        function: of (n, d); each sample's value depends on that sample alone.
        x: (n, d).
        coordinates: by which is differentiated, in any order and repetition.
    """
    units = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    tower = lifted(function, [units[i].expand_as(x) for i in coordinates])(x)
    found: dict[Index, Tensor] = {}
    collect(tower, list(coordinates), [], found)
    return found


def along_ones(function: Function, z: Tensor, order: int) -> list[Tensor]:
    """An elementwise function and its derivatives."""
    result = lifted(function, [torch.ones_like(z)] * order)(z)
    found: dict[Index, Tensor] = {}
    collect(result, [0] * order, [], found)
    return [found[partial([0] * k)] for k in range(order + 1)]


def lifted(function: Function, directions: Sequence[Tensor]) -> Callable[[Tensor], Any]:
    """The function with its derivatives along the directions, as pairs of pairs."""
    load()
    for direction in directions:
        function = pushed(function, direction)
    return function


def pushed(function: Function, direction: Tensor) -> Callable[[Tensor], Any]:
    """The pair of value and derivative."""
    return lambda y: jvp(function, (y,), (direction,))


def collect(tower: Any, coordinates: list[int], so_far: list[int], found: dict[Index, Tensor]) -> None:
    """Name what pairs of pairs hold: the outermost pair belongs to the last direction."""
    if isinstance(tower, Tensor):
        found.setdefault(partial(so_far), tower)
        return
    *rest, last = coordinates
    collect(tower[0], rest, so_far, found)
    collect(tower[1], rest, [*so_far, last], found)


@cache
def load() -> None:
    """Load forward mode: on its first use torch warns about code of its own."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)
        forward_ad.make_dual(torch.ones(1), torch.ones(1))  # type: ignore[no-untyped-call]


def is_transformed() -> bool:
    """Whether a transform of ``torch.func`` is at work."""
    return torch._C._functorch.maybe_current_level() is not None


class Watch(TorchFunctionMode):
    """Notes which of some functions are given values that depend on x, where x is dual.

    Args:
        names: of the functions.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__()
        self.names = names
        self.seen: list[str] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function; note its name if it is one of those."""
        name = getattr(function, "__name__", "").strip("_")
        if name in self.names and args and isinstance(args[0], Tensor):
            with torch._C.DisableTorchFunctionSubclass():
                if any(is_dual(each) for each in args if isinstance(each, Tensor)):
                    self.seen.append(name)
        return function(*args, **(kwargs or {}))


def is_dual(value: Tensor) -> bool:
    """Whether a value depends on the dual x."""
    return forward_ad.unpack_dual(value).tangent is not None  # type: ignore[no-untyped-call]


def seen_along(function: Function, x: Tensor, names: Mapping[str, str]) -> list[str]:
    """Which of these functions x passes through."""
    load()
    watch = Watch(names)
    with forward_ad.dual_level(), watch:
        function(forward_ad.make_dual(x.detach(), torch.ones_like(x)))  # type: ignore[no-untyped-call]
    return watch.seen


__all__ = ["VALUE", "along_ones", "is_transformed", "nested", "seen_along"]
