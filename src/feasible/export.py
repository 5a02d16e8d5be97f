"""Weights as members and small integers: a file that loads back to the same bits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Protocol, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from feasible.methods.lookup import find_weights, listing
from feasible.methods.packing import Layout, pack, unpack
from feasible.methods.slot import Slot, find_slots, unwrap
from feasible.sets import Set

__all__ = ["export_indices", "load_indices"]

_KEY = "feasible.indices"
_VERSION = 1


class Declared(Protocol):
    """What a problem offers: its model, its weights, and which sets they are in."""

    model: Any
    slots: dict[str, Slot]
    constraints: list[Any]


Model = nn.Module | Mapping[str, Tensor] | Sequence[Tensor]


def export_indices(
    source: Model | Declared, path: str | PathLike[str], sets: Mapping[str, Set] | None = None
) -> None:
    """Store discrete weights as a list of members and small whole numbers, and everything else as it is.

    For ``FiniteSet`` and ``Integers`` a number of 1, 2 or 4 bytes for each entry, for ``OneHot`` the place of each
    1, for ``Permutation`` the column that each row picks, for ``Candidates`` one number. Entries that a mask
    leaves free, other weights and buffers are stored in their own dtype. The file is a safetensors file.

    Args:
        source: a problem after ``finish()``, whose discrete constraints say what is stored how; or a module, or a
            dict or list of tensors.
        path: the file to be written.
        sets: by name or glob, the discrete sets of a module's weights (``{}``: of none); not with a problem.

    Raises:
        ValueError: a weight is not in its set, a name matches nothing, a set is not discrete, or nothing says which
            weights are in discrete sets.

    >>> import tempfile, torch, feasible as fs
    >>> layer = nn.Linear(3, 2)
    >>> _ = nn.init.ones_(layer.weight)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_indices(layer, f"{folder}/layer.safetensors", {"weight": fs.FiniteSet([-1, 0, 1])})
    ...     loaded = load_indices(f"{folder}/layer.safetensors")
    >>> loaded["weight"]
    tensor([[1., 1., 1.],
            [1., 1., 1.]])
    """
    model, slots, chosen = _declared(source, sets)
    if sets is None and not chosen:
        raise ValueError(_nothing_to_pack(source))
    tensors: dict[str, Tensor] = {}
    layouts: dict[str, Layout | None] = {}
    for name, value in _stored(model, slots):
        value = value.detach().cpu().contiguous()
        layouts[name] = None
        if name not in chosen:
            tensors[f"free/{name}"] = value
            continue
        try:
            packed, layouts[name] = pack(chosen[name], value)
        except ValueError as error:
            raise type(error)(f"{name}: {error}") from None
        tensors.update({f"{part}/{name}": tensor for part, tensor in packed.items()})
    aliases = {slot.name: slot.aliases for slot in slots.values() if slot.aliases}
    contents = json.dumps({"format_version": _VERSION, "weights": layouts, "aliases": aliases})
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, path, {_KEY: contents})


def load_indices(path: str | PathLike[str], model: Model | Declared | None = None) -> dict[str, Tensor]:
    """Weights and buffers as ``export_indices`` saw them, bit for bit.

    Args:
        path: a file that ``export_indices`` has written.
        model: where to write them, in place; names, shapes and dtypes must agree.

    Returns:
        Tensors by name on the CPU; tied weights are one tensor under several names.

    Raises:
        ValueError: the file is something else, is damaged, or does not fit the model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a file that export_indices has written: {error}.") from None
    try:
        contents: dict[str, Any]
        contents = json.loads(metadata[_KEY]) if _KEY in metadata else {"format_version": "another format"}
        if contents["format_version"] != _VERSION:
            raise _OtherFormatError(
                f"{path}: expected weights in format {_VERSION} of export_indices, got {contents['format_version']}."
            )
        loaded = {name: _read(name, layout, tensors) for name, layout in contents["weights"].items()}
        aliases = [(name, alias) for name, others in contents["aliases"].items() for alias in others]
        loaded.update({alias: loaded[name] for name, alias in aliases})
    except _OtherFormatError:
        raise
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__} {error}. Export it again.") from None
    if model is not None:
        _write(model, loaded, path)
    return loaded


def holds_indices(path: str | PathLike[str]) -> bool:
    """Whether a safetensors file is one of ``export_indices``."""
    with safe_open(path, framework="pt") as file:
        return _KEY in (file.metadata() or {})


