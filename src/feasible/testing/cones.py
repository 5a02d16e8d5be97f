"""First-order geometry: support functions, linear minima, tangent cones, gradient mappings."""

from __future__ import annotations

import torch
from torch import Tensor

from feasible.testing.subject import SetSubject, Situation

STEP = 2.0**-7
"""A power of two: dividing by it rounds nothing."""


def support_is_the_largest_product(subject: SetSubject) -> None:
    """``σ(y) ≥ ⟨y, s⟩`` for members s; ``σ(x − Px) = ⟨x − Px, Px⟩`` for every x; ``σ(2y) = 2 σ(y)``."""
    if not subject.set.offers("support"):
        return
    for at in subject.situations():
        if not bool(at.x.isfinite().all()) or float(at.x.abs().max()) > 1e20:
            continue
        rounding = 1e-9 * at.set.norm(at.x) * (at.set.norm(at.x) + subject.size)
        largest = at.set.support(at.x)
        at.expect(largest.shape == rounding.shape, "support does not answer once a unit")
        for seed in range(3):
            product = at.set.sum_units(at.x * subject.members(at.x.shape, seed=seed))
            at.expect((product <= largest + rounding).all(), "a member has a larger product than the support")
        doubled = torch.allclose(at.set.support(2 * at.x), 2 * largest, rtol=1e-12)
        at.expect(doubled, "the support function is not homogeneous")
        at.expect((at.set.support(torch.zeros_like(at.x)) == 0).all(), "support(0) is not 0")
        nearest = at.set.project(at.x)
        outward = at.x - nearest
        if subject.set.convex:
            tight = (at.set.support(outward) - at.set.sum_units(outward * nearest)).abs()
            rounding = 1e-9 * at.set.norm(outward) + torch.finfo(at.x.dtype).eps * at.set.norm(at.x)
            rounding = rounding * (at.set.norm(nearest) + subject.size)
            at.expect((tight <= rounding).all(), "support(x − Px) is not ⟨x − Px, Px⟩")


def support_handles_nan_and_gradients(subject: SetSubject) -> None:
    """NaN stays NaN, and no gradient is NaN, at 0 neither."""
    if not subject.set.offers("support"):
        return
    for shape in subject.shapes:
        bound = subject.bound(shape)
        for name, y in (("zeros", torch.zeros(shape)), ("scale 1", subject.normal(shape))):
            leaf = y.double().requires_grad_()
            support = bound.support(leaf)
            (gradient,) = torch.autograd.grad(support[support.isfinite()].sum(), leaf)
            at = Situation(bound, name, leaf.detach())
            finite = bound.spread(support.isfinite(), gradient)
            at.expect(not gradient[finite].isnan().any(), "the support function has a gradient that is NaN")
        at.expect(bound.support(torch.full_like(leaf, torch.nan)).isnan().all(), "support(NaN) is a number")


def lmo_is_optimal(subject: SetSubject) -> None:
    """``lmo(g)`` is a member with the smallest product, at every scale; NaN stays NaN."""
    if not subject.set.offers("lmo"):
        return
    for at in subject.situations(torch.float64, torch.float32):
        if not bool(at.x.isfinite().all()):
            continue
        least = at.set.lmo(at.x)
        at.expect(least.dtype == at.x.dtype and least.shape == at.x.shape, "lmo changes the form")
        at.expect(at.set.contains(least).all(), "lmo is not in the set")
        unit = at.x.double() / at.x.double().abs().max().clamp_min(torch.finfo(torch.float64).tiny)
        value = at.set.sum_units(unit * least)
        rounding = (
            100
            * torch.finfo(at.x.dtype).eps
            * at.set.norm(unit)
            * max(subject.size, float(least.abs().max()))
        )
        for seed in range(3):
            rival = at.set.sum_units(unit * subject.members(at.x.shape, seed=seed))
            at.expect((value <= rival + rounding).all(), "a sampled member has a smaller product than lmo")
        if at.set.offers("support"):
            agree = (at.set.support(-unit) + value).abs() <= rounding
            at.expect(agree.all(), "lmo(g) does not attain −support(−g)")
    lost = subject.set.lmo(torch.full(subject.shapes[0], torch.nan))
    at.expect(lost.isnan().all(), "lmo(NaN) is a point")


