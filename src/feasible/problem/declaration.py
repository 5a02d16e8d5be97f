"""What is checked when a constraint is declared, before anything changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.optim import Optimizer

from feasible.errors import UnsupportedError
from feasible.methods.method import Method
from feasible.methods.slot import Slot
from feasible.problem.constraint import Constraint, ValueSpec
from feasible.problem.text import closest, listing
from feasible.sets import Set


def check_kinds(set: Set, by: Method | None) -> None:
    """Raise unless these are a set and a method, not their classes or something else."""
    if not isinstance(set, Set):
        hint = f" Did you mean {set.__name__}(…)?" if isinstance(set, type) else ""
        if isinstance(set, (list, tuple)) and all(isinstance(value, (int, float)) for value in set):
            hint = f" Did you mean FiniteSet({list(set)})?"
        raise ValueError(f"expected a set such as NonNegative(), got {set!r}.{hint}")
    if by is not None and not isinstance(by, Method):
        hint = f" Did you mean {by.__name__}(…)?" if isinstance(by, type) else ""
        raise ValueError(f"by= expects a method such as Project(), got {by!r}.{hint}")


def check_spec(name: str, spec: ValueSpec) -> None:
    """Raise where an argument of ``require`` is out of range."""
    if spec.per not in ("value", "sample", "index"):
        raise ValueError(f'{name}: per must be "value", "sample" or "index", got {spec.per!r}.')
    if spec.per == "index" and (spec.size is None or spec.size < 1):
        raise ValueError(f'{name}: per="index" needs size=N, the number of samples (≥ 1), got {spec.size!r}.')
    if spec.per != "index" and spec.size is not None:
        raise ValueError(f'{name}: size=N belongs to per="index", got per={spec.per!r}, size={spec.size!r}.')
    is_power = isinstance(spec.reduction, (int, float)) and spec.reduction >= 1
    if spec.reduction not in ("mean", "huber") and not is_power:
        raise ValueError(
            f'{name}: reduction must be "mean", "huber" or the p ≥ 1 of a p-mean, got {spec.reduction!r}.'
        )
    if spec.tolerance is not None and not 0 <= spec.tolerance < float("inf"):
        raise ValueError(f"{name}: tolerance must be ≥ 0 and finite, got {spec.tolerance!r}.")
    average = spec.average
    if average not in (None, "window") and not (isinstance(average, float) and 0 < average < 1):
        raise ValueError(f'{name}: average must be None, "window" or a decay in (0, 1), got {average!r}.')
    if spec.function is not None and spec.per != "value":
        raise ValueError(f'{name}: fn= gives one value of the model and needs per="value".')


def check_form(name: str, method: Method, spec: ValueSpec) -> None:
    """Raise where a method that acts on the step cannot read the value so."""
    if not method.linearises:
        return
    form = getattr(method, "form", None)
    kind = type(method).__name__
    if spec.per == "index":
        raise UnsupportedError(
            f'{name}: {kind} keeps no multipliers between steps, so that per="index" has no meaning.\n'
            '  Use per="sample", or AugmentedLagrangian.'
        )
    if form == "sample" and spec.per != "sample":
        raise ValueError(f'{name}: form="sample" needs per="sample", got per={spec.per!r}.')
    if spec.average is not None:
        raise ValueError(
            f"{name}: {kind} solves for the present value; average={spec.average!r} has no place."
        )


def match(slots: Mapping[str, Slot], pattern: str, exclude: tuple[str, ...]) -> list[Slot]:
    """The weights that the pattern names and no exclusion does.

    Raises:
        ValueError: there are none.
    """
    if not isinstance(pattern, str):
        raise ValueError(
            f'expected the pattern of weights\' names as a string such as "*.weight", got {pattern!r}.'
        )

    def fits(slot: Slot, glob: str) -> bool:
        return any(fnmatchcase(known, glob) for known in (slot.name, *slot.aliases))

    found = [
        slot
        for slot in slots.values()
        if fits(slot, pattern) and not any(fits(slot, glob) for glob in exclude)
    ]
    if not found:
        without = f" once {list(exclude)} are excluded" if exclude else ""
        raise ValueError(
            f"constrain({pattern!r}, …) matches no parameter of the model{without}.{closest(pattern, slots)}\n"
            f"  The model has: {listing(slots)}"
        )
    return found


def free_names(name: str | None, slots: Sequence[Slot], taken: Iterable[str]) -> list[str]:
    """What the constraints on these weights are called.

    Raises:
        ValueError: the user's name is taken.
    """
    names: list[str] = []
    for slot in slots:
        base = slot.name if name is None else name if len(slots) == 1 else f"{name}/{slot.name}"
        known = {*taken, *names}
        if base in known and name is not None:
            raise ValueError(f"a constraint named {base!r} exists already. Choose another name.")
        number = next(n for n in range(1, len(known) + 2) if (base if n == 1 else f"{base}#{n}") not in known)
        names.append(base if number == 1 else f"{base}#{number}")
    return names


def check_weight(
    slot: Slot, set: Set, method: Method, constraints: Iterable[Constraint], optimizers: Iterable[Optimizer]
) -> None:
    """Raise where the weight cannot be constrained, or not by this method beside those that act already."""
    leaf = slot.refresh()
    if isinstance(leaf, nn.parameter.UninitializedParameter):
        raise ValueError(f"{slot.name} has no shape yet: run the model once before constraining it.")
    if not leaf.is_floating_point():
        raise ValueError(f"{slot.name} holds {leaf.dtype}; only floating-point tensors can be constrained.")
    if not method.for_weights:
        raise UnsupportedError(
            f"{type(method).__name__} on {slot.name}: it is for values that a training step computes.\n"
            f"  A weight is held in {set!r} by Project or Reparametrize; or require(…) a function of it."
        )
    other = next((c for c in constraints if c.slot is slot and c.method.hard), None)
    if method.hard and other is not None:
        raise ValueError(
            f"{slot.name} is already held in {other.set!r} by {type(other.method).__name__}; two methods that "
            f"move the same tensor would undo each other.\n"
            f"  Constrain it once, to the intersection: ({other.set!r}) & ({set!r})."
        )
    if method.latent:
        _check_latent(slot, set, method, optimizers)


def _check_latent(slot: Slot, set: Set, method: Method, optimizers: Iterable[Optimizer]) -> None:
    if slot.bare is not None:
        other = "ProximalAnneal(steps=…)" if set.discrete else "Project"
        raise UnsupportedError(
            f"{type(method).__name__} needs a module that owns {slot.name!r}, and the problem holds bare tensors.\n"
            f"  Use {other}, or put the tensor into an nn.Module."
        )
    for optimizer in optimizers:
        if any(parameter is slot.leaf for group in optimizer.param_groups for parameter in group["params"]):
            raise ValueError(
                f"{type(method).__name__} puts new coordinates under {slot.name}, but an attached "
                f"{type(optimizer).__name__} already holds the old ones.\n"
                "  Constrain first, then make the optimizer, then attach it."
            )


def bind(set: Set, slot: Slot) -> Set:
    """The set bound to the weight; what it has to say against it names the weight."""
    try:
        return set.bind(slot.value().detach())
    except ValueError as error:
        raise type(error)(f"{slot.name}: {error}") from None
