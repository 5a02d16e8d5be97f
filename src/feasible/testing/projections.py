"""What a projection must satisfy: it is in the set, it stays there, and nothing is nearer."""

from __future__ import annotations

import torch
from torch import Tensor

from feasible.testing.subject import DTYPES, SetSubject, Situation, same_bits


def result_has_the_form_of_the_input(subject: SetSubject) -> None:
    """Shape, dtype and device stay, the input stays as it was, and the result has its own memory."""
    for at in subject.situations(*DTYPES):
        before = at.x.clone()
        projected = at.set.project(at.x)
        at.expect(projected.shape == at.x.shape, f"the projection has shape {tuple(projected.shape)}")
        at.expect(projected.dtype == at.x.dtype, f"the projection is {projected.dtype}")
        at.expect(projected.device == at.x.device, f"the projection is on {projected.device}")
        at.expect(same_bits(at.x, before), "projecting changes the input")
        at.expect(projected.data_ptr() != at.x.data_ptr(), "the projection shares the input's memory")


def projection_is_a_member(subject: SetSubject) -> None:
    """``contains(project(x))`` holds, and projecting again changes no bit."""
    for at in subject.situations(*DTYPES):
        projected = at.set.project(at.x)
        at.expect(projected.isfinite().all(), "the projection of numbers is not finite")
        at.expect(at.set.contains(projected).all(), "the projection is not in the set")
        again = at.set.project(projected)
        change = (again.double() - projected.double()).abs().max()
        at.expect(same_bits(again, projected), f"projecting twice moves the point by {change:.3g}")


def members_keep_their_bits(subject: SetSubject) -> None:
    """A member is its own nearest point, bit for bit, at the distance 0."""
    for dtype in DTYPES:
        for shape in subject.shapes:
            at = Situation(
                subject.bound(shape, dtype), "a random member", subject.members(shape, dtype, seed=7)
            )
            at.expect(at.set.contains(at.x).all(), "a sample is not in the set")
            at.expect(same_bits(at.set.project(at.x), at.x), "a member does not come back with the same bits")
            at.expect((at.set.residual(at.x) == 0).all(), "the residual of a member is not 0")
            at.expect((at.set.distance(at.x) == 0).all(), "the distance of a member is not 0")


def nothing_is_nearer(subject: SetSubject) -> None:
    """No sampled member is nearer than the projection."""
    for at in subject.situations():
        distance = at.set.distance(at.x)
        for name, member in _rivals(subject, at):
            rival = at.set.norm(at.x - member)
            slack = 1e-12 * (rival + subject.size)
            at.expect((distance <= rival + slack).all(), f"{name} is nearer than the projection")


def projection_is_optimal(subject: SetSubject) -> None:
    """Convex sets: ``⟨x − Px, y − Px⟩ ≤ 1e-9 · ‖x − Px‖ · (‖y‖ + ‖Px‖ + size)`` for sampled members y."""
    if not subject.set.convex:
        return
    for at in subject.situations():
        if not bool(at.x.isfinite().all()):
            continue
        nearest = at.set.project(at.x)
        outward = at.x - nearest
        for name, member in _rivals(subject, at):
            product = at.set.sum_units(outward * (member - nearest))
            lengths = at.set.norm(member) + at.set.norm(nearest) + subject.size
            rounding = 1e-9 * at.set.norm(outward) + torch.finfo(at.x.dtype).eps * at.set.norm(at.x)
            excess = product - rounding * lengths
            at.expect((excess <= 0).all(), f"⟨x − Px, y − Px⟩ = {product.max():.3g} > 0 where y is {name}")


def projection_is_non_expansive(subject: SetSubject) -> None:
    """Convex sets: two points never move apart."""
    if not subject.set.convex:
        return
    for at in subject.situations():
        if not bool(at.x.isfinite().all()):
            continue
        other = at.x.roll(1, 0) if at.x.dim() else -at.x
        other = other + 1e-3 * subject.normal(at.x.shape, seed=3)
        moved = at.set.norm(at.set.project(at.x) - at.set.project(other))
        apart = at.set.norm(at.x - other)
        rounding = 1e-14 * (at.set.norm(at.x) + at.set.norm(other) + subject.size)
        at.expect((moved <= apart * (1 + 1e-12) + rounding).all(), "projecting moves two points apart")


def agrees_with_the_reference(subject: SetSubject) -> None:
    """The projection is what independent means find."""
    if subject.reference is None:
        return
    names = ("scale 1", "ties", "all negative", "one large entry")
    for shape in subject.shapes:
        points = {name: point for name, point in subject.points(shape).items() if name in names}
        for name, x in points.items():
            at = Situation(subject.bound(shape), name, x)
            projected, expected = at.set.project(x), subject.reference(x)
            error = (projected - expected).abs().max()
            allowed = subject.accuracy * max(float(x.abs().max()), subject.size)
            at.expect(error <= allowed, f"the projection differs from the reference by {error:.3g}")


