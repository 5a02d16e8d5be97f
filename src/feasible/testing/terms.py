"""What a method adds to the loss, and how its state moves: pure functions of values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from feasible.methods.method import Pull, State
from feasible.sets import Set
from feasible.sets.set import contents
from feasible.testing.subject import same_bits
from feasible.testing.trial import RESERVED, MethodSubject, within_rows


@dataclass(frozen=True)
class Value:
    """A value in the course of a training: the bound set, and the state so far."""

    subject: MethodSubject
    set: Set
    name: str
    at: Tensor
    state: State
    step: int

    def pull(self, at: Tensor | None = None) -> Pull:
        """The method's pull, here or at another point."""
        pull = self.subject.method.pull(self.at if at is None else at, self.set, self.state, self.step)
        self.expect(isinstance(pull, Pull), "pull returns no Pull")
        assert pull is not None
        return pull

    def update(self, full: bool = False, pull: Pull | None = None) -> State:
        """The tensors of the state that change."""
        return self.subject.method.update(self.at, self.set, self.state, self.step, full, pull)

    def expect(self, condition: object, sentence: str) -> None:
        """As the subject's, with the set and the value."""
        dtype = str(self.at.dtype).removeprefix("torch.")
        where = f"{self.name}, shape {tuple(self.at.shape)}, {dtype}, step {self.step}"
        self.subject.expect(condition, sentence, self.set, where)


def gradient_is_the_derivative_of_the_amount(subject: MethodSubject) -> None:
    """The gradient that ``pull`` returns agrees with differences of its amounts, at every entry."""
    step = 1e-6
    for value in _values(subject):
        if value.name == "a member" and not subject.smooth:
            continue
        pull = value.pull()
        allowed = 1e-4 + 1e-8 * float(pull.amount.abs()) + 1e-4 * pull.gradient.abs().reshape(-1)
        for entry, slope in enumerate(pull.gradient.reshape(-1)):
            up, down = (value.pull(_moved(value.at, entry, s * step)).amount for s in (1, -1))
            error = (slope - (up - down) / (2 * step)).abs()
            value.expect(
                error <= allowed[entry], f"entry {entry} of the gradient is off by {float(error):.3g}"
            )


def pull_has_the_form_of_the_value(subject: MethodSubject) -> None:
    """The amount is one number, the gradient has the value's shape; both its dtype, device, and no history."""
    for dtype in (torch.float64, torch.float32):
        for value in _values(subject, dtype):
            pull = value.pull()
            forms = ((pull.amount, torch.Size(()), "amount"), (pull.gradient, value.at.shape, "gradient"))
            for tensor, shape, name in forms:
                value.expect(isinstance(tensor, Tensor), f"the {name} is no tensor")
                value.expect(tensor.shape == shape, f"the {name} has shape {tuple(tensor.shape)}")
                value.expect(tensor.dtype == dtype, f"the {name} is {tensor.dtype}")
                value.expect(tensor.device == value.at.device, f"the {name} is on {tensor.device}")
                value.expect(not tensor.requires_grad, f"the {name} carries a history")
                value.expect(tensor.isfinite().all(), f"the {name} is not finite")


def pull_and_update_leave_their_inputs_alone(subject: MethodSubject) -> None:
    """Value, state and set keep their bits, and the same inputs give the same bits again."""
    for value in _values(subject):
        at, state, set = value.at.clone(), {k: v.clone() for k, v in value.state.items()}, contents(value.set)
        first, second = value.pull(), value.pull()
        value.expect(same_bits(first.amount, second.amount), "pull returns another amount the second time")
        value.expect(
            same_bits(first.gradient, second.gradient), "pull returns another gradient the second time"
        )
        for full in (False, True):
            once, again = value.update(full), value.update(full)
            agree = once.keys() == again.keys() and all(same_bits(once[key], again[key]) for key in once)
            value.expect(agree, "update returns another state the second time")
        value.expect(same_bits(value.at, at), "the value is changed in place")
        value.expect(contents(value.set) == set, "the set is changed in place")
        changed = [key for key in state if not same_bits(value.state[key], state[key])]
        value.expect(not changed, f"the state is changed in place: {', '.join(changed)}")


def update_with_the_known_pull_agrees(subject: MethodSubject) -> None:
    """``update`` returns the same whether or not it is handed what ``pull`` has returned for this value."""
    for value in _values(subject):
        for full in (False, True):
            plain, spared = value.update(full), value.update(full, value.pull())
            agree = plain.keys() == spared.keys() and all(same_bits(plain[k], spared[k]) for k in plain)
            value.expect(agree, "update returns another state where the pull is known")


