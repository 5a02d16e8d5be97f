"""A method is a value that says what it does, and refuses what it cannot do when it is declared."""

from __future__ import annotations

from typing import Any, get_args

import torch

from feasible import schedules
from feasible.errors import UnsupportedError
from feasible.methods.matrix import works_with
from feasible.methods.method import Guarantee
from feasible.problem import Problem
from feasible.sets import Set
from feasible.sets.set import OPTIONAL
from feasible.testing.subject import same_bits
from feasible.testing.trial import MethodSubject, Trial, Weights
from feasible.testing.values import expect_a_value, expect_repr_makes_it


def method_is_a_value(subject: MethodSubject) -> None:
    """Copies are equal with equal hashes, other things are not; the fields cannot be changed."""
    expect_a_value(subject.method)


def method_repr_shows_how_to_make_it(subject: MethodSubject) -> None:
    """``repr`` names the class, and makes an equal method where no function is in it."""
    expect_repr_makes_it(subject.method, {**vars(schedules), "inf": float("inf"), "nan": float("nan")})


def it_says_what_it_does(subject: MethodSubject) -> None:
    """What the class declares agrees with the verbs that it has."""
    method, has = subject.method, subject.overrides
    subject.expect(any(map(has, ("pull", "start", "install", "correct", "gradient_"))), "it does nothing")
    subject.expect(method.guarantee in get_args(Guarantee), f"there is no guarantee {method.guarantee!r}")
    subject.expect(method.hard or not subject.promises, "it promises its set, but hard is False")
    subject.expect(method.hard or not method.latent, "it is latent, but hard is False")
    subject.expect(
        not method.latent or (has("install") and has("uninstall")), "it is latent, but installs nothing"
    )
    subject.expect(
        has("pull") or not method.for_values,
        "it adds nothing to the loss, which is all that can serve a value, but for_values is True",
    )
    for verb in ("update", "multiplier"):
        subject.expect(has("pull") or not has(verb), f"{verb} is never called where there is no pull")
    subject.expect(has("update") or not method.has_multiplier, "its multiplier is never updated")
    subject.expect(
        has("gradient_") == has("replaces_gradients"), "gradient_ and replaces_gradients go together"
    )
    unknown = sorted({*method.needs} - {*OPTIONAL})
    subject.expect(not unknown, f"it needs {', '.join(unknown)}, which no set has")


def objections_are_sentences(subject: MethodSubject) -> None:
    """``objection`` answers ``None`` or half a sentence, for a bound set as before; some set is served."""
    subject.expect(subject.served, "it serves none of the sets to try; give others as sets=…")
    for set in subject.sets:
        objection = subject.method.objection(set)
        said = objection is None or (
            isinstance(objection, str) and objection.strip() and not objection.endswith(".")
        )
        subject.expect(said, f"its objection is no half sentence: {objection!r}", set)
        bound = subject.method.objection(set.bind(subject.point()))
        subject.expect(
            (bound is None) == (objection is None), "once the set is bound it changes its mind", set
        )


def what_it_refuses_is_refused_at_once(subject: MethodSubject) -> None:
    """A pair that cannot work raises ``UnsupportedError``, names what does, and leaves everything as it was."""
    for set in subject.sets:
        if set not in subject.served:
            _expect_refusal(subject, set, "weight")
        if set not in subject.served or not subject.method.for_values:
            _expect_refusal(subject, set, "value")


def _expect_refusal(subject: MethodSubject, set: Set, kind: str) -> None:
    model = Weights([subject.point()])
    problem = Problem(model)
    declare: Any = problem.constrain if kind == "weight" else problem.require
    try:
        declare("w0", set, by=subject.method)
    except UnsupportedError as error:
        names = [name for name in works_with(set, kind == "value") if name not in str(error)]
        told = type(subject.method).__name__ in str(error) and not names
        subject.expect(told, f"the refusal does not name it and what works: {error}", set, kind)
    except Exception as error:
        subject.expect(
            False, f"refused by {type(error).__name__} in the place of UnsupportedError: {error}", set, kind
        )
    else:
        subject.expect(False, "it is not refused when it is declared", set, kind)
    subject.expect(not problem.constraints, "a refused constraint is there all the same", set, kind)
    untouched = [*model.state_dict()] == ["w0"] and same_bits(model.all()[0], subject.point())
    subject.expect(untouched and model.all()[0].requires_grad, "a refusal changes the weight", set, kind)


def what_it_serves_trains_in_every_dtype(subject: MethodSubject) -> None:
    """What it does not object to trains: finite numbers, the weight's dtype, a state in float32 at least."""
    for set in subject.served:
        for kind in subject.kinds(set):
            for dtype in (torch.float64, torch.float32, torch.bfloat16):
                start, target = subject.point(dtype=dtype), subject.point(1, dtype=dtype)
                trial = Trial(subject, set, kind, [start], [target], rate=subject.rate / 10).attach()
                trial.run(3)
                trial.expect(trial.weight.isfinite().all(), "three steps lead to numbers that are not finite")
                trial.expect(trial.weight.dtype == dtype, f"the weight becomes {trial.weight.dtype}")
                work = torch.promote_types(dtype, torch.float32)
                wrong = {
                    key: value.dtype
                    for key, value in trial.state.items()
                    if value.is_floating_point() and torch.promote_types(value.dtype, work) != value.dtype
                }
                trial.expect(not wrong, f"the state has fewer digits than {work}: {wrong}")


def every_shape_trains(subject: MethodSubject) -> None:
    """Vectors, matrices, batches, single numbers and empty tensors train, wherever the set can hold them."""
    for set in subject.served:
        for shape in subject.shapes(set):
            for kind in subject.kinds(set):
                if kind in ("sample", "index") and (len(shape) < 2 or shape[0] == 0):
                    continue
                points = [subject.point(seed, shape) for seed in (0, 1)]
                trial = Trial(subject, set, kind, points[:1], points[1:], rate=subject.rate / 10).attach()
                trial.run(2)
                trial.expect(trial.weight.shape == shape, f"the weight becomes {tuple(trial.weight.shape)}")
                trial.expect(trial.weight.isfinite().all(), "two steps lead to numbers that are not finite")
