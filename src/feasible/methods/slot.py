"""Where a weight lives: one name, one leaf tensor that optimizers step, and every module that owns it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from feasible.sets.charts import Chart

_WRAPPERS = ("OptimizedModule", "DistributedDataParallel", "DataParallel", "FullyShardedDataParallel")


@dataclass(eq=False)
class Slot:
    """One weight under its canonical name; tied weights are one slot with several owners."""

    name: str
    owners: list[tuple[nn.Module, str]] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    bare: Tensor | None = None
    """The tensor itself, where the problem holds tensors rather than a module."""
    chart: Chart | None = None
    """Set while the weight is a function of latent coordinates."""
    original: Tensor | None = None
    """The parameter that a chart has replaced."""
    learned: bool = True
    """Whether the weight took gradients before it was held."""

    leaf: Tensor = field(init=False)
    """What an optimizer steps: the weight, or its latent coordinates."""

    def refresh(self) -> Tensor:
        """Look the leaf up again: wrappers such as ``fully_shard`` exchange parameters."""
        if self.bare is not None:
            self.leaf = self.bare
        else:
            module, attribute = self.owners[0]
            if self.chart is not None:
                self.leaf = module.parametrizations[attribute].original  # type: ignore[index, union-attr]
            else:
                self.leaf = module._parameters[attribute]  # type: ignore[assignment]
        return self.leaf

    def value(self) -> Tensor:
        """What the model computes with, with its gradient path."""
        if self.bare is not None:
            return self.bare
        module, attribute = self.owners[0]
        return getattr(module, attribute)  # type: ignore[no-any-return]

    def write(self, x: Tensor) -> None:
        """Give the weight the value ``x``, in place."""
        with torch.no_grad():
            leaf = self.leaf
            new = x if self.chart is None else self.chart.right_inverse(x)
            if new is not leaf:
                leaf.copy_(new)

    def hold(self) -> None:
        """Take no gradients: no optimizer moves the weight then."""
        self.learned = self.leaf.requires_grad
        self.leaf.requires_grad_(False)
        self.leaf.grad = None

    def release(self) -> None:
        """Take gradients again, if it did before."""
        self.leaf.requires_grad_(self.learned)

    def install(self, chart: Chart) -> None:
        """Put latent coordinates under the weight, one new leaf for all its owners."""
        weight = self.leaf
        value = weight.detach().clone()
        shared: nn.Parameter | None = None
        for module, attribute in self.owners:
            _own_class(module)
            if shared is not None:  # the first owner's coordinates have taken the weight's storage
                with torch.no_grad():
                    weight.set_(value)  # type: ignore[call-overload]
            parametrize.register_parametrization(module, attribute, chart, unsafe=True)
            holder = module.parametrizations[attribute]  # type: ignore[index]
            if shared is None:
                start = holder.original.detach().clone(memory_format=torch.contiguous_format)  # type: ignore[union-attr]
                shared = nn.Parameter(start, requires_grad=weight.requires_grad)
            holder.original = shared  # type: ignore[union-attr]
        self.chart = chart
        self.original = weight
        self.refresh()

    def bake(self) -> None:
        """Make the weight a plain parameter again, with its place in the state dict and its ties."""
        if self.chart is None:
            return
        assert self.original is not None
        with torch.no_grad():
            final = self.value().detach().clone()
            latent = self.leaf
            # The original parameter object returns, so that ties and references held elsewhere stay true.
            restored = self.original.to(device=final.device, dtype=final.dtype)
            if restored is not self.original:
                restored = nn.Parameter(restored, requires_grad=latent.requires_grad)
            if restored.shape != final.shape:  # coordinates of another shape have taken its storage
                restored.set_(torch.empty_like(final))  # type: ignore[call-overload]
            restored.copy_(final)
            restored.grad = None
        for module, attribute in self.owners:
            order = list(_declared_order(module, attribute))
            _own_class(module)
            parametrize.remove_parametrizations(module, attribute, leave_parametrized=True)
            module._parameters[attribute] = restored  # type: ignore[assignment]
            _restore_order(module._parameters, order)
            if not parametrize.is_parametrized(module):
                module.__dict__.pop(ORDERS, None)
        self.chart = None
        self.original = None
        self.refresh()


def _own_class(module: nn.Module) -> None:
    """Give a parametrized module a class that no copy shares.

    torch keeps parametrized weights as properties of a class made for the module; a deep copy, such as an
    averaged model, has the same class and would lose or gain the property with the original.
    """
    if parametrize.is_parametrized(module):
        shared = type(module)
        members = {
            key: value for key, value in vars(shared).items() if key not in ("__dict__", "__weakref__")
        }
        module.__class__ = type(shared.__name__, shared.__bases__, members)


ORDERS = "_feasible_parameter_order"


def remember_order(module: nn.Module) -> None:
    """Note the order of a module's own parameters before the first chart takes one away."""
    if ORDERS not in module.__dict__:
        module.__dict__[ORDERS] = tuple(module._parameters)


