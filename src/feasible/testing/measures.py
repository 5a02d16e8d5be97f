"""What is said about a value: its distance, whether it is in the set, in which units."""

from __future__ import annotations

import math

import torch

from feasible.testing.subject import DTYPES, SetSubject, same_bits


def units_agree(subject: SetSubject) -> None:
    """``norm``, ``spread`` and ``sum_units`` speak of the same units."""
    for at in subject.situations(*DTYPES):
        if not bool(at.x.isfinite().all()):
            continue
        x = (at.x / at.x.abs().max().clamp_min(1)).to(at.x.dtype)
        norm = at.set.norm(x)
        at.expect(norm.dtype == x.dtype, f"norm is {norm.dtype}")
        at.expect(at.set.spread(norm, x).shape == x.shape, "spread does not give the shape of x")
        sums = at.set.sum_units(torch.ones_like(x))
        at.expect(sums.shape == norm.shape, "norm and sum_units have different shapes")
        ones = at.set.spread(torch.ones_like(norm), x)
        at.expect(torch.equal(at.set.sum_units(ones), sums), "spread and sum_units see different units")
        square = at.set.sum_units(x.double().square()).sqrt()
        rounding = 4 * torch.finfo(x.dtype).eps
        underflow = 10 * torch.finfo(x.dtype).tiny ** (1 if x.dtype != torch.float64 else 0.5)
        close = torch.allclose(norm.double(), square, rtol=rounding, atol=underflow)
        at.expect(close, "norm is not the root of the summed squares")


def distance_is_the_norm_of_the_residual(subject: SetSubject) -> None:
    """``residual = x − project(x)``, and ``distance`` is its norm, 0 exactly at members."""
    for at in subject.situations(torch.float64, torch.float32):
        if not bool(at.x.isfinite().all()):
            continue
        residual, distance = at.set.residual(at.x), at.set.distance(at.x)
        at.expect(same_bits(residual, at.x - at.set.project(at.x)), "residual is not x − project(x)")
        at.expect(torch.equal(distance, at.set.norm(residual)), "distance is not the residual's norm")
        at.expect((distance >= 0).all(), "a distance is negative")
        unmoved = at.set.norm(residual) == 0
        at.expect(torch.equal(at.set.contains(at.x), unmoved), "contains and distance = 0 disagree")


def contains_obeys_its_tolerance(subject: SetSubject) -> None:
    """``contains(x, tol)`` is ``distance(x) ≤ tol``, one bool a unit."""
    for at in subject.situations(torch.float32):
        if not bool(at.x.isfinite().all()):
            continue
        distance = at.set.distance(at.x)
        contained = at.set.contains(at.x)
        at.expect(contained.dtype == torch.bool, f"contains answers in {contained.dtype}")
        at.expect(contained.shape == distance.shape, "contains does not answer once a unit")
        for tol in (0.0, float(distance.mean()), math.inf):
            agree = torch.equal(at.set.contains(at.x, tol), distance <= tol)
            at.expect(agree, f"contains(x, {tol:.3g}) is not distance(x) ≤ {tol:.3g}")


def tolerance_says_what_is_exact(subject: SetSubject) -> None:
    """0 where the set is exact; else small, and what rounding a member to the dtype costs is within it."""
    for shape in subject.shapes:
        for dtype in DTYPES:
            tolerance = subject.set.tolerance(dtype)
            limit = 100 * torch.finfo(dtype).eps * subject.size
            exact = subject.set.exact or subject.set.size == 0
            if (tolerance == 0) != exact or tolerance > limit:
                raise AssertionError(f"{subject.set!r}: tolerance({dtype}) = {tolerance:g}.")
        rounded = subject.members(shape).float()
        if not bool(subject.bound(shape, torch.float32).contains(rounded, tol=_roomy(subject)).all()):
            raise AssertionError(f"{subject.set!r}: a member rounded to float32 is far from the set.")


def samples_are_members(subject: SetSubject) -> None:
    """``sample`` gives members, in the wanted shape, the same ones for the same generator."""
    for shape in subject.shapes:
        bound = subject.bound(shape, torch.get_default_dtype())
        first = bound.sample(shape, subject.generator(1))
        again = bound.sample(shape, subject.generator(1))
        torch.manual_seed(0)
        free = bound.sample(shape)
        complete = first.shape == free.shape == torch.Size(shape)
        if not (complete and first.dtype == torch.get_default_dtype()):
            raise AssertionError(f"{bound!r}: sample({shape}) has shape {tuple(first.shape)}, {first.dtype}.")
        if not bool(bound.contains(first).all() and bound.contains(free).all()):
            raise AssertionError(f"{bound!r}: a sample is not in the set.")
        if not bool(first.isfinite().all()):
            raise AssertionError(f"{bound!r}: a sample is not finite.")
        if not same_bits(first, again):
            raise AssertionError(f"{bound!r}: the same generator gives different samples.")


def members_can_be_counted(subject: SetSubject) -> None:
    """``members`` lists distinct members, ``count`` of them."""
    if not (subject.set.offers("members") and subject.set.offers("count")):
        return
    for shape in subject.shapes:
        count = subject.set.count(shape)
        if count > 10_000:
            continue
        members = list(subject.set.members(shape))
        if len(members) != count or len({tuple(m.reshape(-1).tolist()) for m in members}) != count:
            raise AssertionError(f"{subject.set!r}: members({shape}) and count({shape}) = {count} disagree.")
        if not all(bool(subject.set.contains(member).all()) for member in members):
            raise AssertionError(f"{subject.set!r}: one of its members is not in the set.")


def _roomy(subject: SetSubject) -> float:
    return 1e-5 * subject.size + 1e-6