def _nothing_to_pack(source: Model | Declared) -> str:
    if hasattr(source, "constraints"):
        return (
            "export_indices: the problem holds no weight in a discrete set, and nothing would be stored as indices.\n"
            '  Constrain one first, as in problem.constrain("head.weight", FiniteSet([-1, 0, 1])), or save '
            "model.state_dict()."
        )
    return (
        "export_indices: a model does not say which of its weights are in discrete sets, and none would be stored as "
        'indices.\n  Give the problem in its place, or sets={"head.weight": FiniteSet([-1, 0, 1])}.'
    )


class _OtherFormatError(ValueError):
    """A file of another kind or version."""


def _read(name: str, layout: Layout | None, tensors: Mapping[str, Tensor]) -> Tensor:
    if layout is None:
        return tensors[f"free/{name}"]
    return unpack(layout, {part: tensors[f"{part}/{name}"] for part in layout["parts"]})


@torch.no_grad()
def _write(source: Model | Declared, loaded: Mapping[str, Tensor], path: str | PathLike[str]) -> None:
    model, slots, _ = _declared(source, None)
    targets = dict(_stored(model, slots))
    known = {*targets, *(alias for slot in slots.values() for alias in slot.aliases)}
    if known != loaded.keys():
        missing, extra = sorted(known - loaded.keys()), sorted(loaded.keys() - known)
        raise ValueError(
            f"{path} was made from another model: it lacks {listing(missing) or 'nothing'}, and has "
            f"{listing(extra) or 'nothing'} besides."
        )
    for name, target in targets.items():
        value = loaded[name]
        if (target.shape, target.dtype) != (value.shape, value.dtype):
            raise ValueError(
                f"{path}: {name} has shape {tuple(value.shape)} and {value.dtype}, but the model's has "
                f"{tuple(target.shape)} and {target.dtype}."
            )
    for name, target in targets.items():
        target.copy_(loaded[name])


def _declared(
    source: Model | Declared, sets: Mapping[str, Set] | None
) -> tuple[Any, dict[str, Slot], dict[str, Set]]:
    """The model, its weights, and the discrete set of each that has one."""
    if isinstance(source, nn.Module) or not (hasattr(source, "slots") and hasattr(source, "constraints")):
        slots = find_slots(cast(Any, source))
        return source, slots, _named(slots, sets or {})
    problem = cast(Declared, source)
    if sets is not None:
        raise ValueError(
            "export_indices: a problem says itself which sets its weights are in; leave sets out."
        )
    return problem.model, problem.slots, _of_problem(problem)


def _named(slots: Mapping[str, Slot], sets: Mapping[str, Set]) -> dict[str, Set]:
    chosen: dict[str, Set] = {}
    for pattern, set in sets.items():
        if not isinstance(set, Set) or not set.discrete:
            raise ValueError(
                f"export_indices: {pattern!r} needs a discrete set such as FiniteSet([-1, 0, 1]), got {set!r}.\n"
                "  Leave other weights out: they are stored as they are."
            )
        for slot in find_weights(slots, pattern, "export_indices"):
            if chosen.setdefault(slot.name, set) != set:
                raise ValueError(
                    f"export_indices: {slot.name} is given two sets, {chosen[slot.name]!r} and {set!r}."
                )
    return chosen


def _of_problem(problem: Declared) -> dict[str, Set]:
    """Sets that weights are held in; where several are discrete, the one that a hard method holds."""
    charted = [slot.name for slot in problem.slots.values() if slot.chart is not None]
    if charted:
        raise ValueError(
            f"export_indices: {listing(charted)} still has other coordinates. Call problem.finish() first."
        )
    discrete = [c for c in problem.constraints if c.slot is not None and c.enabled and c.set.discrete]
    chosen: dict[str, Set] = {}
    for constraint in sorted(discrete, key=lambda c: not c.method.hard):
        chosen.setdefault(constraint.slot.name, constraint.set)
    return chosen


def _stored(model: Any, slots: Mapping[str, Slot]) -> Iterator[tuple[str, Tensor]]:
    """Weights, each once, and persistent buffers."""
    for slot in slots.values():
        yield slot.name, slot.refresh()
    if isinstance(model, nn.Module):
        yield from _buffers(unwrap(model), "")


def _buffers(module: nn.Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, buffer in module._buffers.items():
        if buffer is not None and name not in module._non_persistent_buffers_set:
            yield prefix + name, buffer
    for name, child in module._modules.items():
        if child is not None:
            yield from _buffers(unwrap(child), f"{prefix}{name}.")
