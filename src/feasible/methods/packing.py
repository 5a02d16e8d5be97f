"""A member of a discrete set as small whole numbers, and back to the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from feasible.sets import Candidates, FiniteSet, Flatten, Integers, OneHot, Permutation, Set, Where
from feasible.sets.blocks import take
from feasible.sets.picked import Picked

Layout = dict[str, Any]
"""What has to be known beside the tensors: kind, shape and dtype of the weight, shape of what is packed."""

_LONGEST = 2**16
"""Of more whole numbers than these only those that occur are listed."""


def pack(set: Set, x: Tensor) -> tuple[dict[str, Tensor], Layout]:
    """The tensors that stand for the member ``x``, and their layout.

    Raises:
        ValueError: the set cannot hold such a tensor, or x is not in it.
    """
    bound = set.bind(x)
    _check_member(bound, x)
    leaf, part, places = _constrained(bound, x)
    tensors = _numbered(leaf, part)
    layout: Layout = {
        "shape": list(x.shape),
        "part": list(part.shape),
        "dtype": str(x.dtype).removeprefix("torch."),
    }
    layout |= {"kind": _kind(leaf), "dim": getattr(leaf, "dim", None)}
    minus = (part == 0) & torch.signbit(part)
    if bool(minus.any()) and layout["kind"] != "entries":  # whose members hold a −0 of their own
        tensors["minus"] = _bits(minus)
    if not bool(places.all()):
        tensors["places"] = _bits(places)
        tensors["others"] = x.flatten()[~places]
    return tensors, layout | {"parts": list(tensors)}


def unpack(layout: Layout, tensors: dict[str, Tensor]) -> Tensor:
    """What ``pack`` was given."""
    shape, size = layout["part"], int(np.prod(layout["part"]))
    dtype = getattr(torch, layout["dtype"])
    index = tensors["index"].long()
    if layout["kind"] in ("entries", "candidates"):
        part = tensors["members"][index]
    else:
        dim = -1 if layout["kind"] == "permutation" else layout["dim"]
        length = size if dim is None else shape[dim]
        rows = torch.nn.functional.one_hot(index, length).to(dtype)
        part = rows if dim is None else rows.movedim(-1, dim)
    part = part.reshape(shape)
    if layout["kind"] != "entries":
        part = torch.where(part == 0, torch.zeros_like(part), part)
    if "minus" in tensors:
        part = torch.where(_from_bits(tensors["minus"], size).reshape(shape), -torch.zeros_like(part), part)
    if "places" not in tensors:
        return part.reshape(layout["shape"]).contiguous()
    places = _from_bits(tensors["places"], int(np.prod(layout["shape"])))
    x = torch.empty(len(places), dtype=dtype)
    x[places], x[~places] = part.flatten(), tensors["others"]
    return x.reshape(layout["shape"])


def _check_member(bound: Set, x: Tensor) -> None:
    """Raise unless x is in the set, naming the entry that is farthest from it."""
    if bool(bound.is_member(x).all()):
        return
    nearest = bound.project(x)
    away = torch.where(x.isnan(), torch.inf, (x.double() - nearest.double()).abs()).nan_to_num(torch.inf)
    place = int(away.argmax())
    index = ", ".join(str(int(i)) for i in np.unravel_index(place, x.shape))
    raise ValueError(
        f"the weight is not in {bound!r}: its entry [{index}] is {float(x.flatten()[place]):.9g}, the nearest member "
        f"has {float(nearest.flatten()[place]):.9g}.\n"
        "  Call problem.finish() first, or project it: weight.copy_(set.project(weight)) under torch.no_grad()."
    )


def _constrained(set: Set, x: Tensor) -> tuple[Set, Tensor, Tensor]:
    """The innermost set, what it sees of x, and which entries of x these are, as a flat mask."""
    number = torch.arange(x.numel()).reshape(x.shape)
    mask = torch.ones(x.shape, dtype=torch.bool)
    while isinstance(set, Flatten | Where | Picked):
        if isinstance(set, Flatten):
            number, mask = number.flatten(set.start_dim), mask.flatten(set.start_dim)
        elif isinstance(set, Where):
            mask = mask & set.mask
        else:
            number, mask = take(number, set.axes), take(mask, set.axes)
        set = set.inner
    number = number if bool(mask.all()) else number[mask]
    places = torch.zeros(x.numel(), dtype=torch.bool)
    places[number.flatten()] = True
    return set, x.flatten()[number], places


def _kind(set: Set) -> str:
    kinds = {OneHot: "one-hot", Permutation: "permutation", Candidates: "candidates"}
    return kinds.get(type(set), "entries")


def _numbered(set: Set, x: Tensor) -> dict[str, Tensor]:
    """``index``, and ``members`` where the numbers do not say it all."""
    if isinstance(set, OneHot):
        return {"index": _small(set.rows(x).argmax(-1))}
    if isinstance(set, Permutation):
        return {"index": _small(x.argmax(-1))}
    if isinstance(set, Candidates):
        same = (set.stack == x).flatten(1).all(-1) if x.dim() else set.stack == x
        return {"index": _small(same.to(torch.uint8).argmax()), "members": set.stack}
    members = _members(set, x)
    index = torch.searchsorted(members.double(), x.double())
    minus = (x == 0) & torch.signbit(x)
    if bool(minus.any()):
        members = torch.cat([members, -torch.zeros_like(members[:1])])
        index = torch.where(minus, len(members) - 1, index)
    return {"index": _small(index), "members": members}


def _members(set: Set, x: Tensor) -> Tensor:
    """The numbers that an entry may be, in ascending order; those that occur where there are too many."""
    if isinstance(set, FiniteSet):
        return torch.tensor(set.numbers, dtype=torch.float64).to(x.dtype)
    if isinstance(set, Integers):
        low, high = set._ends()
        if low is not None and high is not None and high - low < _LONGEST:
            x = torch.arange(low, high + 1, dtype=torch.float64).to(x.dtype)
    occurring: Tensor = torch.unique(x + 0.0)  # without a −0
    return occurring


def _small(index: Tensor) -> Tensor:
    """Whole numbers in the smallest type that holds them."""
    largest = int(index.max()) if index.numel() else 0
    if largest < 2**8:
        return index.to(torch.uint8)
    return index.to(torch.int16 if largest < 2**15 else torch.int32 if largest < 2**31 else torch.int64)


def _bits(mask: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(mask.flatten().numpy()))


def _from_bits(bits: Tensor, count: int) -> Tensor:
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=count).astype(bool))