def _declared_order(module: nn.Module, attribute: str) -> Sequence[str]:
    order: Sequence[str] = module.__dict__.get(ORDERS, (*module._parameters, attribute))
    return order


def _restore_order(parameters: dict[str, nn.Parameter | None], order: Sequence[str]) -> None:
    known = {name: parameters.pop(name) for name in list(parameters)}
    parameters.update({name: known.pop(name) for name in order if name in known})
    parameters.update(known)


def unwrap(model: nn.Module) -> nn.Module:
    """The user's module inside torch.compile's, DDP's and FSDP's wrappers."""
    while type(model).__name__ in _WRAPPERS:
        model = getattr(model, "_orig_mod", None) or model.module  # type: ignore[assignment]
    return model


def find_slots(model: nn.Module | Mapping[str, Tensor] | Sequence[Tensor]) -> dict[str, Slot]:
    """Every weight of the model by canonical name; tied weights once, under their first name."""
    slots: dict[str, Slot] = {}
    by_identity: dict[int, Slot] = {}
    if isinstance(model, nn.Module):
        for name, module, attribute, parameter in _walk(unwrap(model), ""):
            slot = by_identity.get(id(parameter))
            if slot is None:
                slot = by_identity[id(parameter)] = slots[name] = Slot(name)
            else:
                slot.aliases.append(name)
            # A module that is used twice owns its weight once.
            if not any(owner is module and own == attribute for owner, own in slot.owners):
                slot.owners.append((module, attribute))
            slot.refresh()
        return slots
    if isinstance(model, Tensor) or not isinstance(model, (Mapping, Sequence)):
        raise ValueError(
            f"Problem: expected a module, or a dict or list of tensors, got {type(model).__name__}."
        )
    named = model.items() if isinstance(model, Mapping) else ((str(i), x) for i, x in enumerate(model))
    for name, tensor in named:
        if not isinstance(tensor, Tensor) or not tensor.is_leaf:
            got = "a computed tensor" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(
                f"Problem: {name!r} must be a leaf tensor (what an optimizer can step), got {got}."
            )
        if id(tensor) in by_identity:
            by_identity[id(tensor)].aliases.append(str(name))
        else:
            slot = by_identity[id(tensor)] = slots[str(name)] = Slot(str(name), bare=tensor)
            slot.refresh()
    return slots


def _walk(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """Parameters with their owners in the order of the state dict, shared modules under each name."""
    for attribute, parameter in module._parameters.items():
        if parameter is not None:
            yield prefix + attribute, module, attribute, parameter
    for name, child in module._modules.items():
        if child is None:
            continue
        # Coordinates of the user's own parametrizations: `parametrizations.weight.original` is `weight.original`.
        path = prefix if name == "parametrizations" else f"{prefix}{name}."
        yield from _walk(unwrap(child), path)
