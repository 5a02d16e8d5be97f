"""The conformance suite finds what is wrong: sound methods, and the same ones broken in one place at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

import feasible as fs
from feasible.methods import Method
from feasible.methods.method import Pull
from feasible.schedules import Schedule, value_at
from feasible.testing import METHOD_CHECKS, MethodSubject, check_method


@dataclass(frozen=True)
class Spring(Method):
    """An augmented Lagrangian: somebody else's method."""

    strength: float | Schedule = 1.0

    has_multiplier = True
    convex_only = True

    def bind(self, value, set):
        return {"multiplier": torch.zeros_like(value, dtype=torch.promote_types(value.dtype, torch.float32))}

    def pull(self, mean, set, state, step):
        strength = value_at(self.strength, step)
        force = strength * set.residual(mean + state["multiplier"] / strength)
        return Pull((force.square().sum() - state["multiplier"].square().sum()) / (2 * strength), force)

    def update(self, mean, set, state, step, full, pull=None):
        force = self.pull(mean, set, state, step).gradient
        return {"multiplier": force if full else state["multiplier"].lerp(force, 0.1)}


@dataclass(frozen=True)
class Weak(Spring):
    """Adds nothing, and says that it does."""

    def pull(self, mean, set, state, step):
        return Pull(mean.sum() * 0, mean)


class Everything(Spring):
    """Equal to everything."""

    def __eq__(self, other):
        return True

    __hash__ = Spring.__hash__


@dataclass(frozen=True)
class Snap(Method):
    """A projection: somebody else's method."""

    guarantee = "projected"
    hard = True
    for_values = False

    def start(self, x, set):
        return set.project(x)

    def replaces_gradients(self, set):
        return set.needs_tangent

    def gradient_(self, points, gradients, set, rate):
        for x, gradient in zip(points, gradients, strict=True):
            step = max(rate, 0.01)
            gradient.copy_((x - set.project(x - step * gradient)) / step)

    def correct(self, slots, moments, set, step):
        for slot in slots:
            slot.leaf.copy_(set.project(slot.leaf))


class Chart(fs.Reparametrize):
    """Coordinates that can be broken."""


SETS = (fs.Box(-1, 1), fs.SumTo(1.5), fs.L2Ball(0.8), fs.OneHot())
SOUND = {
    Spring: MethodSubject(Spring(), SETS, solves=1e-3, steps=1000, rate=0.2),
    Snap: MethodSubject(Snap(), SETS, solves=1e-6),
    Chart: MethodSubject(Chart(), SETS),
    Everything: MethodSubject(Everything(), SETS),
}
sound_pull, sound_update, sound_start = Spring.pull, Spring.update, Snap.start


def refusing_once() -> Any:
    """Objects to every set the first time that it is asked."""
    asked = set()

    def objection(self, set):
        first = set not in asked
        asked.add(set)
        return "it is too early" if first else None

    return objection


def fickle(self, set):
    return "it is bound" if set.taken() or getattr(set, "offset", 0) == 1 else None


def scaled(amount=1.0, gradient=1.0):
    def pull(self, *arguments):
        sound = sound_pull(self, *arguments)
        return Pull(sound.amount * amount, sound.gradient * gradient)

    return pull


def counting(verb, key):
    """A verb that remembers, outside of the state, how often it was called."""
    calls = []

    def remembering(self, *arguments):
        calls.append(1)
        factor = 1 + len(calls) / 100
        if key is None:
            pull = verb(self, *arguments)
            return Pull(pull.amount, pull.gradient * factor)
        return {key: verb(self, *arguments)[key] * factor}

    return remembering


def in_place_pull(self, mean, set, state, step):
    pull = sound_pull(self, mean, set, state, step)
    mean.clamp_(-1, 1)
    return pull


def in_place_update(self, mean, set, state, step, full, pull=None):
    return {"multiplier": state["multiplier"].add_(mean)}


def doubled_where_known(self, mean, set, state, step, full, pull=None):
    new = sound_update(self, mean, set, state, step, full)["multiplier"]
    return {"multiplier": new if pull is None else 2 * new}


def averaged(self, mean, set, state, step):
    pull = sound_pull(self, mean, set, state, step)
    return Pull(pull.amount / mean.numel(), pull.gradient / mean.numel())


def only_matrices(self, mean, set, state, step):
    return sound_pull(self, mean.reshape(2, 3), set, state, step)


def only_numbers(self, mean, set, state, step):
    strength = 0.5 if callable(self.strength) else self.strength
    return sound_pull(replace(self, strength=strength), mean, set, state, step)


