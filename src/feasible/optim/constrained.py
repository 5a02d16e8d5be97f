"""What optimizers that hold weights in sets by themselves share: which set each weight has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from feasible.errors import UnsupportedError
from feasible.sets import Set

Sets = Set | Sequence[Set | None] | Mapping[Tensor, Set]


@runtime_checkable
class TakesSets(Protocol):
    """An optimizer that holds weights in sets by itself; ``problem.attach`` hands it those under ``Project``."""

    searches: bool
    """Whether a step goes on until it has minimised, so that multipliers may follow at their full rate."""
    works_with: ClassVar[str]
    """What to use where a set is refused, as a sentence."""

    def objection(self, set: Set) -> str | None:
        """Why it cannot hold a weight in the set, in half a sentence; ``None`` where it can."""

    def constrain_(self, parameter: Tensor, set: Set | None) -> None:
        """Hold the weight in the set from now on; ``None``: let it go."""


class Held(NamedTuple):
    """A set as it was handed over, and bound to its weight."""

    given: Set
    bound: Set


class ConstrainedOptimizer(Optimizer):
    """An optimizer whose weights may have a set each.

    A set is given for all weights, for each of them, in a parameter group under ``"set"``, by
    ``constrain_`` at any time, or by ``Problem.attach``. A weight outside its set is moved to the nearest
    member when the set is given; a member keeps its bits. Sets are not part of ``state_dict``.
    """

    searches: bool = False
    works_with: ClassVar[str] = "convex sets."

    def __init__(self, params: ParamsT, defaults: dict[str, Any], sets: Sets | None = None) -> None:
        self._sets: dict[Tensor, Held] = {}
        entries: Any = params if isinstance(params, Tensor) else list(params)
        super().__init__(entries, defaults)
        for parameter, set in self._declared(entries, sets):
            if set is not None:
                self.constrain_(parameter, set)

    def objection(self, set: Set) -> str | None:
        """Why it cannot hold a weight in the set, in half a sentence; ``None`` where it can."""
        raise NotImplementedError

    @torch.no_grad()
    def constrain_(self, parameter: Tensor, set: Set | None) -> None:
        """Hold a weight in a set from now on; ``None``: let it go.

        Args:
            parameter: one of the optimizer's parameters.
            set: where it must be; the weight is moved to the nearest member at once.

        Raises:
            ValueError: the parameter is not the optimizer's, or the set does not fit its shape or dtype.
            UnsupportedError: the optimizer cannot work on such a set.
        """
        if not any(parameter is own for own in self._parameters()):
            raise ValueError(
                f"{type(self).__name__}: constrain_ got a tensor that is not one of its parameters.\n"
                "  Give it to the constructor, or to add_param_group, first."
            )
        held = self._sets.get(parameter)
        if set is None:
            if held is not None:
                del self._sets[parameter]
                self._sets_changed()
            return
        if not isinstance(set, Set):
            raise ValueError(
                f"{type(self).__name__}: expected a set such as NonNegative(), got {type(set).__name__}."
            )
        if held is not None and held.given is set:
            return
        objection = self.objection(set)
        if objection is not None:
            raise UnsupportedError(
                f"{type(self).__name__} cannot hold a weight in {set!r}: {objection}.\n"
                f"  Works with: {self.works_with}"
            )
        bound = set.bind(parameter.detach())
        member = bound.project(parameter)
        if not torch.equal(member, parameter):
            parameter.copy_(member)
        self._sets[parameter] = Held(set, bound)
        self._sets_changed()

    def set_of(self, parameter: Tensor) -> Set | None:
        """The set that holds a weight, bound to it."""
        held = self._sets.get(parameter)
        return None if held is None else held.bound

    @property
    def _options(self) -> dict[str, Any]:
        """What the first group says holds for all."""
        return self.param_groups[0]

    def _name(self, parameter: Tensor) -> str:
        """The parameter's name, where torch was given one, or its place."""
        for number, group in enumerate(self.param_groups):
            for place, own in enumerate(group["params"]):
                if own is parameter:
                    named = group.get("param_names")
                    return named[place] if named else f"parameter {place} of group {number}"
        raise KeyError(parameter)

    def _sets_changed(self) -> None:
        """What was derived from the sets is out of date."""

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _declared(self, entries: Sequence[Any], sets: Sets | None) -> Iterable[tuple[Tensor, Set | None]]:
        """Weights with the sets that the constructor was given for them."""
        if sets is None:
            return []
        if isinstance(sets, Set):
            return [(parameter, sets) for parameter in self._parameters() if parameter not in self._sets]
        if isinstance(sets, Mapping):
            return list(sets.items())
        if isinstance(sets, str) or not isinstance(sets, Sequence):
            raise ValueError(
                f"{type(self).__name__}: sets must be a set, a list of them or a mapping from parameters, "
                f"got {type(sets).__name__}."
            )
        if len(sets) != len(entries):
            raise ValueError(
                f"{type(self).__name__}: got {len(sets)} sets for {len(entries)} parameters (or groups).\n"
                "  Give one for each, None for a free one; or a single set for all."
            )
        if isinstance(entries[0], dict):
            groups = zip(self.param_groups, sets, strict=True)
            return [(parameter, set) for group, set in groups for parameter in group["params"]]
        return list(zip(self._parameters(), sets, strict=True))

    # -- as torch expects it ----------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch; ``"set"`` is the set of each of the group's weights.

        Raises:
            ValueError: a parameter is complex, or the set does not fit.
            UnsupportedError: the optimizer cannot work on such a set.
        """
        given = dict(param_group) if isinstance(param_group, dict) else param_group
        set = given.pop("set", None) if isinstance(given, dict) else None
        super().add_param_group(given)
        try:
            for parameter in given["params"]:
                check_real(type(self).__name__, parameter)
                if set is not None:
                    self.constrain_(parameter, set)
        except Exception:
            dropped = self.param_groups.pop()
            for parameter in dropped["params"]:
                self._sets.pop(parameter, None)
            raise

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: torch's own part and the sets."""
        return {**super().__getstate__(), "_sets": self._sets}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch, but tensors keep their dtype: masks stay bool, sums stay float64."""
        super().load_state_dict(state_dict)
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        for number, parameter in zip(numbers, self._parameters(), strict=True):
            for key, value in state_dict["state"].get(number, {}).items():
                if isinstance(value, Tensor):
                    self.state[parameter][key] = value.detach().to(self._home(key, parameter), copy=True)
        self._sets_changed()

    def _home(self, key: str, parameter: Tensor) -> torch.device:
        """The device on which a tensor of the state lives."""
        return parameter.device


def dense_gradient(parameter: Tensor, negated: bool) -> Tensor:
    """The gradient of what is minimised."""
    assert parameter.grad is not None
    gradient = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
    return -gradient if negated else gradient


def as_number(owner: str, loss: Any) -> float:
    """What a closure returned, as a number.

    Raises:
        ValueError: it returned none.
    """
    if loss is None:
        raise ValueError(f"{owner}: the closure returned None. End it with `return loss`.")
    if isinstance(loss, Tensor) and loss.numel() != 1:
        raise ValueError(
            f"{owner}: the closure must return one number, got a tensor of shape {tuple(loss.shape)}.\n"
            "  Reduce it, as with loss.mean(), before backward."
        )
    return float(loss)


def check_real(owner: str, parameter: Tensor) -> None:
    """Raise for complex and integer parameters."""
    if not parameter.is_floating_point():
        raise ValueError(
            f"{owner}: expected real floating-point parameters, got {parameter.dtype}.\n"
            "  Hold a complex weight as torch.view_as_real(weight)."
        )


def needs_closure(owner: str) -> ValueError:
    """What ``step()`` without a closure is told."""
    return ValueError(
        f"{owner}.step needs a closure that clears the gradients, computes the loss, calls backward and returns "
        "the loss.\n  GradScaler cannot pass one on: train in float32 or float64, or with bfloat16 autocast and "
        "no scaler."
    )
