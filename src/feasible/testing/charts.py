"""Charts: coordinates that cannot leave the set, and the way back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils import parametrize

from feasible.sets.charts import Chart
from feasible.testing.subject import DTYPES, SetSubject, Situation


def chart_stays_in_the_set(subject: SetSubject) -> None:
    """``forward`` maps every coordinate, however large, to a finite member."""
    for shape, kind, chart in _charts(subject):
        for dtype in DTYPES:
            bound = subject.bound(shape, dtype)
            normal = subject.normal(shape).to(dtype)
            for scale in (0.0, 1e-3, 1.0, 30.0, 1e3):
                at = Situation(bound, f"chart {kind}, latents of scale {scale:g}", normal * scale)
                point = chart(at.x)
                at.expect(point.dtype == dtype and point.shape == at.x.shape, "the chart changes the form")
                overflow = (kind == "exp" and scale >= 30) or (kind == "square" and scale > 100)
                if not overflow:
                    at.expect(point.isfinite().all(), "the chart leads to a point that is not finite")
                    at.expect(bound.contains(point).all(), "the chart leaves the set")


def chart_and_inverse_undo_each_other(subject: SetSubject) -> None:
    """``forward(right_inverse(x)) = x`` inside; boundary members move inside by little."""
    for shape, kind, chart in _charts(subject):
        bound = subject.bound(shape)
        coordinates = 0.5 * subject.normal(shape, 2) / subject.size
        inside = chart(coordinates)
        at = Situation(bound, f"chart {kind}", inside)
        returned = chart(chart.right_inverse(inside))
        moved = (returned - inside).abs() > 1e-9 * (subject.size + inside.abs())
        at.expect(not (moved & ~chart.saturated(coordinates)).any(), "the round trip moves x")
        for name, member in (
            ("a boundary point", bound.project(10 * subject.normal(shape))),
            ("a sample", subject.members(shape)),
        ):
            at = Situation(bound, f"{name}, chart {kind}", member)
            latent = chart.right_inverse(member)
            at.expect(latent.isfinite().all(), "right_inverse of a member is not finite")
            moved = (chart(latent) - member).abs()
            allowed = 0.03 * (max(subject.size, 1.0) + member.abs())
            at.expect((moved <= allowed).all(), f"the round trip moves a member by {moved.max():.3g}")


def chart_has_finite_gradients(subject: SetSubject) -> None:
    """Gradients are finite at every coordinate, 0 and large ones included, and right at ordinary ones."""
    for shape, kind, chart in _charts(subject):
        bound = subject.bound(shape)
        for scale in (0.0, 1.0, 1e3):
            latent = (scale * subject.normal(shape) / subject.size).requires_grad_()
            at = Situation(bound, f"chart {kind}, latents of scale {scale:g}", latent.detach())
            point = chart(latent)
            if not bool(point.isfinite().all()):
                continue
            (gradient,) = torch.autograd.grad(point.sum(), latent)
            at.expect(gradient.isfinite().all(), "the chart has a gradient that is not finite")
        if 0 < torch.Size(shape).numel() <= 30:
            latent = (subject.normal(shape, 3) / subject.size).requires_grad_()
            at.expect(torch.autograd.gradcheck(chart, latent, raise_exception=False), "gradcheck fails")


def saturation_is_seen_and_lifted(subject: SetSubject) -> None:
    """``relative_slope`` is the share of the full slope; ``floor_`` lifts flat coordinates back to it."""
    for shape, kind, chart in _charts(subject):
        bound = subject.bound(shape)
        for scale in (0.0, 1.0, 100.0):
            latent = scale * subject.normal(shape)
            at = Situation(bound, f"chart {kind}, latents of scale {scale:g}", latent)
            slope = chart.relative_slope(latent)
            at.expect(slope.shape == latent.shape, "relative_slope has another shape")
            at.expect(slope.isfinite().all() or kind in ("exp", "square"), "relative_slope is not finite")
            at.expect((slope >= 0).all(), "relative_slope is negative")
            flat = chart.saturated(latent)
            at.expect(flat.dtype == torch.bool, "saturated does not answer in bools")
            lifted = latent.clone()
            chart.floor_(lifted, torch.zeros_like(flat), 0.01)
            at.expect(torch.equal(lifted, latent), "floor_ moves coordinates that were not wanted")
            chart.floor_(lifted, flat, 0.01)
            at.expect(
                torch.equal(lifted[~flat], latent[~flat]), "floor_ moves coordinates that were not wanted"
            )
            at.expect(
                not chart.saturated(lifted).any() or not _can_lift(chart, lifted), "floor_ leaves flat ones"
            )


def chart_parametrizes_a_module(subject: SetSubject) -> None:
    """``torch.nn.utils.parametrize`` accepts it, moves it with the module, and trains through it."""
    for shape, kind, chart in _charts(subject):
        module = nn.Module()
        module.weight = nn.Parameter(subject.members(shape).float())
        parametrize.register_parametrization(module, "weight", chart)
        module.bfloat16().float()
        at = Situation(subject.bound(shape, torch.float32), f"chart {kind}", module.weight.detach())
        at.expect(at.set.contains(at.x, tol=0.02 * subject.size).all(), "the parametrized weight is outside")
        if at.x.numel():
            gradients = torch.autograd.grad(module.weight.square().sum(), list(module.parameters()))
            at.expect(all(g.isfinite().all() for g in gradients), "no finite gradient comes through")
        at.expect(not chart.state_dict(), "the chart adds entries to the state dict")


def unknown_charts_are_refused(subject: SetSubject) -> None:
    """A kind that does not exist is a ``ValueError`` that names those that do."""
    if not subject.set.offers("chart"):
        return
    try:
        subject.set.chart("no such kind")
    except ValueError as error:
        if "no such kind" in str(error):
            return
    raise AssertionError(f"{subject.set!r}: chart('no such kind') does not say which kinds there are.")


def _charts(subject: SetSubject) -> Iterator[tuple[tuple[int, ...], str | None, Chart]]:
    if not subject.set.offers("chart"):
        return
    for shape in subject.shapes:
        for kind in subject.charts:
            chart = subject.bound(shape).chart(kind)
            if not isinstance(chart, Chart):
                raise AssertionError(f"{subject.set!r}: chart({kind!r}) is no Chart.")
            yield shape, kind, chart


def _can_lift(chart: Chart, latent: torch.Tensor) -> bool:
    """Whether any coordinate has the slope that the lift aims at (a single entry of a simplex has none)."""
    return bool((chart.relative_slope(torch.zeros_like(latent)) > 0.01).any())