def nan_stays_nan(subject: SetSubject) -> None:
    """A NaN makes its unit NaN there, never a made-up point; the other units do not notice."""
    for dtype in DTYPES:
        for shape in subject.shapes:
            clean = subject.normal(shape).to(dtype)
            if not clean.numel():
                continue
            spoilt = clean.clone()
            spoilt.view(-1)[0] = torch.nan
            at = Situation(subject.bound(shape, dtype), "one NaN", spoilt)
            projected = at.set.project(spoilt)
            at.expect(projected.reshape(-1)[0].isnan(), "a NaN does not stay NaN")
            touched = at.set.spread(at.set.norm(spoilt).isnan(), spoilt)
            at.expect(at.set.distance(spoilt).isnan().any(), "the distance of a NaN is a number")
            at.expect(not at.set.contains(spoilt).all(), "contains says that a NaN is in the set")
            change = (projected - at.set.project(clean))[~touched].abs()
            rounding = 4 * torch.finfo(dtype).eps * subject.size
            at.expect((change <= rounding).all(), "a NaN in one unit changes another one")


def sign_of_zero_does_not_matter(subject: SetSubject) -> None:
    """−0.0 and 0.0 have the same nearest point."""
    for shape in subject.shapes:
        zeros = torch.zeros(tuple(shape), dtype=torch.float64)
        at = Situation(subject.bound(shape), "−0.0", -zeros)
        at.expect(torch.equal(at.set.project(-zeros), at.set.project(zeros)), "−0.0 and 0.0 differ")


def memory_layout_does_not_matter(subject: SetSubject) -> None:
    """Transposed, strided and expanded tensors give what their contiguous copies give."""
    for shape in subject.shapes:
        x = subject.normal(shape)
        for name, other in _layouts(x).items():
            at = Situation(subject.bound(shape), name, other)
            expected = at.set.project(other.contiguous())
            agree = torch.allclose(at.set.project(other), expected, rtol=1e-12, atol=1e-12 * subject.size)
            at.expect(agree, "the projection depends on the memory layout")
            at.expect(at.set.contains(at.set.project(other)).all(), "the projection is not in the set")


def empty_and_single_tensors_work(subject: SetSubject) -> None:
    """Every shape that ``check_shape`` accepts works: no vectors at all, single entries, no dimensions."""
    shapes = {(), (1,), (1, 1), (1, 1, 1)}
    for shape in subject.shapes:
        shapes |= {(*shape[:axis], 0, *shape[axis + 1 :]) for axis in range(len(shape))}
    for shape in sorted(shapes):
        try:
            bound = subject.bound(shape)
        except ValueError:
            continue
        at = Situation(bound, "an unusual shape", subject.normal(shape))
        projected = bound.project(at.x)
        at.expect(projected.shape == torch.Size(shape), f"the projection has shape {tuple(projected.shape)}")
        at.expect(bound.contains(projected).all(), "the projection is not in the set")
        at.expect(bound.distance(at.x).shape == bound.contains(at.x).shape, "distance and contains disagree")


def projecting_in_place_agrees(subject: SetSubject) -> None:
    """``project_all_`` does to several tensors, of any layout, what ``project`` does to each."""
    for dtype in (torch.float64, torch.bfloat16):
        for shape in subject.shapes:
            bound = subject.bound(shape, dtype)
            for copies in (0, 1, 4):
                points = [subject.normal(shape, seed).to(dtype) for seed in range(copies)]
                points += [layout.to(dtype) for layout in _layouts(subject.normal(shape)).values()][
                    : 2 * copies
                ]
                expected = [bound.project(point) for point in points]
                tensors = [point.clone() for point in points]
                bound.project_all_(tensors)
                for point, tensor, wanted in zip(points, tensors, expected, strict=True):
                    at = Situation(bound, f"one of {len(points)}", point)
                    at.expect(torch.equal(tensor, wanted), "project_all_ and project disagree")


def _rivals(subject: SetSubject, at: Situation) -> list[tuple[str, Tensor]]:
    """Members that might be nearer than the projection."""
    shape, nearest = at.x.shape, at.set.project(at.x)
    rivals = [(f"sample {seed}", subject.members(shape, seed=seed)) for seed in range(3)]
    rivals += [("the projection of a neighbour", at.set.project(nearest + 0.1 * subject.normal(shape, 5)))]
    if bool(at.x.isfinite().all()):
        rivals += [("the projection of the mirror image", at.set.project(-at.x))]
        if at.set.offers("lmo"):
            rivals += [("the farthest member in this direction", at.set.lmo(nearest - at.x))]
    return rivals


def _layouts(x: Tensor) -> dict[str, Tensor]:
    strided = torch.stack([x, x + 1], -1)[..., 0]
    layouts = {"every second number": strided}
    if x.dim() >= 2:
        layouts["transposed"] = x.mT.contiguous().mT
    if x.dim() >= 1 and x.shape[0]:
        layouts["expanded"] = x[:1].expand_as(x)
    return layouts
