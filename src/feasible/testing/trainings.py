"""What a method does to a training: where it leads, what it keeps, and what it leaves alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import LBFGS, SGD, Adam, Optimizer

from feasible.errors import UnsupportedError
from feasible.schedules import Constant
from feasible.sets import Set
from feasible.testing.subject import same_bits
from feasible.testing.trial import MethodSubject, Trial, trials


def violations_get_smaller(subject: MethodSubject) -> None:
    """Gradient descent ends nearer to a convex set than without the method, which would stay where it is."""
    for set in _convex(subject):
        for kind in subject.kinds(set)[:2]:
            start = _outside(subject, set)
            before = float(set.bind(start).distance(start).max())
            trial = Trial(subject, set, kind, [start]).attach().run(min(100, subject.steps))
            reached = trial.distance()
            trial.expect(reached < 0.95 * before, f"a violation of {before:.3g} becomes {reached:.3g}")


def the_task_is_still_learned(subject: MethodSubject) -> None:
    """From a member that is far from its target the loss goes down: the weights are not stuck."""
    for set in _convex(subject):
        away, near = (_inside(subject, set, seed) for seed in (0, 1))
        if torch.allclose(away, near):
            continue
        for kind in subject.kinds(set)[:2]:
            trial = Trial(subject, set, kind, [away], [near], rate=subject.rate / 10).attach()
            before = trial.total()
            after = trial.run(20).total()
            trial.expect(after < before, f"the loss of a feasible task goes from {before:.4g} to {after:.4g}")


def solutions_are_found(subject: MethodSubject) -> None:
    """The least ½‖x − a‖² over the set: x = P(a), and the multiplier a − P(a) lies in the normal cone at x."""
    if subject.solves is None:
        return
    for set in _convex(subject):
        for kind in subject.kinds(set)[:2][-1:]:
            target = subject.point()
            trial = Trial(subject, set, kind, [torch.zeros_like(target)], [target]).attach()
            bound = set.bind(target)
            nearest = bound.project(target)
            for step in range(subject.steps):
                trial.step()
                if step % 50 == 49 and _error(trial, nearest, target) < subject.solves:
                    break
            error = _error(trial, nearest, target)
            trial.expect(error <= subject.solves, f"it ends {error:.3g} from the solution or its multiplier")
            multiplier = trial.handle.multiplier if trial.handle is not None else None
            if multiplier is not None:
                x = bound.project(trial.weight)
                moved = float((bound.project(x + multiplier) - x).abs().max())
                trial.expect(moved <= 4 * subject.solves, "the multiplier is not in the normal cone")


def _error(trial: Trial, nearest: Tensor, target: Tensor) -> float:
    """Of the weight, and of its multiplier if there is one."""
    errors = [float((trial.weight - nearest).abs().max())]
    multiplier = trial.handle.multiplier if trial.handle is not None else None
    if multiplier is not None:
        errors.append(float((multiplier - (target - nearest)).abs().max()))
    return max(errors)


def promises_are_kept(subject: MethodSubject) -> None:
    """Weights with a guarantee are in the set after every step (or every one that counts) and after ``finish``."""
    if not subject.promises:
        return
    makes = {"SGD": lambda p: SGD(p, lr=0.3), "Adam": lambda p: Adam(p, lr=0.3)}
    makes["momentum"] = lambda p: SGD(p, lr=0.1, momentum=0.9)
    for set in subject.served:
        for make in makes.values():
            trial = Trial(subject, set, make=lambda p, rate, make=make: make(p)).attach()  # type: ignore[misc]
            for step in range(20):
                trial.targets = [subject.point(step)]
                trial.step()
                promised = subject.method.guarantee_at(step + 1) != "encouraged"
                due = subject.holds == "always" and promised and subject.method.corrects(step)
                trial.expect(not due or trial.contains(), f"the weight is outside after step {step}")
            plain = trial.problem.feasible_state_dict()
            trial.problem.finish()
            trial.expect(trial.contains(), "the weight is outside after finish()")
            same = same_bits(plain["w0"], trial.weight)
            trial.expect(same, "feasible_state_dict() is not what finish() leaves")
            row = trial.problem.report().rows[0]
            trial.expect(row.worst_violation == 0, f"the report sees a violation of {row.worst_violation}")


def weights_that_need_no_change_keep_their_bits(subject: MethodSubject) -> None:
    """Declaring a constraint, a step of length 0 and ``finish`` move no member, and nothing without a guarantee."""
    for set in subject.served:
        start = _inside(subject, set, 0) if subject.promises else subject.point()
        trial = Trial(subject, set, starts=[start], targets=[subject.point(1)], rate=0.0).attach()
        declared = trial.weight.clone()
        allowed = subject.method.latent or same_bits(declared, start)
        trial.expect(allowed, "declaring the constraint moves a weight that may stay where it is")
        trial.run(2)
        trial.expect(same_bits(trial.weight, declared), "steps of length 0 move the weight")
        trial.problem.finish()
        trial.expect(same_bits(trial.weight, declared), "finish() moves a weight that may stay where it is")


def weights_do_not_disturb_each_other(subject: MethodSubject) -> None:
    """Several weights of several shapes end, bit for bit, where each ends alone."""
    for set in subject.served:
        shapes = [*subject.shapes(set), subject.shapes(set)[0]]
        starts = [subject.point(seed, shape) for seed, shape in enumerate(shapes)]
        targets = [subject.point(seed + 20, shape) for seed, shape in enumerate(shapes)]
        together = Trial(subject, set, starts=starts, targets=targets, make=_heavy).attach().run(3)
        for number, (start, target) in enumerate(zip(starts, targets, strict=True)):
            alone = Trial(subject, set, starts=[start], targets=[target], make=_heavy).attach().run(3)
            same = same_bits(together.model.all()[number].detach(), alone.weight)
            alone.expect(same, "it ends elsewhere when other weights are trained beside it")


def trainings_do_not_disturb_each_other(subject: MethodSubject) -> None:
    """One specification serves two problems at a time: each goes as it would alone, and the method stays as it is."""
    before = dict(vars(subject.method))
    for set in subject.served:
        for kind in subject.kinds(set):
            points = [[subject.point(seed)] for seed in range(4)]
            first, second, alone = (
                Trial(subject, set, kind, points[a], points[b]).attach() for a, b in ((0, 1), (2, 3), (0, 1))
            )
            for _ in range(3):
                first.step()
                second.step()
            alone.run(3)
            first.expect(
                same_bits(first.weight, alone.weight), "another training beside it changes its course"
            )
    after = dict(vars(subject.method))
    subject.expect(after.keys() == before.keys(), "it keeps something of the training in itself")
    subject.expect(all(after[key] is before[key] for key in before), "a training changes it")


def gradients_are_replaced_in_place(subject: MethodSubject) -> None:
    """``gradient_`` writes into the gradients it is given, one by one as together, and leaves the points."""
    for set in subject.served:
        bound = set.bind(subject.point())
        if not subject.method.replaces_gradients(bound):
            continue
        points = [bound.project(subject.point(seed)) for seed in (0, 1)]
        gradients = [subject.point(seed) for seed in (2, 3)]
        shown, kept = [g.clone() for g in gradients], [p.clone() for p in points]
        subject.method.gradient_(points, shown, bound, subject.rate)
        same = all(same_bits(p, k) for p, k in zip(points, kept, strict=True))
        subject.expect(same, "gradient_ moves the weights", set)
        subject.expect(
            all(bool(g.isfinite().all()) for g in shown), "gradient_ returns what is not finite", set
        )
        replaced = any(not same_bits(g, s) for g, s in zip(gradients, shown, strict=True))
        subject.expect(replaced, "replaces_gradients is True, but gradient_ changes nothing in place", set)
        for point, gradient, together in zip(points, gradients, shown, strict=True):
            one = gradient.clone()
            subject.method.gradient_([point], [one], bound, subject.rate)
            subject.expect(
                same_bits(one, together), "gradient_ treats weights together otherwise than alone", set
            )


def numbers_that_are_not_finite_leave_no_trace(subject: MethodSubject) -> None:
    """A value with a NaN or an infinity leaves the state finite, and the training goes on."""
    if not subject.overrides("update"):
        return
    for trial in trials(subject, make=_careful):
        if trial.kind == "weight":
            continue
        for spoil in (None, math.nan, math.inf, -math.inf, None):
            trial.step(spoil)
            broken = [key for key, value in trial.state.items() if not value.isfinite().all()]
            trial.expect(not broken, f"a value of {spoil} spoils the state: {', '.join(broken)}")
        trial.expect(trial.weight.isfinite().all(), "the weight is not finite")


def _careful(parameters: Sequence[Tensor], rate: float) -> Optimizer:
    """Gradient steps that leave out what is not finite, as a careful training loop does."""
    for parameter in parameters:
        parameter.register_hook(lambda gradient: gradient.nan_to_num(0.0, 0.0, 0.0))  # type: ignore[no-untyped-call]
    return SGD(parameters, lr=rate / 10)


def line_searches_work_or_are_refused(subject: MethodSubject) -> None:
    """L-BFGS is refused with a sentence, or it works: finite, and where nothing is promised still an improvement."""
    for set in _convex(subject):
        for kind in subject.kinds(set):
            trial = Trial(subject, set, kind, make=lambda p, rate: LBFGS(p, line_search_fn="strong_wolfe"))
            before = trial.distance()
            try:
                trial.attach()
            except UnsupportedError as error:
                trial.expect("Use " in str(error), f"the refusal names no alternative: {error}")
                continue
            trial.run(5)
            trial.expect(trial.weight.isfinite().all(), "the weight is not finite")
            trial.expect(trial.distance() <= before, "the violation grows")


def numbers_may_be_schedules(subject: MethodSubject) -> None:
    """Where a number may be a schedule, a constant schedule is the number, bit for bit."""
    for field in dataclasses.fields(subject.method):
        number = getattr(subject.method, field.name)
        if "Schedule" not in str(field.type) or not isinstance(number, (int, float)):
            continue
        scheduled = dataclasses.replace(
            subject, method=dataclasses.replace(subject.method, **{field.name: Constant(number)})
        )
        for set in subject.served[:3]:
            for kind in subject.kinds(set):
                plain, other = (Trial(one, set, kind).attach().run(3) for one in (subject, scheduled))
                same = same_bits(plain.weight, other.weight)
                plain.expect(same, f"{field.name} as a constant schedule acts otherwise")


def _convex(subject: MethodSubject) -> list[Set]:
    return [set for set in subject.served if set.convex]


def _outside(subject: MethodSubject, set: Set) -> Tensor:
    """A point that is not in the set."""
    points = (subject.point(seed) for seed in range(100))
    return next(point for point in points if not bool(set.bind(point).contains(point).all()))


def _inside(subject: MethodSubject, set: Set, seed: int) -> Tensor:
    """A member, with room around it where the method needs an interior."""
    bound = set.bind(subject.point())
    member = bound.project(subject.point(seed) / 4) + 0.0  # a step of length 0 turns −0 into 0
    return bound.interior(member, 0.05) if "interior" in subject.method.needs else member


def _heavy(parameters: Sequence[Tensor], rate: float) -> Optimizer:
    return SGD(parameters, lr=rate, momentum=0.9)