def nan_to_huge(self, mean, set, state, step, full, pull=None):
    state["multiplier"].add_(mean)
    return {}


def only_the_first(self, slots, moments, set):
    slots[0].leaf.copy_(set.project(slots[0].leaf))


def shrinking(self, slots, moments, set):
    for slot in slots:
        slot.leaf.copy_(set.project(slot.leaf * (1 - 1e-12)))


def back_to_a_corner(self, slots, moments, set):
    for slot in slots:
        slot.leaf.copy_(set.project(torch.full_like(slot.leaf, 9.0)))


def shared_gradients(self, points, gradients, set, rate):
    for gradient in gradients:
        gradient.copy_(gradient / len(gradients))


def moved_points(self, points, gradients, set, rate):
    Snap.gradient_(self, points, gradients, set, rate)
    for point in points:
        point.add_(1)


def not_in_place(self, points, gradients, set, rate):
    gradients = [gradient / 2 for gradient in gradients]


def keeping(self, mean, set, state, step):
    object.__setattr__(self, "last", mean)
    return sound_pull(self, mean, set, state, step)


def losing(self, slot, set):
    slot.write(slot.value() + 1)


# What is broken, and how, by the check that has to find it.
BROKEN: dict[str, list[tuple[type[Method], str, Any]]] = {
    "method_is_a_value": [
        (Spring, "__eq__", lambda self, other: True),
        (Everything, "strength", 1.0),
        (Spring, "__hash__", lambda self: id(self)),
        (Spring, "__setattr__", object.__setattr__),
        (Spring, "__reduce__", lambda self: 1 / 0),
    ],
    "method_repr_shows_how_to_make_it": [(Spring, "__repr__", lambda self: "Spring(3.0)")],
    "it_says_what_it_does": [
        (Snap, "for_values", True),
        (Snap, "guarantee", "for ever"),
        (Snap, "hard", False),
        (Snap, "needs", ("wings",)),
        (Snap, "has_multiplier", True),
        (Snap, "replaces_gradients", Method.replaces_gradients),
        (Spring, "latent", True),
        (Spring, "pull", Method.pull),
    ],
    "objections_are_sentences": [
        (Spring, "objection", lambda self, set: ""),
        (Spring, "objection", lambda self, set: not set.convex),
        (Spring, "objection", lambda self, set: "it is never right"),
        (Spring, "objection", refusing_once()),
    ],
    "what_it_refuses_is_refused_at_once": [(Spring, "objection", refusing_once())],
    "what_it_serves_trains_in_every_dtype": [
        (Spring, "bind", lambda self, value, set: {"multiplier": torch.zeros_like(value)}),
        (Spring, "pull", scaled(gradient=float("inf"))),
    ],
    "every_shape_trains": [(Spring, "pull", only_matrices)],
    "gradient_is_the_derivative_of_the_amount": [
        (Spring, "pull", scaled(gradient=1.1)),
        (Spring, "pull", scaled(amount=2)),
    ],
    "pull_has_the_form_of_the_value": [
        (Spring, "pull", lambda self, mean, *rest: Pull(mean.sum().reshape(1), mean)),
        (Spring, "pull", lambda self, mean, *rest: Pull(mean.sum().double(), mean.double())),
        (Spring, "pull", lambda self, mean, *rest: Pull(mean.sum().requires_grad_(), mean)),
        (Spring, "pull", lambda self, mean, *rest: None),
    ],
    "pull_and_update_leave_their_inputs_alone": [
        (Spring, "pull", in_place_pull),
        (Spring, "update", in_place_update),
        (Spring, "pull", counting(sound_pull, None)),
    ],
    "update_with_the_known_pull_agrees": [(Spring, "update", doubled_where_known)],
    "state_keeps_its_form": [
        (Spring, "bind", lambda self, value, set: {"multiplier": value.detach()}),
        (Spring, "bind", lambda self, value, set: {"multiplier": value * 0, "step": value.sum()}),
        (Spring, "update", lambda self, mean, set, state, *rest: {"multiplier": mean.sum()}),
        (Spring, "update", lambda self, mean, set, state, *rest: {"multiplier": mean}),
        (Spring, "update", lambda self, mean, set, state, *rest: {"momentum": mean * 0}),
    ],
    "samples_do_not_mix": [(Spring, "pull", averaged)],
    "multiplier_has_the_form_of_the_value": [
        (Spring, "multiplier", lambda self, mean, set, state: None),
        (Spring, "multiplier", lambda self, mean, set, state: state["multiplier"].sum()),
        (Spring, "multiplier", lambda self, mean, set, state: state["multiplier"] + 1),
        (Spring, "multiplier", lambda self, mean, set, state: state["multiplier"] * mean),
    ],
    "violations_get_smaller": [
        (Spring, "pull", scaled(0, 0)),
        (Spring, "pull", scaled(-0.1, -0.1)),
        (Snap, "correct", lambda self, slots, moments, set: None),
    ],
    "the_task_is_still_learned": [
        (Snap, "gradient_", lambda self, points, gradients, set, rate: [g.zero_() for g in gradients]),
        (Snap, "correct", back_to_a_corner),
    ],
    "solutions_are_found": [
        (Spring, "update", lambda self, *arguments: {}),
        (Spring, "multiplier", lambda self, mean, set, state: -state["multiplier"]),
        (Snap, "gradient_", lambda self, points, gradients, set, rate: [g.sign_() for g in gradients]),
    ],
    "promises_are_kept": [
        (Snap, "correct", lambda self, slots, moments, set: None),
        (Snap, "start", lambda self, x, set: x + 1),
    ],
    "weights_that_need_no_change_keep_their_bits": [
        (Snap, "correct", shrinking),
        (Snap, "start", lambda self, x, set: set.project(x / 2)),
        (Spring, "start", sound_start),
    ],
    "weights_do_not_disturb_each_other": [
        (Snap, "correct", only_the_first),
        (Snap, "gradient_", shared_gradients),
    ],
    "trainings_do_not_disturb_each_other": [
        (Spring, "pull", counting(sound_pull, None)),
        (Spring, "pull", keeping),
    ],
    "gradients_are_replaced_in_place": [
        (Snap, "gradient_", moved_points),
        (Snap, "gradient_", not_in_place),
        (Snap, "gradient_", shared_gradients),
    ],
    "numbers_that_are_not_finite_leave_no_trace": [(Spring, "update", nan_to_huge)],
    "line_searches_work_or_are_refused": [(Spring, "pull", scaled(-0.1, -0.1))],
    "numbers_may_be_schedules": [(Spring, "pull", only_numbers)],
    "checkpoints_bring_everything_back": [(Spring, "update", counting(sound_update, "multiplier"))],
    "steps_that_never_come_change_nothing": [(Spring, "pull", counting(sound_pull, None))],
    "switched_off_it_does_nothing": [
        (Snap, "install", lambda self, slot, set: slot.hold()),
        (Chart, "latent", False),
    ],
    "taken_back_it_leaves_a_free_weight": [
        (Snap, "uninstall", losing),
        (Chart, "uninstall", lambda self, slot, set: None),
    ],
    "finish_leaves_plain_tensors": [(Chart, "uninstall", lambda self, slot, set: None)],
}


