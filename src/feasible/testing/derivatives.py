"""Derivatives of the projection: right, symmetric, finite, and the same for every way to ask for them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from feasible.testing.subject import SetSubject, Situation


def projection_is_differentiable(subject: SetSubject) -> None:
    """First and second derivatives agree with finite differences at almost every point."""
    for at in _smooth_situations(subject):
        x = at.x.clone().requires_grad_()
        at.expect(gradcheck(at.set.project, x, atol=1e-6, raise_exception=False), "gradcheck fails")
        at.expect(
            gradgradcheck(
                at.set.project, x, atol=1e-5, raise_exception=False, gen_non_contig_grad_outputs=True
            ),
            "gradgradcheck fails",
        )


def jacobian_is_a_projection_s(subject: SetSubject) -> None:
    """The Jacobian of a convex set's projection is symmetric, and no direction grows or turns round."""
    if not subject.set.convex:
        return
    for at in _smooth_situations(subject):
        jacobian = _jacobian(at)
        symmetric = torch.allclose(jacobian, jacobian.mT, atol=1e-6)
        at.expect(symmetric, "the Jacobian is not symmetric")
        eigenvalues = torch.linalg.eigvalsh((jacobian + jacobian.mT) / 2)
        inside = ((eigenvalues >= -1e-6) & (eigenvalues <= 1 + 1e-6)).all()
        at.expect(inside, f"the Jacobian has eigenvalues from {eigenvalues[0]:.3g} to {eigenvalues[-1]:.3g}")


def all_ways_to_differentiate_agree(subject: SetSubject) -> None:
    """``autograd``, ``jacrev``, ``jacfwd`` and ``jvp`` give one Jacobian."""
    if not subject.mappable:
        return
    for at in _smooth_situations(subject):
        jacobian = _jacobian(at)
        size = at.x.numel()
        transforms: tuple[Callable[..., Any], ...] = (torch.func.jacrev, torch.func.jacfwd)
        for transform in transforms:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, on its first use of jacfwd
                other = transform(at.set.project)(at.x).reshape(size, size)
            close = torch.allclose(jacobian, other, atol=1e-9)
            at.expect(close, f"{transform.__name__} disagrees with autograd")
        direction = subject.normal(at.x.shape, seed=11)
        value, tangent, *_ = torch.func.jvp(at.set.project, (at.x,), (direction,))
        close = torch.allclose(value, at.set.project(at.x), rtol=1e-12, atol=1e-12 * subject.size)
        at.expect(close, "the value under jvp differs")
        along = (jacobian @ direction.reshape(-1)).reshape(direction.shape)
        at.expect(torch.allclose(tangent, along, atol=1e-9 * subject.size), "jvp disagrees with autograd")


def derivatives_stay_finite(subject: SetSubject) -> None:
    """No input makes a gradient NaN: of the projection, of the distance, and of the gradient's norm."""
    for at in subject.situations():
        if at.name == "subnormal" or not bool(at.x.isfinite().all()) or float(at.x.abs().max()) > 1e20:
            continue
        x = at.x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(at.set.project(x).sum(), x)
        at.expect(gradient.isfinite().all(), "the projection has a gradient that is not finite")
        (gradient,) = torch.autograd.grad(at.set.distance(x).sum(), x, create_graph=True)
        at.expect(gradient.isfinite().all(), "the distance has a gradient that is not finite")
        if gradient.requires_grad:
            (second,) = torch.autograd.grad(gradient.square().sum(), x, allow_unused=True)
            finite = second is None or second.isfinite().all()
            at.expect(finite, "the distance has a second derivative that is not finite")


def distance_points_away_from_the_set(subject: SetSubject) -> None:
    """The distance to a convex set has the gradient ``residual / distance`` outside, and 0 at members."""
    if not (subject.set.convex and subject.smooth):
        return
    for shape in subject.shapes:
        for name, x in (("outside", 3 * subject.normal(shape)), ("a member", subject.members(shape))):
            at = Situation(subject.bound(shape), name, x)
            leaf = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(at.set.distance(leaf).sum(), leaf)
            residual = at.set.residual(x)
            norm = at.set.spread(at.set.norm(residual), x)
            expected = torch.where(norm > 0, residual / norm, torch.zeros_like(x))
            at.expect(torch.allclose(gradient, expected, atol=1e-6), "the distance has a wrong gradient")


def _smooth_situations(subject: SetSubject) -> list[Situation]:
    """Random points far from kinks, and members where the set is affine; small tensors only."""
    if not subject.smooth:
        return []
    shapes = [shape for shape in subject.shapes if 0 < torch.Size(shape).numel() <= 30]
    found = []
    for shape in shapes[:3]:
        bound = subject.bound(shape)
        points = {"scale 1": subject.normal(shape, seed=5), "scale 3": 3 * subject.normal(shape, seed=6)}
        if subject.affine:
            points["a member"] = subject.members(shape)
        found += [Situation(bound, name, x) for name, x in points.items()]
    return found


def _jacobian(at: Situation) -> Tensor:
    size = at.x.numel()
    x = at.x.clone().requires_grad_()
    projected = at.set.project(x).reshape(-1)
    rows = [torch.autograd.grad(entry, x, retain_graph=True)[0].reshape(-1) for entry in projected]
    return torch.stack(rows).reshape(size, size)