def tangent_is_the_limit_of_projections(subject: SetSubject) -> None:
    """``tangent(x, d)`` is ``(P(x + t d) − x)/t`` for small t, at members on the boundary and inside."""
    if not subject.set.offers("tangent"):
        return
    for at, member in _members(subject):
        for seed in (1, 2):
            direction = subject.normal(member.shape, seed) / subject.size
            tangent = at.set.tangent(member, direction)
            step = 1e-6 * subject.size
            limit = (at.set.project(member + step * direction) - member) / step
            error = (tangent - limit).abs().max() if tangent.numel() else 0.0
            at.expect(error <= 1e-4, f"tangent differs from the limit of projections by {error:.3g}")


def tangent_is_a_projection(subject: SetSubject) -> None:
    """Twice is once, what is taken away is orthogonal to what is left, dtypes and NaN stay."""
    if not subject.set.offers("tangent"):
        return
    for at, member in _members(subject):
        direction = subject.normal(member.shape, 3)
        tangent = at.set.tangent(member, direction)
        again = at.set.tangent(member, tangent)
        close = torch.allclose(again, tangent, rtol=1e-9, atol=1e-9 * subject.size)
        at.expect(close, "the tangent of a tangent is another one")
        product = at.set.sum_units(tangent * (direction - tangent)).abs()
        rounding = 1e-9 * at.set.norm(direction) ** 2
        at.expect((product <= rounding).all(), "what tangent takes away is not orthogonal to the rest")
        half = at.set.tangent(member.bfloat16(), direction.bfloat16())
        at.expect(half.dtype == torch.bfloat16, f"tangent of bfloat16 is {half.dtype}")


def gradient_mapping_follows_its_formula(subject: SetSubject) -> None:
    """``reduce_gradients_`` gives ``(x − P(x − t g))/t`` in place, for lists of mixed shapes."""
    for dtype, precision in ((torch.float64, 1e-9), (torch.float32, 2e-4)):
        for shape in subject.shapes:
            bound = subject.bound(shape, dtype)
            points = [subject.members(shape, dtype, seed) for seed in range(5)]
            points += [subject.members(shape, dtype, 9).mT.contiguous().mT] if len(shape) > 1 else []
            gradients = [10 * subject.normal(point.shape, 20).to(dtype) for point in points]
            mapped = [gradient.clone() for gradient in gradients]
            bound.reduce_gradients_(points, mapped, STEP)
            for x, g, m in zip(points, gradients, mapped, strict=True):
                at = Situation(bound, "a random member", x)
                exact = subject.bound(shape).cast(x.double()) if not bound.taken() else bound.cast(x.double())
                start = exact.project(x.double())
                formula = (start - exact.project(start - STEP * g.double())) / STEP
                close = torch.allclose(m.double(), formula, rtol=precision, atol=precision * subject.size)
                at.expect(close or not at.set.convex, "reduce_gradients_ is not (x − P(x − t g))/t")
        bound.reduce_gradients_([], [], STEP)


def gradient_mapping_vanishes_at_stationary_points(subject: SetSubject) -> None:
    """Where −g is normal to the set at x, nothing of g is left; an optimizer stays where it is."""
    if not subject.set.convex:
        return
    for dtype, precision in ((torch.float64, 1e-10), (torch.float32, 2e-6)):
        for shape in subject.shapes:
            bound = subject.bound(shape, torch.float64)
            outside = 3 * subject.normal(shape, 4)
            x = bound.project(outside)
            at = Situation(bound, "a stationary point", x)
            weight, gradient = x.to(dtype), (x - outside).to(dtype)
            bound.cast(weight).reduce_gradients_([weight], [gradient], STEP)
            left = gradient.abs().max() if gradient.numel() else 0.0
            limit = 10 * precision / STEP * (subject.size + float(outside.abs().max()))
            at.expect(left <= limit, f"{left:.3g} is left of the gradient at a stationary point")


def _members(subject: SetSubject) -> list[tuple[Situation, Tensor]]:
    """Members on the boundary, on its edges, and inside."""
    found = []
    for shape in subject.shapes:
        bound = subject.bound(shape)
        points = {
            "far": bound.project(3 * subject.normal(shape)),
            "ties": bound.project(subject.points(shape)["ties"]),
            "inside": bound.project(1e-3 * subject.normal(shape)),
            "half a sample": bound.project(subject.members(shape) / 2),
        }
        found += [(Situation(bound, name, member), member) for name, member in points.items()]
    return found