def state_keeps_its_form(subject: MethodSubject) -> None:
    """Tensors of their own, on the value's device, without history; ``update`` keeps shapes and dtypes."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for value in _values(subject, dtype):
            foreign = [
                key for key in value.state if key in RESERVED or "." in key or key in value.set.taken()
            ]
            value.expect(not foreign, f"the state uses names that are taken: {', '.join(foreign)}")
            _expect_own_memory(value, value.state)
            if dtype == torch.bfloat16:
                continue  # means are float32 at least
            for full in (False, True):
                changed = value.update(full)
                unknown = sorted(changed.keys() - value.state.keys())
                value.expect(not unknown, f"update returns what bind did not make: {', '.join(unknown)}")
                for key, new in changed.items():
                    old = value.state[key]
                    same = new.shape == old.shape and new.dtype == old.dtype and new.device == old.device
                    form = f"{tuple(old.shape)} of {old.dtype} to {tuple(new.shape)} of {new.dtype}"
                    value.expect(same, f"update changes the form of {key}, from {form}")
                _expect_own_memory(value, {**value.state, **changed})


def _expect_own_memory(value: Value, state: State) -> None:
    """No history, no memory that belongs to the value or to another entry."""
    owners = {_memory(value.at): "the value"}
    for key, tensor in state.items():
        value.expect(tensor.device == value.at.device, f"the state's {key} is on {tensor.device}")
        value.expect(not tensor.requires_grad, f"the state's {key} carries a history")
        wide = not tensor.is_floating_point() or tensor.element_size() >= 4
        value.expect(wide, f"the state's {key} is {tensor.dtype}; it would lose small steps")
        shared = owners.get(_memory(tensor)) if tensor.numel() else None
        value.expect(shared is None, f"the state's {key} shares its memory with {shared}")
        owners[_memory(tensor)] = key


def samples_do_not_mix(subject: MethodSubject) -> None:
    """Terms of several samples add up, and every sample moves its own row of the state."""
    for set in subject.served if subject.has_term and subject.method.for_values else []:
        if not within_rows(set) or not {(4, 3), (3,)} <= {*subject.shapes(set)}:
            continue
        _, batch = _course(subject, set, subject.point(shape=(4, 3)), "a batch of four")
        rows = [
            Value(
                subject,
                set.bind(batch.at[[i]]),
                batch.name,
                batch.at[[i]],
                {key: tensor[[i]] if tensor.dim() else tensor for key, tensor in batch.state.items()},
                batch.step,
            )
            for i in range(4)
        ]
        pull, pulls = batch.pull(), [row.pull() for row in rows]
        total = torch.stack([one.amount for one in pulls]).sum()
        batch.expect(torch.allclose(pull.amount, total), "the amount is not the sum of the samples'")
        gradients = torch.cat([one.gradient for one in pulls])
        batch.expect(
            torch.allclose(pull.gradient, gradients), "the gradients of samples depend on each other"
        )
        changed, changes = batch.update(), [row.update() for row in rows]
        for key, new in changed.items():
            together = torch.cat([change[key] for change in changes]) if new.dim() else changes[0][key]
            batch.expect(torch.allclose(new, together), f"the samples' {key} depend on each other")


def multiplier_has_the_form_of_the_value(subject: MethodSubject) -> None:
    """0 before anything was seen, the value's shape and dtype, and a finite price: ``support(λ) < ∞``."""
    if not subject.method.has_multiplier:
        return
    for value in _values(subject):
        multiplier = subject.method.multiplier(value.at, value.set, value.state)
        value.expect(multiplier is not None, "has_multiplier is True, but there is none")
        assert multiplier is not None
        value.expect(
            multiplier.shape == value.at.shape, f"the multiplier has shape {tuple(multiplier.shape)}"
        )
        value.expect(multiplier.isfinite().all(), "the multiplier is not finite")
        value.expect(value.step or not multiplier.any(), "the multiplier does not begin with 0")
        if subject.normal and value.set.offers("support"):
            price = value.set.support(multiplier)
            value.expect(
                price.isfinite().all(), "the multiplier lies in no normal cone: its support is infinite"
            )


def _values(subject: MethodSubject, dtype: torch.dtype = torch.float64) -> Iterator[Value]:
    """Points outside, far away and inside, with a fresh state and one that has moved."""
    if not subject.has_term:
        return
    for set in subject.served:
        outside = subject.point(dtype=dtype)
        member = set.bind(outside).project(outside)
        points = {"outside": outside, "far away": 100 * subject.point(1, dtype=dtype), "a member": member}
        for name, at in points.items():
            yield from _course(subject, set, at, name)


def _course(subject: MethodSubject, set: Set, at: Tensor, name: str) -> Iterator[Value]:
    """The value with the first state, and with that after five steps on its way."""
    bound, method = set.bind(at), subject.method
    with torch.no_grad():
        state = method.bind(at, bound)
        yield Value(subject, bound, name, at, state, 0)
        for step in range(5):
            state = {**state, **method.update(_wide(at) + 0.1 * step, bound, state, step, False)}
        yield Value(subject, bound, name, at, state, 5)


def _wide(at: Tensor) -> Tensor:
    return at.to(torch.promote_types(at.dtype, torch.float32))


def _moved(at: Tensor, entry: int, by: float) -> Tensor:
    moved = at.clone(memory_format=torch.contiguous_format)
    moved.view(-1)[entry] += by
    return moved


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