@pytest.mark.parametrize("kind", [Spring, Snap, Chart])
def test_sound_methods_pass(kind):
    for check in METHOD_CHECKS.values():
        check(SOUND[kind])


@pytest.mark.parametrize(
    ("check", "kind", "attribute", "wrong"),
    [(check, *fault) for check, faults in BROKEN.items() for fault in faults],
)
def test_a_broken_method_is_found(check, kind, attribute, wrong):
    broken = type(kind.__name__, (kind,), {attribute: wrong, "__module__": __name__})
    with pytest.raises(AssertionError):
        METHOD_CHECKS[check](replace(SOUND[kind], method=broken()))


def test_no_check_is_without_a_method_that_breaks_it():
    assert set(METHOD_CHECKS) == set(BROKEN)


def test_the_message_names_method_set_and_fault():
    with pytest.raises(AssertionError) as caught:
        check_method(Weak())
    message = str(caught.value)
    assert message.startswith(f"{Weak()!r} on Box(lower=-1, upper=1): entry 0 of the gradient is off by ")
    assert message.endswith("(outside, shape (2, 3), float64, step 0).")


def test_checks_can_be_left_out_by_name():
    everything_else = [name for name in METHOD_CHECKS if name != "solutions_are_found"]
    check_method(Spring(), SETS, skip=everything_else)
    with pytest.raises(AssertionError, match="from the solution"):
        check_method(Spring(), SETS, skip=everything_else, solves=1e-9, steps=3)
    with pytest.raises(ValueError, match=r"skip names no check: \['no_such_check'\]"):
        check_method(Spring(), SETS, skip=["no_such_check"])
