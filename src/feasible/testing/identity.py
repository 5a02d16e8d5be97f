"""A set is a value: equal by content, printable, copyable, unchangeable, and bound to a tensor once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.sets import Set
from feasible.testing.subject import SetSubject, Situation
from feasible.testing.values import expect_a_value, expect_repr_makes_it


def equal_by_content(subject: SetSubject) -> None:
    """Copies are equal with equal hashes, other things are not; the fields cannot be changed."""
    expect_a_value(subject.set)


def repr_shows_how_to_make_it(subject: SetSubject) -> None:
    """``repr`` names the class, and makes an equal set where no tensor is in it."""
    expect_repr_makes_it(subject.set, {kind.__name__: kind for kind in _subclasses(Set)})


def binding_takes_device_and_dtype(subject: SetSubject) -> None:
    """``bind`` moves tensors to the device and dtype of the tensor; twice changes nothing more."""
    for shape in subject.shapes:
        for like in (
            torch.zeros(shape, dtype=torch.bfloat16),
            torch.zeros(shape, dtype=torch.float64),
            torch.zeros(shape, device="meta"),
        ):
            bound = subject.set.bind(like)
            for tensor in _tensors(bound):
                right = tensor.device == like.device and tensor.dtype in (like.dtype, torch.bool, torch.int64)
                if not right:
                    raise AssertionError(
                        f"{bound!r}: bound to {like.dtype} on {like.device}, but holds a tensor of "
                        f"{tensor.dtype} on {tensor.device}."
                    )
            if bound.bind(like) != bound or type(bound) is not type(subject.set):
                raise AssertionError(f"{bound!r}: binding it twice gives another set.")


def other_numbers_are_refused(subject: SetSubject) -> None:
    """``bind`` refuses integers, bools and complex numbers, and names the dtype."""
    for dtype in (torch.int64, torch.bool, torch.complex64):
        try:
            subject.set.bind(torch.ones(tuple(subject.shapes[0]), dtype=dtype))
        except ValueError as error:
            if str(dtype) in str(error):
                continue
        raise AssertionError(
            f"{subject.set!r}: bound to a tensor of {dtype}, it does not refuse by that name."
        )


def bound_and_unbound_agree(subject: SetSubject) -> None:
    """Binding changes speed, not results (for a set that takes nothing from the tensor)."""
    for shape in subject.shapes:
        x = subject.normal(shape)
        bound = subject.set.bind(x)
        if bound.taken():
            continue
        at = Situation(bound, "scale 1", x)
        at.expect(torch.equal(bound.project(x), subject.set.project(x)), "binding changes the projection")
        at.expect(torch.equal(bound.contains(x), subject.set.contains(x)), "binding changes contains")


def what_was_taken_comes_back(subject: SetSubject) -> None:
    """``with_taken`` puts a checkpoint's tensors in the place of those that ``bind`` took."""
    for shape in subject.shapes:
        first, second = (subject.set.bind(subject.normal(shape, seed)) for seed in (1, 2))
        restored = first.with_taken(second.taken())
        if restored != second:
            raise AssertionError(f"{first!r}: with_taken does not restore what another copy had taken.")


def what_it_lacks_is_said(subject: SetSubject) -> None:
    """An optional function that is not offered raises ``UnsupportedError`` and names what there is."""
    shape = tuple(subject.shapes[0])
    zeros = torch.zeros(shape)
    calls: dict[str, tuple[Any, ...]] = dict.fromkeys(("slack", "barrier", "support", "lmo"), (zeros,))
    calls |= {"interior": (zeros, 0.1), "tangent": (zeros, zeros), "chart": ()}
    calls |= {"members": (shape,), "count": (shape,)}
    for name, arguments in calls.items():
        if subject.set.offers(name):
            continue
        try:
            getattr(subject.set, name)(*arguments)
        except UnsupportedError as error:
            if "\n" not in str(error):
                raise AssertionError(
                    f"{subject.set!r}.{name}: the error does not name alternatives."
                ) from error
            continue
        raise AssertionError(f"{subject.set!r} does not offer {name}, but the call goes through.")


def _subclasses(kind: Any) -> Iterator[Any]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Set):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))
