"""The last linear layer of a model: its inputs are collected, its weight is solved for and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from feasible.methods.lookup import find_weights
from feasible.methods.slot import Slot, find_slots, unwrap
from feasible.sets import Set
from feasible.solve.exact.choices import choices
from feasible.solve.exact.linear import checked, solve
from feasible.solve.exact.losses import Loss, check_loss
from feasible.solve.exact.result import Budget, ExactResult

__all__ = ["exact_last_layer"]


def exact_last_layer(
    model: nn.Module,
    pattern: str,
    set: Set,
    data: Iterable[Any],
    *,
    loss: Loss = "squared",
    bias: Literal["keep", "free"] = "keep",
    max_nodes: int | None = None,
    seconds: float | None = 60.0,
) -> ExactResult:
    """Give the model's last linear layer the member of a discrete set with the smallest loss, all else fixed.

    ``min Σ loss(W x + c, y)`` over W in the set, x being the inputs of the layer on all batches: by sphere decoding
    (``"squared"``) or a mixed-integer linear program (``"l1"``, ``"hinge"``). The best weight found is written
    into the model bit for bit, also where the budget ended before it was proven to be the best one.

    Args:
        model: a module whose output is that of the layer.
        pattern: the name of the layer's weight, such as ``"head.weight"``.
        set: where the weight (m, d) must be: see ``integer_least_squares`` for which sets there are.
        data: batches ``(x, y)``, or one such pair of tensors; the model is called as ``model(x)``, with ``model(*x)``
            and ``model(**x)`` for tuples and dicts. For ``"hinge"`` y is 1 or −1 for every output, or the numbers of
            the classes (one against the rest; with one output: 0 and 1).
        loss: summed over samples and outputs: ``"squared"``, ``"l1"`` or ``"hinge"``.
        bias: ``"keep"``, or ``"free"``: the best real bias is found with the weight, and written too.
        max_nodes: how many partial choices may be looked at; ``None``: any number.
        seconds: wall-clock limit of the search; ``None``: none.

    Returns:
        The weight with its certificate (``proven``, ``loss``, ``lower_bound``, ``gap``).

    Raises:
        ValueError: no such weight, the layer is not the last one, shapes do not fit, or a number is not finite.
        UnsupportedError: no exact search is known for the set.

    >>> from feasible import FiniteSet
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> x, y = torch.randn(50, 3), torch.randn(50, 2)
    >>> result = exact_last_layer(model, "2.weight", FiniteSet([-1, 0, 1]), (x, y), bias="free")
    >>> result.proven, torch.equal(model[2].weight, result.weight)
    (True, True)
    """
    check_loss(loss)
    if bias not in ("keep", "free"):
        raise ValueError(f'bias must be "keep" or "free", got {bias!r}.')
    layer, slot = _layer(model, pattern)
    if bias == "free" and layer.bias is None:
        raise ValueError(f'{slot.name}: its layer has no bias that could be free; use bias="keep".')
    weight = layer.weight.detach()
    try:
        allowed = choices(set, weight, transposed=True)
    except ValueError as error:
        raise type(error)(f"{slot.name}: {error}") from None
    inputs, targets = _collect(model, layer, slot.name, data)
    wanted = _signs(targets, layer.out_features) if loss == "hinge" else targets
    wanted = checked(_shaped(wanted, len(inputs), layer.out_features, slot.name), "the targets").double()
    kept = layer.bias.detach() if bias == "keep" and layer.bias is not None else None
    found = solve(inputs, wanted, allowed, loss, bias == "free", Budget(max_nodes, seconds), kept)
    result = found.result(lambda W: torch.from_numpy(W.T.copy()).to(weight))
    with torch.no_grad():
        layer.weight.copy_(result.weight)
        if result.bias is not None:
            layer.bias.copy_(result.bias)
    return result


def _layer(model: nn.Module, pattern: str) -> tuple[nn.Linear, Slot]:
    """The linear layer that owns the weight.

    Raises:
        ValueError: the pattern names no weight or several, or none of a plain ``nn.Linear``.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"exact_last_layer: expected a module, got {type(model).__name__}.")
    slots = find_weights(find_slots(model), pattern, "exact_last_layer")
    if len(slots) > 1:
        names = ", ".join(slot.name for slot in slots)
        raise ValueError(f"exact_last_layer: {pattern!r} matches {names}. Name one weight.")
    (slot,) = slots
    if len(slot.owners) > 1:
        raise ValueError(
            f"{slot.name} is shared with {', '.join(slot.aliases)}: another weight there would change the inputs of "
            "the last layer.\n  Untie the two first."
        )
    module, attribute = slot.owners[0]
    if not isinstance(module, nn.Linear) or attribute != "weight":
        raise ValueError(
            f"{slot.name} is not the plain weight of an nn.Linear but of {type(module).__name__}.\n"
            "  Name that of the last linear layer; a reparametrized one is plain after problem.finish()."
        )
    return module, slot


