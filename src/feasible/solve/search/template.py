"""A model without its weights: what all choices share, and what each has for itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from feasible.errors import UnsupportedError
from feasible.methods.slot import unwrap
from feasible.solve.handed import first_value, one_number
from feasible.solve.search.choices import Choice

Call = Callable[..., Any]
Loss = Callable[[Call, Any], Tensor]
State = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Template:
    """The module and the roles of its tensors, by the names that ``functional_call`` knows."""

    module: nn.Module
    """A copy: the user's model is touched only to load the best choice."""
    loss: Loss
    names: Mapping[str, str]
    """The chosen weights' names, from those that the user knows."""
    masks: Mapping[str, Tensor]
    """Which entries of a chosen weight are chosen, where not all of them are."""
    starts: Sequence[State]
    """For each start the first values of what is trained."""
    frozen: State
    """Chosen weights that take no gradients: what a mask leaves free stays as it is."""
    buffers: Sequence[State]
    """For each start the running statistics: each choice has its own."""
    counters: State
    """Whole numbers that calls change: they count for all choices alike."""

    def completed(self, name: str, chosen: Tensor, state: State) -> Tensor:
        """A chosen weight with the entries that a mask leaves free."""
        mask = self.masks.get(name)
        if mask is None:
            return chosen
        return torch.where(mask, chosen, state[name] if name in state else self.frozen[name])

    @torch.no_grad()
    def load(self, model: nn.Module, state: State) -> None:
        """Copy one choice and what was trained with it into the user's model."""
        plain = unwrap(model)
        tensors = {**dict(plain.named_parameters()), **dict(plain.named_buffers())}
        for name, value in state.items():
            tensors[name].copy_(value)


def make_template(
    model: nn.Module, choices: Sequence[Choice], loss: Loss, batch: Any, starts: int, seed: int
) -> Template:
    """Copy the model and find the roles of its tensors; one call tells which buffers change.

    Raises:
        ValueError: the model is lazy, or the loss is not one number.
        UnsupportedError: a free parameter has no other start.
    """
    plain = unwrap(model)
    for name, parameter in plain.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ValueError(f"{name} has no shape yet: run the model once before the search.")
    real = {id(parameter): name for name, parameter in plain.named_parameters()}
    names = {choice.name: real[id(choice.slot.refresh())] for choice in choices}
    masks = {names[choice.name]: choice.mask for choice in choices if choice.mask is not None}
    module = copy.deepcopy(plain)
    module.zero_grad(set_to_none=True)
    values = {name: parameter.detach() for name, parameter in module.named_parameters()}
    whole = set(names.values()) - masks.keys()
    trained = [n for n, p in module.named_parameters() if p.requires_grad and n not in whole]
    changed = _changed_buffers(module, loss, batch, values)
    moving = [name for name in changed if changed[name].is_floating_point()]
    restarted = list(_restarts(module, trained, starts, seed))
    return Template(
        module,
        loss,
        names,
        masks,
        [{name: state[name] for name in trained} for state in restarted],
        {name: values[name].clone() for name in masks if name not in trained},
        [{name: state[name] for name in moving} for state in restarted],
        {name: buffer for name, buffer in changed.items() if name not in moving},
    )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in eval mode, then as it was."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def _changed_buffers(module: nn.Module, loss: Loss, batch: Any, values: State) -> State:
    """The buffers that one call writes to or replaces, as they were before it."""
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    given = {name: buffer.clone() for name, buffer in before.items()}
    versions = {name: buffer._version for name, buffer in given.items()}
    state = {**values, **given}

    def call(*inputs: Any, **options: Any) -> Any:
        return functional_call(module, state, inputs, options)

    one_number(first_value(loss, call, batch, "loss"), "loss")
    return {
        name: before[name]
        for name, buffer in given.items()
        # Batch norm writes to its statistics without counting a version.
        if state[name] is not buffer
        or buffer._version != versions[name]
        or not torch.equal(buffer, before[name])
    }


def _restarts(module: nn.Module, trained: Sequence[str], starts: int, seed: int) -> Iterator[State]:
    """The model's own tensors, then those of copies that are initialised anew, each under its seed."""
    yield _tensors(module)
    if starts == 1:
        return
    covered = [name for name, part in module.named_modules() if _reset_of(part) is not None]
    fixed = [name for name in trained if "parametrizations." in name or not _is_under(name, covered)]
    if fixed:
        raise UnsupportedError(
            f"starts={starts} needs modules that can be initialised anew, and {', '.join(fixed)} cannot: no module "
            "with reset_parameters() holds it as a plain weight.\n  Give the module that method, or use starts=1."
        )
    for start in range(1, starts):
        torch.manual_seed(seed + start)
        yield _tensors(copy.deepcopy(module).apply(_reset))  # children first: what their parents set counts


def _tensors(module: nn.Module) -> State:
    named = (*module.named_parameters(), *module.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in named}


def _reset(module: nn.Module) -> None:
    reset = _reset_of(module)
    if reset is not None:
        reset()


def _reset_of(module: nn.Module) -> Callable[[], None] | None:
    for name in ("reset_parameters", "_reset_parameters"):
        reset = getattr(module, name, None)
        if callable(reset):
            return reset  # type: ignore[no-any-return]
    return None


def _is_under(name: str, modules: Sequence[str]) -> bool:
    return any(not module or name.startswith(f"{module}.") for module in modules)
