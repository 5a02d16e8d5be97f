"""Slack functions, barriers and interior points."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from feasible.sets import Set
from feasible.testing.subject import SetSubject, Situation


def slack_is_positive_inside(subject: SetSubject) -> None:
    """All slack functions are > 0 at interior points, ≥ 0 at members, and one is < 0 outside."""
    if not subject.set.offers("slack"):
        return
    for at in subject.situations():
        if not bool(at.x.isfinite().all()):
            continue
        rounding = 1e-12 * subject.size
        at_member = all((slack >= -rounding).all() for slack in at.set.slack(at.set.project(at.x)))
        at.expect(at_member, "a member has a negative slack")
        clearly_outside = at.set.distance(at.x) > 1e-6 * subject.size
        negative = _some_slack(at.set, at.x, lambda slack: slack < 0)
        at.expect(negative[clearly_outside].all(), "a point outside has no negative slack")


def slack_is_concave(subject: SetSubject) -> None:
    """A slack between two points is at least the mean of theirs."""
    if not subject.set.offers("slack"):
        return
    for at in subject.situations():
        if not bool(at.x.isfinite().all()) or float(at.x.abs().max()) > 1e12:
            continue
        other = 2 * subject.normal(at.x.shape, seed=8)
        ends = zip(at.set.slack(at.x), at.set.slack(other), strict=True)
        for middle, (a, b) in zip(at.set.slack((at.x + other) / 2), ends, strict=True):
            rounding = 1e-12 * (a.abs() + b.abs() + subject.size)
            at.expect((middle >= (a + b) / 2 - rounding).all(), "a slack function is not concave")


def slack_is_differentiable(subject: SetSubject) -> None:
    """First and second derivatives of the slack functions are finite, at 0 and at members too."""
    if not subject.set.offers("slack"):
        return
    for at in subject.situations():
        if not bool(at.x.isfinite().all()) or float(at.x.abs().max()) > 1e12:
            continue
        x = at.x.clone().requires_grad_()
        total = torch.stack([slack.sum() for slack in at.set.slack(x)]).sum()
        (gradient,) = torch.autograd.grad(total, x, create_graph=True, allow_unused=True)
        if gradient is None:
            continue
        at.expect(gradient.isfinite().all(), "the slack has a gradient that is not finite")
        if gradient.requires_grad:
            (second,) = torch.autograd.grad(gradient.sum(), x, allow_unused=True)
            finite = second is None or second.isfinite().all()
            at.expect(finite, "the slack has a second derivative that is not finite")


def interior_has_room(subject: SetSubject) -> None:
    """``interior(x, margin)`` has the slack ``margin`` where that exists, and some slack in every dtype."""
    if not subject.set.offers("interior"):
        return
    for at in subject.situations(torch.float64, torch.float32, torch.bfloat16, torch.float16):
        if not bool(at.x.isfinite().all()):
            continue
        for margin in (0.0, 1e-6 * subject.size, 0.1 * subject.size, 100 * subject.size):
            inside = at.set.interior(at.x, margin)
            at.expect(inside.dtype == at.x.dtype and inside.shape == at.x.shape, "interior changes the form")
            closed = _some_slack(at.set, inside, lambda slack: slack <= 0)
            at.expect(not closed.any(), f"interior(x, {margin:.3g}) has no slack")
            if at.x.dtype == torch.float64:
                # The slack to an infinite bound is the constant 1.
                wanted = min(margin * (1 - 1e-6) - 1e-12 * subject.size, 0.99)
                short = _some_slack(at.set, inside, partial(torch.gt, torch.tensor(wanted)))
                centre = at.set.interior(at.x, 1e6 * subject.size)
                at_centre = at.set.norm(inside - centre) <= 1e-9 * subject.size
                at.expect((at_centre | ~short).all(), f"interior(x, {margin:.3g}) has less slack")


def interior_points_stay(subject: SetSubject) -> None:
    """A point with enough slack keeps its bits; interior(x, 0) is next to the projection."""
    if not subject.set.offers("interior"):
        return
    for at in subject.situations():
        if not bool(at.x.isfinite().all()):
            continue
        inside = at.set.interior(at.x, 0.01 * subject.size)
        again = at.set.interior(inside, 0.001 * subject.size)
        at.expect(torch.equal(inside, again), "a point with enough slack is moved")
        moved = at.set.norm(at.set.interior(at.x, 0.0) - at.set.project(at.x))
        lengths = at.set.norm(at.x) + subject.size
        at.expect((moved <= 1e-6 * lengths).all(), "interior(x, 0) is far from the nearest point")


def barrier_grows_towards_the_boundary(subject: SetSubject) -> None:
    """Finite inside with a finite gradient, growing without bound on the way out, +inf outside."""
    if not (subject.set.offers("barrier") and subject.set.offers("interior")):
        return
    for shape in subject.shapes:
        if not torch.Size(shape).numel():
            continue
        bound = subject.bound(shape)
        inside = bound.interior(subject.normal(shape), 0.1 * subject.size)
        at = Situation(bound, "an interior point", inside)
        outside = bound.distance(inside + 1e3 * subject.normal(shape, 2)) > 0
        heights = []
        for margin in (1e-1, 1e-3, 1e-6):
            near = bound.interior(inside + 1e3 * subject.normal(shape, 2), margin * subject.size)
            leaf = near.clone().requires_grad_()
            barrier = bound.barrier(leaf)
            (gradient,) = torch.autograd.grad(barrier.sum(), leaf)
            at.expect(barrier.shape == outside.shape, "barrier does not answer once a unit")
            at.expect(
                barrier.isfinite().all() and gradient.isfinite().all(), "the barrier is not finite inside"
            )
            heights.append(barrier.detach())
        growing = (heights[0] < heights[1]) & (heights[1] < heights[2])
        at.expect(growing[outside].all(), "the barrier does not grow towards the boundary")
        beyond = bound.barrier(inside + 1e3 * subject.normal(shape, 2))
        at.expect((beyond[outside] == torch.inf).all(), "the barrier is finite outside")


def barrier_is_the_sum_of_logarithms(subject: SetSubject) -> None:
    """``barrier = −Σ log slack`` in every unit, and a NaN stays NaN."""
    if not (subject.set.offers("barrier") and subject.set.offers("interior")):
        return
    for shape in subject.shapes:
        bound = subject.bound(shape)
        x = bound.interior(subject.normal(shape), 0.05 * subject.size)
        at = Situation(bound, "an interior point", x)
        expected = torch.zeros_like(bound.norm(x))
        for slack in bound.slack(x):
            per_entry = slack.shape == x.shape and expected.shape != x.shape
            expected = expected - (bound.sum_units(slack.log()) if per_entry else slack.log())
        at.expect(torch.allclose(bound.barrier(x), expected, rtol=1e-9, atol=1e-9), "barrier ≠ −Σ log slack")
        lost = bound.barrier(torch.full_like(x, torch.nan))
        bounded = bound.distance(torch.full_like(x, 1e6 * subject.size)) > 0
        bounded = bounded | (bound.distance(torch.full_like(x, -1e6 * subject.size)) > 0)
        at.expect(lost[bounded].isnan().all(), "the barrier of NaN is a number")


def _some_slack(set: Set, x: Tensor, condition: Callable[[Tensor], Tensor]) -> Tensor:
    """For every unit: does any of its slacks satisfy the condition?"""
    found = torch.zeros_like(set.norm(x), dtype=torch.bool)
    for slack in set.slack(x):
        hit = condition(slack)
        if hit.shape == x.shape:
            hit = set.sum_units(hit.to(x.dtype)) > 0
        found = found | (hit if hit.shape == found.shape else hit.any())
    return found