def _collect(model: nn.Module, layer: nn.Linear, name: str, data: Iterable[Any]) -> tuple[Tensor, Tensor]:
    """Inputs of the layer as rows (n, d), and what was handed in as targets, over all batches.

    Raises:
        ValueError: there are no batches, or the layer's output is not the model's.
    """
    seen: list[tuple[Tensor, Tensor, int]] = []

    def remember(module: nn.Module, arguments: Any, output: Tensor) -> None:
        seen.append((arguments[0].detach().flatten(0, -2), output, output._version))

    inputs, targets = [], []
    handle = layer.register_forward_hook(remember)
    try:
        with _evaluating(model), torch.no_grad():
            for x, y in _pairs(data):
                seen.clear()
                _check_last(_call(model, x), seen, name)
                inputs.append(seen[0][0].cpu().double())
                targets.append(torch.as_tensor(y).detach().cpu())
    finally:
        handle.remove()
    if not inputs:
        raise ValueError(
            "exact_last_layer: the data hold no batch. Give pairs (x, y), in a list if it is to be used again."
        )
    rows = checked(torch.cat(inputs), f"the inputs of {name}")
    try:
        return rows, torch.cat(targets)
    except RuntimeError:
        shapes = sorted({tuple(target.shape[1:]) for target in targets})
        raise ValueError(
            f"exact_last_layer: the targets of the batches have different shapes: {shapes}."
        ) from None


def _check_last(output: Any, seen: list[tuple[Tensor, Tensor, int]], name: str) -> None:
    if len(seen) != 1:
        raise ValueError(
            f"{name}: its layer runs {len(seen)} times in a call of the model; it must run once, at the end."
        )
    _, own, version = seen[0]
    is_last = (
        isinstance(output, Tensor)
        and output.shape.numel() == own.shape.numel()
        and output.untyped_storage().data_ptr() == own.untyped_storage().data_ptr()
        and own._version == version
    )
    if not is_last:
        raise ValueError(
            f"{name} is not the model's last layer: what the model returns is not this layer's output itself.\n"
            "  Give the part of the model that ends with the layer, or name the last nn.Linear."
        )


def _pairs(data: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """The batches; a single pair of tensors is one."""
    is_one = isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(x, Tensor) for x in data)
    for batch in [data] if is_one else data:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(
                f"exact_last_layer: every batch must be a pair (x, y), got {type(batch).__name__}."
            )
        yield batch[0], batch[1]


def _call(model: nn.Module, x: Any) -> Any:
    if isinstance(x, Mapping):
        return model(**x)
    return model(*x) if isinstance(x, tuple) else model(x)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode, and afterwards as it was."""
    was = [(module, module.training) for module in unwrap(model).modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in was:
            module.training = training


def _signs(targets: Tensor, outputs: int) -> Tensor:
    """1 and −1 for every output from the numbers of classes; what has a sign for every output stays.

    Raises:
        ValueError: the number of a class is out of range.
    """
    is_numbered = (
        targets.dim() == 1 and not targets.is_floating_point() and (outputs > 1 or bool((targets >= 0).all()))
    )
    if not is_numbered:
        return targets
    most = max(outputs, 2) - 1
    classes = targets.long()
    if bool(((classes < 0) | (classes > most)).any()):
        raise ValueError(
            f"the numbers of classes must be between 0 and {most}, got {int(classes.min())} to {int(classes.max())}."
        )
    if outputs == 1:
        return classes * 2 - 1
    return torch.nn.functional.one_hot(classes, outputs) * 2 - 1


def _shaped(targets: Tensor, rows: int, outputs: int, name: str) -> Tensor:
    """The targets as (rows, outputs).

    Raises:
        ValueError: they have another number of entries.
    """
    if targets.numel() != rows * outputs or (targets.dim() > 1 and targets.shape[-1] not in (1, outputs)):
        raise ValueError(
            f"{name}: its layer has {rows} rows of {outputs} outputs, but the targets have shape "
            f"{tuple(targets.shape)}.\n  {_mend(targets, rows, outputs)}"
        )
    return targets.reshape(rows, outputs)


def _mend(targets: Tensor, rows: int, outputs: int) -> str:
    if targets.shape == (rows,) and not targets.is_floating_point():
        return (
            "These seem to be class labels: give the real-valued model's own outputs as targets, or take the labels "
            'with loss="hinge".'
        )
    return f"Give a number for every output: targets of shape ({rows}, {outputs})."
